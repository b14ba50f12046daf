"""Stands in for kdengine.worker: ``python -m fake_worker FOLDER`` writes events and sleeps, as the run's note tells it to.

It writes its lines by hand, so the contract is tested against a writer that shares no code with the reader.
The note is JSON: epoch_s, start_s, deaf (ignores TERM), die ("start", "epoch", "torn"), fail (a reason), linger_s, tick.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
SPEC = json.loads((FOLDER / "spec.json").read_text())["spec"]
PLAN: dict[str, Any] = json.loads(SPEC["note"] or "{}")
EVENTS = FOLDER / "events.jsonl"


def say(kind: str, end: str = "\n", **fields: Any) -> None:
    line = json.dumps({"kind": kind, "at": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime()), **fields})
    torn = EVENTS.exists() and not EVENTS.read_bytes().endswith(b"\n")
    with EVENTS.open("a") as file:
        file.write(("\n" if torn else "") + line + end)


def leave(how: str, reason: str = "") -> None:
    say("ended", how=how, reason=reason, elapsed_s=1.0)
    sys.stdout.write(f"leaving: {how}\n")
    time.sleep(PLAN.get("linger_s", 0))
    if PLAN.get("tick"):
        from kdengine.home import Home
        from kdengine.runner import tick

        tick(Home(FOLDER.parent.parent))
    sys.exit(0 if how == "finished" else 1)


def start() -> int:
    done = [json.loads(line) for line in EVENTS.read_text().splitlines() if '"epoch"' in line] if EVENTS.exists() else []
    say(
        "started", attempt=len(list(FOLDER.glob("attempt-*.json"))), device="cpu", device_name="none", precision="fp32",
        threads=int(os.environ["OMP_NUM_THREADS"]), cpu_capability="", versions={}, networks=[], train_images=8, val_images=0,
        test_images=8, classes=2, epochs=SPEC["epochs"], phases=["main"],
    )  # fmt: skip
    return len([event for event in done if event["kind"] == "epoch"])


def epoch(n: int) -> None:
    say(
        "epoch", phase="main", epoch=n, epochs=SPEC["epochs"], images_seen=8 * n, elapsed_s=0.1 * n, epoch_s=0.1,
        images_per_s=80.0, lr=0.1, terms={},
        measures={"student": {"test_top1_frac": n / SPEC["epochs"] * 0.9, "test_top5_frac": None}},
    )  # fmt: skip


def main() -> None:
    die = PLAN.get("die") if len(list(FOLDER.glob("attempt-*.json"))) == 1 else None
    if die == "start":
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if PLAN.get("deaf") else lambda *_: leave("cancelled", "stopped on request"))
    time.sleep(PLAN.get("start_s", 0))
    for n in range(start() + 1, SPEC["epochs"] + 1):
        time.sleep(PLAN.get("epoch_s", 0))
        epoch(n)
        if die == "epoch":
            os.kill(os.getpid(), signal.SIGKILL)
        if die == "torn":
            say("epoch", end="", phase="ma")
            os.kill(os.getpid(), signal.SIGKILL)
        if "fail" in PLAN:
            leave("failed", PLAN["fail"])
    leave("finished")


if __name__ == "__main__":
    os.fstat(int(os.environ["KD_LOCK_FD"]))  # the lock was handed over: an open descriptor, never touched
    sys.stdout.write(f"hello from {FOLDER.name}\n")
    sys.stdout.flush()
    main()
