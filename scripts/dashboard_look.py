"""The dashboard without Grafana: every panel's own queries, asked of a Prometheus and drawn into one picture.

.venv/bin/pip install 'authserver[dashboard]'
.venv/bin/python scripts/dashboard_look.py http://127.0.0.1:9090 dashboard.png --minutes 10
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

try:
    import matplotlib as mpl
    from PIL import Image

    mpl.use("Agg")
    from matplotlib import dates
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, LinearLocator
except ModuleNotFoundError as error:
    sys.exit(f"dashboard_look needs the extra dashboard: pip install 'authserver[dashboard]' ({error})")

DASHBOARD = Path(__file__).resolve().parent.parent / "k8s/components/monitoring/authserver-dashboard.json"
POINTS = 120
# What Grafana would put in.
VARIABLES = {"$__rate_interval": "1m", "$namespace": ".*"}
UNITS = {"reqps": "per second", "percentunit": "share"}
TIMES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"), (0.000001, "µs"))


class Prometheus:
    """Asks for the last minutes."""

    def __init__(self, url: str, minutes: float) -> None:
        self._url, self._end = url.rstrip("/"), time.time()
        self._start = self._end - minutes * 60

    def series(self, expression: str) -> list[tuple[dict[str, str], list[tuple[datetime, float]]]]:
        """The series of a query: labels, and the values over time. Raises requests.HTTPError for a bad query."""
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        step = max(1, (self._end - self._start) / POINTS)
        parameters: dict[str, Any] = {"query": expression, "start": self._start, "end": self._end, "step": step}
        answer = requests.get(f"{self._url}/api/v1/query_range", parameters, timeout=30)
        answer.raise_for_status()
        return [
            (each["metric"], [(datetime.fromtimestamp(at, UTC), float(value)) for at, value in each["values"]])
            for each in answer.json()["data"]["result"]
        ]


def legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), template).strip() or "-"


def shown(value: float, unit: str) -> str:
    """A value on an axis; times in what a person would say."""
    if unit != "s" or value == 0:
        return f"{value:,.6g}"
    size, name = next(((size, name) for size, name in TIMES if abs(value) >= size), TIMES[-1])
    return f"{value / size:,.3g} {name}"


def draw(axes: Any, panel: dict[str, Any], prometheus: Prometheus) -> bool:
    """Draw a panel; tell whether there was anything to draw."""
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    lines = [
        (legend(target["legendFormat"], labels), values)
        for target in panel["targets"]
        for labels, values in prometheus.series(target["expr"])
    ]
    lines = [(name, values) for name, values in lines if any(value == value for _, value in values)]  # noqa: PLR0124 - no NaN
    lines.sort(key=lambda line: -line[1][-1][1])
    if stacked and lines:
        moments = sorted({at for _, values in lines for at, _ in values})
        heights = [[dict(values).get(at, 0.0) for at in moments] for _, values in lines]
        axes.stackplot(moments, heights, labels=[name for name, _ in lines], alpha=0.75)
    else:
        for name, values in lines:
            axes.plot(*zip(*values, strict=True), label=name, linewidth=1.4)
    axes.set_title(panel["title"], fontsize=10, loc="left", fontweight="bold")
    axes.set_ylabel(UNITS.get(defaults["unit"], ""), fontsize=7)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, defaults["unit"])))
    axes.xaxis.set_major_locator(LinearLocator(5))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, alpha=0.3)
    if "min" in defaults:
        # Room for the legend, and none of the noise that would be seen where all is 0.
        axes.set_ylim(bottom=0, top=1.3 * (axes.dataLim.ymax if axes.dataLim.ymax > 0 else 1.0))
    if lines:
        axes.legend(fontsize=6, loc="upper left", ncols=2, framealpha=0.7)
        return True
    axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes, color="red")
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prometheus", help="its URL")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    options = parser.parse_args()
    prometheus = Prometheus(options.prometheus, options.minutes)
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] == "timeseries"]
    rows = -(-len(panels) // 3)
    figure, grid = plt.subplots(rows, 3, figsize=(15, rows * 2.1), layout="constrained")
    empty = [
        panel["title"] for axes, panel in zip(grid.flat, panels, strict=False) if not draw(axes, panel, prometheus)
    ]
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.savefig(options.picture, dpi=80)
    with Image.open(options.picture) as drawn:  # few colours, a third of the size
        drawn.convert("RGB").quantize(128).save(options.picture, optimize=True)
    print(f"{options.picture}: {len(panels)} panels, {options.picture.stat().st_size // 1024} kB")
    for title in empty:
        print(f"no data: {title}")


if __name__ == "__main__":
    main()
