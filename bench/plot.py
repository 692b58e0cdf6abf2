"""The figures of a run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A bar for each row: its median as a share of the ceiling, and a line from the least round to the best.

    Raises ImportError without matplotlib (`pip install 'authserver[bench]'`).
    """
    import matplotlib as mpl  # noqa: PLC0415 - only who wants a picture needs it

    mpl.use("svg" if path.suffix == ".svg" else "agg")
    # The same figures give the same bytes.
    mpl.rcParams.update({"svg.hashsalt": "authserver", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend was chosen

    figure, axes = plt.subplots(figsize=(9, 0.6 + 0.27 * len(rows)))
    ratios = [row["ratio"] for row in rows]
    spread = [
        [row["ratio"] - row["ratio_min_max"][0] for row in rows],
        [row["ratio_min_max"][1] - row["ratio"] for row in rows],
    ]
    colours = ["#b0b0b0" if row["contender"].startswith("peer") else "#2b6cb0" for row in rows]
    axes.barh(range(len(rows)), ratios, xerr=spread, color=colours, ecolor="#404040", height=0.7)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("requests a second, as a share of an empty Falcon endpoint's under the same gunicorn")
    for at, row in enumerate(rows):
        axes.text(row["ratio_min_max"][1] + 0.01, at, f"{row['rate']:.0f}/s", va="center", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
