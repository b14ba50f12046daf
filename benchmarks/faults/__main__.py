"""Plays the campaign: ``python -m benchmarks.faults [--kills 500] [--only worker_killed] [--scale 0.1] [--seed 0]``.

Reads: what the scenes leave behind. Writes: temporary homes; Markdown tables on standard output, the account as JSON where
``--json`` says; exit status 1 on a complaint or where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.account import Account
from benchmarks.faults.audit import audit
from benchmarks.faults.scenes import SCENES
from benchmarks.faults.stage import NotHere, Stage, set_up
from benchmarks.measuring import machine, table

KILLS = 500  # what the counts of the scenes that kill add up to


@dataclass(frozen=True, slots=True)
class Played:
    """One scene: how often, ``held``, ``broken`` or ``not played``, what was wrong, seconds."""

    name: str
    count: int
    verdict: str
    complaints: list[str]
    took_s: float
    account: Account

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "account": self.account.as_dict()}


def play(name: str, count: int, seed: int) -> Played:
    """Play one scene and make up its account."""
    scene, began = SCENES[name], time.monotonic()
    try:
        with set_up(count, seed, small_disk=scene.small_disk) as stage:
            for step in (scene.play, audit):
                _stumbling(step, stage)
    except NotHere as reason:
        return Played(name, count, "not played", [str(reason)], time.monotonic() - began, Account())
    held = stage.account.is_clean and not stage.complaints
    return Played(name, count, "held" if held else "broken", stage.complaints, time.monotonic() - began, stage.account)


def _stumbling(step: Callable[[Stage], None], stage: Stage) -> None:
    """Take a step; one that stumbles is a complaint like any other, and the account is made up all the same."""
    try:
        step(stage)
    except NotHere:
        raise
    except Exception as error:
        traceback.print_exc()
        stage.complain(f"{type(error).__name__}: {error}")


def main() -> int:
    """Read the arguments, play the scenes, print what came of each and the account of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SCENES), default=list(SCENES), help="scenes to play")
    parser.add_argument("--kills", type=int, default=KILLS, help="kill -9 in all; shared out among the scenes that kill")
    parser.add_argument("--scale", type=float, default=1.0, help="share of all counts, at least 1 each")
    parser.add_argument("--seed", type=int, default=0, help="decides the random moments")
    parser.add_argument("--json", type=Path, help="a file for the account")
    args = parser.parse_args()
    whole, rows, played = Account(), [], []
    for name in args.only:
        scene = SCENES[name]
        count = max(1, math.ceil(scene.count * args.scale * (args.kills / KILLS if scene.kills else 1)))
        done = play(name, count, args.seed)
        played.append(done)
        whole.add(done.account)
        rows.append([scene.words, count, done.verdict, "; ".join(done.complaints[:3]) or "none", f"{done.took_s:.0f}"])
        print(f"{name}: {done.verdict} in {done.took_s:.0f} s {done.complaints[:3]}", file=sys.stderr, flush=True)
    print(f"{machine()}, seed {args.seed}\n")
    print(table(["fault", "times", "verdict", "complaints", "s"], rows), "\n")
    print(table(["account", "n"], whole.rows()), "\n")
    print(table(["measured on the way", "value"], list(whole.figures.items())))
    if args.json:
        scenes = [p.as_dict() for p in played]
        said = {"machine": machine(), "seed": args.seed, "scenes": scenes, "account": whole.as_dict()}
        args.json.write_text(json.dumps(said, indent=1))
    return int(any(p.verdict == "broken" for p in played))


if __name__ == "__main__":
    sys.exit(main())
