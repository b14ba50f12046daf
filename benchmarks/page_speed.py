"""How long do the explorer's pages take on the store of a busy lab, and how much do their charts send?

Reads: a home filled by ``benchmarks.invented`` (``--home``). Writes: its results database; a Markdown table on standard output.

Through Streamlit's AppTest, which runs the page's script in this process as the server would: the time from a change to the last
element handed over, without network and drawing. What a browser needs is measured by ``benchmarks.user_tasks``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

from benchmarks.measuring import ForeignLoad, machine, spread, table

APP = Path(__file__).resolve().parent.parent / "app.py"
SUITE = "lab-0"


@dataclass(frozen=True)
class Case:
    """One state of one page. ``target_ms``: the budget of a rerun; None = none was set."""

    name: str
    page: str
    query: dict[str, Any] = field(default_factory=dict)
    target_ms: float | None = None


CASES = (
    Case("home", "home", target_ms=150),
    Case("runs, 1,000 rows", "runs", target_ms=150),
    Case("compare, 20 curves", "compare", {"suite": SUITE, "dataset": "cifar10", "method": "FIRST20"}, 150),
    Case("compare, all 96 groups", "compare", {"suite": SUITE}),
    Case("compare, full pivot", "compare", {"suite": SUITE, "tab": "table"}, 400),
    Case("compare, ranking", "compare", {"suite": SUITE, "dataset": "cifar10", "tab": "ranking"}, 400),
    Case("compare, trade-off", "compare", {"suite": SUITE, "dataset": "cifar10", "tab": "tradeoff"}, 400),
    Case("methods, the wall", "methods", target_ms=150),
    Case("methods, one method", "methods", {"method": "SECOND"}, 150),
    Case("networks and data", "about_networks_data"),
)


def visits(home: Path) -> Iterator[Any]:
    """Yield a function that opens a page of the app in ``home`` and returns its AppTest; nothing is started meanwhile."""
    os.environ["KD_HOME"] = str(home)
    from streamlit.testing.v1 import AppTest

    logging.disable(logging.WARNING)  # Streamlit says of each thread that it is not a browser's
    from kdengine import runner
    from pages.parts import pulse

    def open_page(case: Case) -> Any:
        app = AppTest.from_file(str(APP), default_timeout=120).run()
        if case.page != "home":
            app.switch_page(f"pages/{case.page}.py")
        for key, value in case.query.items():
            app.query_params[key] = _methods(value)
        return app.run()

    with patch.object(pulse, "warm_up", lambda: None), patch.object(runner, "tick", lambda home: []):
        yield open_page
        pulse.close_all()


def _methods(value: Any) -> Any:
    from kdengine import catalogue

    keys = list(catalogue.labels())
    return {"FIRST20": keys[:20], "SECOND": keys[1]}.get(value, value)


def payload_kib(app: Any) -> float:
    """Return the size of the largest figure on the page, KiB of JSON as it is sent."""
    return max((len(chart.proto.spec) for chart in app.get("plotly_chart")), default=0) / 1024


def measure(home: Path, repeats: int, only: str) -> None:
    """Time every case and print the table."""
    rows: list[list[object]] = []
    load = ForeignLoad().start()
    for open_page in visits(home):
        for case in CASES:
            if only not in case.name:
                continue
            began = time.perf_counter()
            app = open_page(case)
            first = 1000 * (time.perf_counter() - began)
            if app.exception:
                raise SystemExit(f"{case.name}: {app.exception[0].value}")
            took = []
            for _ in range(repeats):
                began = time.perf_counter()
                app.run()
                took.append(1000 * (time.perf_counter() - began))
            target = (
                "" if case.target_ms is None else f"{case.target_ms:.0f}: {'met' if median(took) < case.target_ms else 'missed'}"
            )
            rows.append([case.name, f"{first:.0f}", spread(took), target, f"{payload_kib(app):.0f}", repeats])
    print(f"{machine()}; foreign load {100 * load.share():.0f} %\n")
    print(table(["page", "first run, ms", "rerun, ms, median (range)", "budget", "largest figure, KiB", "n"], rows))


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="a home filled by benchmarks.invented")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--only", default="", help="part of a case's name")
    args = parser.parse_args()
    measure(args.home, args.repeats, args.only)


if __name__ == "__main__":
    main()
