"""How fast are the store's questions on 200 runs of 240 epochs? Also: first intake, idle poll, one new epoch, rebuild.

Reads / writes: a temporary home; a Markdown table on standard output.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

from benchmarks.invented import epoch_of, invented_run
from benchmarks.measuring import ForeignLoad, machine, table
from kdengine.home import Home
from store import queries
from store.db import Store


def questions(store: Store, ids: list[str]) -> dict[str, Callable[[], object]]:
    """Return every question that a page asks, by name, with arguments as a page would give them."""
    few, suite = ids[:24], "suite-0"
    return {
        "runs()": lambda: queries.runs(store),
        "runs(method, status)": lambda: queries.runs(store, method="kd", status="finished"),
        "run(one)": lambda: queries.run(store, ids[0]),
        "epochs(one)": lambda: queries.epochs(store, ids[0]),
        "terms(one)": lambda: queries.terms(store, ids[0]),
        "curves(24 runs)": lambda: queries.curves(store, few, "test_top1_frac"),
        "mean_curves(24 runs)": lambda: queries.mean_curves(store, few, "test_top1_frac", "epoch"),
        "mean_curves(200 runs, elapsed_s)": lambda: queries.mean_curves(store, ids, "test_top1_frac", "elapsed_s"),
        "leaderboard()": lambda: queries.leaderboard(store),
        "leaderboard(suite)": lambda: queries.leaderboard(store, suite=suite),
        "speed(24 runs)": lambda: queries.speed(store, few),
        "suites()": lambda: queries.suites(store),
        "choices()": lambda: queries.choices(store),
        "counts()": lambda: queries.counts(store),
        "newest(8)": lambda: queries.newest(store, 8),
    }


def times_ms(action: Callable[[], object], repeats: int) -> list[float]:
    """Return how long each of ``repeats`` calls took, in ms, after one that does not count."""
    action()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        found.append(1000 * (time.perf_counter() - began))
    return found


def once_ms(action: Callable[[], object]) -> float:
    """Return how long one call took, in ms."""
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


def measure(runs: int, epochs: int, repeats: int) -> None:
    """Make the runs, time everything, print the table."""
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory(prefix="kd-bench-") as folder:
        home = Home(Path(folder) / "kd").made()
        folders = [invented_run(home, number, epochs) for number in range(runs)]
        load = ForeignLoad().start()
        with Store.open(home) as store:
            first = once_ms(lambda: (store.take_in(), store.publish(force=True)))
            rows.append(["first intake and publication", first, first, 1])
            late = invented_run(home, runs, 1)
            store.take_in()

            def one_more_epoch() -> None:
                late.append_event(epoch_of("base", runs, 2 + len(late.events_jsonl.read_bytes().splitlines()), epochs))
                store.take_in()

            for name, action in {"idle take_in": store.take_in, "take_in of one new epoch": one_more_epoch,
                                 **questions(store, [run.run_id for run in folders])}.items():  # fmt: skip
                found = sorted(times_ms(action, repeats))
                rows.append([name, median(found), found[int(0.95 * (len(found) - 1))], len(found)])
        size = home.results.stat().st_size / 2**20
        foreign = load.share()
    print(f"{runs} runs x {epochs} epochs; results.duckdb {size:.1f} MiB; foreign load {100 * foreign:.0f} %.\n{machine()}\n")
    print(table(["what", "median ms", "95 % ms", "n"], rows))


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    measure(args.runs, args.epochs, args.repeats)


if __name__ == "__main__":
    main()
