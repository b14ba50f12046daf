"""Every method there is, with its defaults, on one pair of networks: does it train, how fast, how far from the baseline?

Not a ranking: the defaults are those of the literature for CIFAR and 200 epochs, and a few epochs on few images say little.
Reads: the catalogue, a dataset (digits, or parquet with ``--data``). Writes: the runs into ``--home``; a Markdown table on
standard output.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

from benchmarks.measuring import machine, table
from kdengine import check, datasets, methods, runner, suites
from kdengine.events import EpochEnded
from kdengine.home import Home
from kdengine.rundir import find_run
from kdengine.spec import RunSpec
from kdengine.status import is_over, status_of

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests/golden"
PLAIN = RunSpec.model_fields["method"].default


def registered(home: Home, folder: Path) -> str:
    """Register a parquet folder, if it is not yet, and return its key."""
    key = folder.name.replace("-", "_")
    if key not in datasets.cards(home):
        datasets.add(home, key, parquet=folder.absolute())
    return key


def wanted(home: Home, asked: argparse.Namespace, dataset: str) -> list[RunSpec]:
    """Return one complete spec per method and seed, the plain one first; nothing is launched when one does not hold."""
    base: dict[str, Any] = {
        "dataset": dataset, "recipe": asked.recipe, "epochs": asked.epochs, "train_images": asked.train_images,
        "teacher_epochs": asked.teacher_epochs, "batch_size": asked.batch_size,
    }  # fmt: skip
    for setting in asked.settings:
        name, _, value = setting.partition("=")
        base[name] = json.loads(value)
    keys = sorted(asked.method or methods.keys(), key=lambda key: key != PLAIN)
    specs = suites.grid("all-methods", base, keys, [(asked.teacher, asked.student)], range(asked.seeds))
    specs = [check.resolve(spec) for spec in specs]
    faults = [f"{spec.method}: {problem}" for spec in specs for problem in check.check(spec, home)]
    if faults:
        sys.exit("\n".join(faults))
    return specs


def follow(home: Home, run_ids: list[str]) -> None:
    """Move the queue on until every run is over."""
    while True:
        runner.tick(home)
        left = [r for r in run_ids if not is_over(status_of(find_run(home, r), home))]
        print(f"\r{len(run_ids) - len(left)} of {len(run_ids)} runs done ", end="", file=sys.stderr, flush=True)
        if not left:
            return
        time.sleep(2)


def measured(home: Home, run_ids: list[str]) -> dict[str, Any]:
    """Return what the runs of one method showed: accuracies in percent, seconds per epoch of the main phase, how they ended."""
    runs = [find_run(home, run_id) for run_id in run_ids]
    curves = [[e for e in run.read_events()[0] if isinstance(e, EpochEnded) and e.phase == "main"] for run in runs]
    top1 = [[100 * (e.measures["student"].test_top1_frac or 0) for e in curve] for curve in curves if curve]
    return {
        "ended": ", ".join(sorted({str(status_of(run, home)) for run in runs})),
        "last": mean(c[-1] for c in top1) if top1 else float("nan"),
        "best": mean(max(c) for c in top1) if top1 else float("nan"),
        "epoch_s": median(e.epoch_s for curve in curves for e in curve) if top1 else float("nan"),
    }


def golden_of(key: str) -> str:
    """Return where the method's golden values come from."""
    cases = json.loads((GOLDEN / f"{key}.json").read_text(encoding="utf-8"))["cases"]
    return "; ".join(dict.fromkeys(case["source"] for case in cases))


def main() -> None:
    """Launch, follow, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="where the runs go; finished ones are not trained again")
    parser.add_argument("--data", type=Path, help="a folder of parquet files; without it, digits")
    parser.add_argument("--method", action="append", help="only this one; repeatable")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--teacher", default="resnet20")
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--train-images", type=int)
    parser.add_argument("--teacher-epochs", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", dest="settings", default=[], metavar="FIELD=JSON", help="of all runs")
    asked = parser.parse_args()
    home = Home(asked.home.absolute()).made()
    specs = wanted(home, asked, registered(home, asked.data) if asked.data else "digits")
    run_ids = runner.launch_suite(home, specs, reuse=True)
    follow(home, run_ids)
    by_method: dict[str, list[str]] = {}
    for spec, run_id in zip(specs, run_ids, strict=True):
        by_method.setdefault(spec.method, []).append(run_id)
    found = {key: measured(home, ids) for key, ids in by_method.items()}
    plain = found.get(PLAIN, {"last": float("nan")})["last"]
    rows = [
        [key, golden_of(key), methods.get(key).card.fidelity, f"{m['epoch_s']:.2f}", f"{m['last']:.1f}", f"{m['best']:.1f}",
         f"{m['last'] - plain:+.1f}", m["ended"], " ".join(by_method[key])]
        for key, m in found.items()
    ]  # fmt: skip
    print(machine())
    head = ["method", "golden", "fidelity", "s per epoch", "last %", "best %", "to base", "ended", "runs"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
