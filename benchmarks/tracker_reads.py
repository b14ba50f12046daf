"""How long do the same rows take to read here, in MLflow and in Trackio? In turn, each tool through its own API.

Reads: a home filled by ``benchmarks.invented``. Writes: the other tools' stores, in the folder it is given; a Markdown table.

``--trackers PYTHON`` names the interpreter of an environment with mlflow, trackio, pandas and pyarrow. Filling MLflow takes about
ten minutes for 1,000 runs of 240 epochs; a folder that is filled already is used again. Every question is asked in the quickest
way that the tool's API has: MLflow's one query for the histories of many runs; Trackio's batch of runs, with every measure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

METRICS = ("train_loss", "test_loss", "test_top1_frac", "test_top5_frac", "test_ece_frac", "agreement_frac", "lr", "images_per_s")
ONE = "test_top1_frac"
FEW = 20
BATCH = 1000  # MLflow's largest batch
QUESTIONS = ("table of all runs, last values", f"one measure, {FEW} runs", "one measure, all runs")


# ---- the other tools, in their own environment -----------------------------------------------------------------------------


class MLflow:
    """A file-based SQLite store of MLflow, as ``mlflow ui`` reads it."""

    def __init__(self, folder: Path) -> None:
        import mlflow  # type: ignore[import-not-found]
        from mlflow.tracking._tracking_service.utils import _get_store  # type: ignore[import-not-found]

        self.version = mlflow.__version__
        self._ids: list[str] = []  # known to whoever asks for curves
        folder.mkdir(parents=True, exist_ok=True)
        self._client = mlflow.tracking.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        self._store = _get_store(f"sqlite:///{folder / 'mlflow.db'}")

    def fill(self, rows: Any) -> None:
        """Write every run with its metrics."""
        from mlflow.entities import Metric

        experiment = self._client.create_experiment("lab")
        for run_id, part in rows.groupby("run_id", sort=False):
            run = self._client.create_run(experiment, run_name=str(run_id))
            found = [Metric(m, float(v), 0, int(e)) for m in METRICS for e, v in zip(part["epoch"], part[m], strict=True)]
            for start in range(0, len(found), BATCH):
                self._client.log_batch(run.info.run_id, metrics=found[start : start + BATCH])

    def ask(self, question: str) -> int:
        """Answer one question and return the number of values."""
        if question == QUESTIONS[0] or not self._ids:
            experiment = self._client.get_experiment_by_name("lab").experiment_id
            runs = self._client.search_runs([experiment], max_results=5000)
            self._ids = [run.info.run_id for run in runs]
            if question == QUESTIONS[0]:
                return sum(len(run.data.metrics) for run in runs)
        ids = self._ids[:FEW] if question == QUESTIONS[1] else self._ids
        return len(self._store.get_metric_history_bulk(ids, ONE, 10_000_000))


class Trackio:
    """Trackio's SQLite store."""

    def __init__(self, folder: Path) -> None:
        import os

        os.environ["TRACKIO_DIR"] = str(folder)
        folder.mkdir(parents=True, exist_ok=True)
        import trackio  # type: ignore[import-not-found]
        from trackio.sqlite_storage import SQLiteStorage  # type: ignore[import-not-found]

        self.version, self._store = trackio.__version__, SQLiteStorage
        self._records: list[Any] = []

    def fill(self, rows: Any) -> None:
        """Write every run with its metrics."""
        for run_id, part in rows.groupby("run_id", sort=False):
            values = part[list(METRICS)].to_dict("records")
            self._store.bulk_log("lab", str(run_id), values, steps=[int(e) for e in part["epoch"]], config={}, run_id=str(run_id))

    def ask(self, question: str) -> int:
        """Answer one question and return the number of values."""
        records = self._records = self._records or self._store.get_run_records("lab")
        if question == QUESTIONS[0]:  # one point per run: its last
            return sum(len(self._store.get_logs("lab", run_id=r["id"], max_points=1)) for r in records) * len(METRICS)
        chosen = records[:FEW] if question == QUESTIONS[1] else records
        batch = self._store.get_logs_batch("lab", [{"run": r["name"], "run_id": r["id"]} for r in chosen], scalar_only=True)
        return sum(len(found["logs"]) for found in batch)


