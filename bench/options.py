"""The options of `scripts/bench.sh`. Of the standard library alone: --help must work where nothing is installed."""

from __future__ import annotations

import argparse
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs/performance.md"
CONNECTIONS = 32
_DESCRIPTION = "Measure what requests cost, beside an empty endpoint and beside peers."


def read_options() -> argparse.Namespace:
    """What the command line asks for; --help ends here."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh", description=_DESCRIPTION)
    parser.add_argument(
        "--rows", default="*", help="which, by patterns separated by commas, such as 'introspect-*,token-*'"
    )
    parser.add_argument("--list", action="store_true", help="name the rows (with --peers theirs, too), measure nothing")
    parser.add_argument("--rounds", type=int, default=5, help="how often each row is measured (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=4, help="of each row in each round; with wrk whole ones (default: %(default)g)"
    )
    parser.add_argument("--connections", type=int, help=f"default: {CONNECTIONS}; with --flat fewer")
    parser.add_argument(
        "--starts", type=int, default=3, help="how often to measure the time to /ready (default: %(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="one round of one second, one start: to see that it works")
    parser.add_argument("--peers", action="store_true", help="node-oidc-provider and django-oauth-toolkit, too")
    parser.add_argument("--python-load", action="store_true", help="do without wrk")
    parser.add_argument("--flat", action="store_true", help="instead: does it cost more as more is stored?")
    parser.add_argument("--sizes", default="10k,1M,10M", help="of --flat: how many tokens live (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them, as SVG or PNG by the name")
    parser.add_argument(
        "--docs", action="store_true", help=f"put tables and plot into docs/{DOCUMENT.name} and docs/scaling.md"
    )
    parser.add_argument("--from-json", type=Path, nargs="+", metavar="FILE", help="tell of earlier runs")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.starts = 1, 1.0, 1
    return options
