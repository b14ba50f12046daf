"""The fault campaign, in full counts: ``python -m benchmarks.faults [--only worker_killed] [--scale 0.1]``.

The tests hold a short set of the same faults; this one takes about half an hour. Every scene has a home of its own.
Reads: what the scenes leave behind. Writes: temporary homes; a Markdown table on standard output; exit status 1 on a complaint.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

from benchmarks.fault_scenes import SCENES
from benchmarks.measuring import machine, table
from kdengine import runner
from kdengine.errors import KdError
from kdengine.home import Home
from kdengine.rundir import run_dirs
from kdengine.status import is_over, status_of

SMALL_DISK_MIB = 96


class NotHere(Exception):
    """This machine cannot play the scene; the text says why."""


@contextlib.contextmanager
def own_home(small_disk: bool) -> Iterator[Home]:
    """Yield an empty home, on a small tmpfs where the scene fills the disk; afterwards nothing of it trains on.

    Raises:
        NotHere: a tmpfs is wanted and this user may not mount one.
    """
    folder = Path(tempfile.mkdtemp(prefix="kd-faults-"))
    mounted = False
    try:
        if small_disk:
            options = f"size={SMALL_DISK_MIB}m"
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
            mounted = done.returncode == 0
            if not mounted:
                raise NotHere("needs root, to mount a small tmpfs")
        home = Home(folder / "kd").made()
        os.environ["KD_HOME"] = str(home.root)
        yield home
        stop_all(home)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def stop_all(home: Home) -> None:
    """Cancel whatever a broken scene left in the queue."""
    for run in run_dirs(home):
        if not is_over(status_of(run, home)):
            with contextlib.suppress(KdError):  # it may have ended by itself meanwhile
                runner.cancel(home, run.run_id, grace_s=2)


def play(name: str, count: int, seed: int) -> tuple[str, list[str]]:
    """Play one scene; return ``held``, ``broken`` or ``not played``, and the complaints."""
    scene, _ = SCENES[name]
    try:
        with own_home(small_disk=name == "full_disk") as home:
            complaints = scene(home, count, random.Random(seed))
    except NotHere as reason:
        return "not played", [str(reason)]
    except Exception as error:  # a scene that stumbles is a complaint like any other, and the next one still plays
        traceback.print_exc()
        complaints = [f"{type(error).__name__}: {error}"]
    return ("broken" if complaints else "held"), complaints


def main() -> int:
    """Read the arguments, play the scenes, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SCENES), default=list(SCENES), help="scenes to play")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full counts, at least 1 each")
    parser.add_argument("--seed", type=int, default=0, help="decides the random moments")
    args = parser.parse_args()
    rows, broken = [], False
    for name in args.only:
        scene, full = SCENES[name]
        count, began = max(1, round(full * args.scale)), time.monotonic()
        verdict, complaints = play(name, count, args.seed)
        broken = broken or verdict == "broken"
        what = (scene.__doc__ or name).strip().rstrip(".")
        rows.append([what, count, verdict, "; ".join(complaints[:3]) or "none", f"{time.monotonic() - began:.0f}"])
        print(f"{name}: {verdict} {complaints[:3]}", file=sys.stderr, flush=True)
    print(f"{machine()}, seed {args.seed}\n")
    print(table(["fault", "times", "verdict", "complaints", "s"], rows))
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