def serve(tool: str, folder: Path, rows: Path | None) -> None:
    """Fill the tool's store if asked to; then answer one question per line of standard input, with (ms, values)."""
    adapter = {"mlflow": MLflow, "trackio": Trackio}[tool](folder)
    if rows is not None:
        import pandas as pd

        adapter.fill(pd.read_parquet(rows))
        (folder / "filled").touch()
    print(json.dumps(adapter.version), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        found = adapter.ask(line.strip())
        print(json.dumps([1000 * (time.perf_counter() - began), found]), flush=True)


# ---- ours, and the comparison ----------------------------------------------------------------------------------------------


class Child:
    """One tool in a process of its own, asked over its standard input."""

    def __init__(self, python: str, tool: str, folder: Path, rows: Path) -> None:
        argv = [python, __file__, "--serve", tool, "--stores", str(folder)]
        argv += [] if (folder / "filled").exists() else ["--rows", str(rows)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = json.loads(self._line())

    def ask(self, question: str) -> tuple[float, int]:
        """Return (ms, values)."""
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        ms, values = json.loads(self._line())
        return ms, values

    def _line(self) -> str:
        assert self._process.stdout is not None
        while True:  # a tool may print of itself
            line = self._process.stdout.readline()
            if not line:
                raise SystemExit("given: a tool that ended; allowed: one that answers; next: see what it printed above")
            if line[0] in '["':
                return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def ours(home: Path) -> tuple[Callable[[str], tuple[float, int]], Callable[[Path], None], Callable[[], None]]:
    """Return how our store answers, a function that writes its rows to a parquet file, and one that closes the store."""
    from kdengine.home import Home
    from store import queries
    from store.db import Store

    store = Store.open(Home(home).made())
    store.take_in()
    ids = queries.runs(store)["run_id"].tolist()

    def ask(question: str) -> tuple[float, int]:
        began = time.perf_counter()
        if question == QUESTIONS[0]:
            frame = queries.results(store, ids)
        else:
            frame = queries.curves(store, ids[:FEW] if question == QUESTIONS[1] else ids, ONE)
        return 1000 * (time.perf_counter() - began), len(frame) * (len(METRICS) if question == QUESTIONS[0] else 1)

    def export(path: Path) -> None:
        names = ", ".join(METRICS)
        frame = store.frame(f"SELECT run_id, epoch, {names} FROM epochs WHERE network = 'student' ORDER BY run_id, epoch")
        frame.fillna(0.0).to_parquet(path)

    return ask, export, store.close


def measure(home: Path, stores: Path, python: str, repeats: int) -> None:
    """Fill what is not filled, ask everybody in turn, print the table."""
    from benchmarks.measuring import ForeignLoad, machine, spread, table

    stores.mkdir(parents=True, exist_ok=True)
    ask, export, close = ours(home)
    rows = stores / "rows.parquet"
    export(rows)
    lines: list[list[object]] = []
    with (
        Child(python, "mlflow", stores / "mlflow", rows) as mlflow,
        Child(python, "trackio", stores / "trackio", rows) as trackio,
    ):
        tools = {"KD Explorer": ask, f"MLflow {mlflow.version}": mlflow.ask, f"Trackio {trackio.version}": trackio.ask}
        load = ForeignLoad().start()
        for question in QUESTIONS:
            took: dict[str, list[float]] = {name: [] for name in tools}
            values = {name: tool(question)[1] for name, tool in tools.items()}  # does not count: everybody's caches are warm
            for _ in range(repeats):
                for name, tool in tools.items():
                    took[name].append(tool(question)[0])
            mine = sorted(took["KD Explorer"])[repeats // 2]
            for name, found in took.items():
                ratio = sorted(found)[repeats // 2] / mine
                lines.append([question, name, values[name], spread(found, 1), f"{ratio:.1f}", repeats])
        foreign = load.share()
    close()
    print(f"{machine()}; foreign load {100 * foreign:.0f} %\n")
    print(table(["question", "tool", "values", "ms, median (range)", "x ours", "n"], lines))


def main() -> None:
    """Read the arguments; as a child of itself, serve one tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home filled by benchmarks.invented")
    parser.add_argument("--stores", type=Path, required=True, help="where the other tools' stores lie, or will")
    parser.add_argument("--trackers", default=sys.executable, help="Python of an environment with mlflow and trackio")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--serve", choices=("mlflow", "trackio"), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.stores, args.rows)
    elif args.home is None:
        parser.error("--home is needed: a folder filled by python -m benchmarks.invented")
    else:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        measure(args.home, args.stores, args.trackers, args.repeats)


if __name__ == "__main__":
    main()
