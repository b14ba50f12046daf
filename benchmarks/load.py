"""Fifty browser-like sessions on the live pages while two real runs train: faults, seconds of a rerun, cost to the training.

Windows with the crowd and without it take turns; the server is up in both. A tab speaks Streamlit's protocol and obeys the
server's timers; besides, its reader presses something (the whole page is drawn anew) every so many seconds. The tabs take
processor time of the same machine, which browsers of a lab would not; it is stated. ``--visits``: sessions that come and go
instead, for memory.

Reads: what the server sends, the runs' records. Writes: a temporary home; Markdown tables on standard output; exit status 1 on
faults.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # also runs as a plain file

import psutil

from benchmarks.invented import lab
from benchmarks.measuring import ForeignLoad, machine, spread, table
from benchmarks.server import ROOT, Server
from kdengine import runner
from kdengine.events import EpochEnded
from kdengine.home import Home
from kdengine.rundir import RunDir, find_run
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, status_of

RUNS, EPOCHS = 200, 240  # invented, beside the two that train
TRAINED = {"dataset": "digits", "student": "resnet8", "epochs": 10_000, "device": "cpu"}
SHARES = (("run", 20), ("runs", 10), ("", 8), ("compare", 6), ("sql", 6))  # of fifty sessions
ASKED = {"run": "run={run}", "sql": "q=select+method%2C+count%28%2A%29+as+n+from+runs+group+by+all"}
WARM_S = 20.0  # after the crowd has come: the server learns what its ticks cost and slows them down


@dataclass(frozen=True, slots=True)
class Window:
    """One stretch of time: what the crowd saw (empty without one), images/s of the two runs, share of the machine per process."""

    crowd: dict[str, Any]
    images_per_s: float
    server_share: float
    foreign_share: float
    rss_mib: float


class Tabs:
    """The crowd's process, and words with it."""

    def __init__(self, url: str) -> None:
        argv = [sys.executable, "-m", "benchmarks.crowd", url]
        self._process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def say(self, *words: Any) -> dict[str, Any]:
        """Tell it to do something; return its answer when it is done."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


# ---- the two runs -----------------------------------------------------------------------------------------------------------


@contextmanager
def training(home: Home) -> Iterator[list[RunDir]]:
    """Let two real runs train, one core each, until the end of the block."""
    runs = [find_run(home, runner.launch(home, RunSpec(**TRAINED, seed=seed))) for seed in range(2)]
    try:
        while any(run.last_epoch() is None for run in runs):
            if any(status_of(run, home) is RunStatus.FAILED for run in runs):
                raise RuntimeError(runs[0].tail_log() + runs[1].tail_log())
            time.sleep(0.2)
        yield runs
    finally:
        for run in runs:
            runner.cancel(home, run.run_id)


def images_seen(run: RunDir, at: float) -> float:
    """Return how many images the run had trained on at a moment (s since 1970), between two epochs in proportion."""
    events = [event for event in run.read_events()[0] if isinstance(event, EpochEnded)]
    times = [datetime.fromisoformat(event.at).timestamp() for event in events]
    place = bisect_right(times, at)
    if place == 0 or place == len(times):
        raise ValueError("no epoch ended before and after that moment")
    before, after = events[place - 1], events[place]
    share = (at - times[place - 1]) / max(1e-9, times[place] - times[place - 1])
    return before.images_seen + share * (after.images_seen - before.images_seen)


def await_epochs(runs: list[RunDir]) -> None:
    """Wait until each run has ended one more epoch, so that this moment lies between two."""
    known = [run.events_bytes() for run in runs]
    while any(run.events_bytes() <= size for run, size in zip(runs, known, strict=True)):
        time.sleep(0.05)


# ---- windows ----------------------------------------------------------------------------------------------------------------


def window(server: Server, runs: list[RunDir], tabs: Tabs | None, seconds: float) -> Window:
    """Measure for so many seconds."""
    foreign, cpu_s = ForeignLoad().start(), server.cpu_s()
    if tabs:
        tabs.say("mark")
    began = time.time()
    time.sleep(seconds)
    ended = time.time()
    crowd = tabs.say("report") if tabs else {}
    spent_s, share = server.cpu_s() - cpu_s, foreign.share()
    await_epochs(runs)
    images = sum(images_seen(run, ended) - images_seen(run, began) for run in runs)
    took_s = ended - began
    return Window(crowd, images / took_s, spent_s / took_s / cores(), share, server.rss_mib())


def cores() -> int:
    """Return the processors of this machine."""
    return psutil.cpu_count() or 1


def places(sessions: int, runs: list[RunDir], shares: tuple[tuple[str, int], ...]) -> list[tuple[str, str]]:
    """Return (page, query) of each session, in the given shares."""
    whole, found = sum(n for _, n in shares), list[tuple[str, str]]()
    for page, n in shares:
        for number in range(round(n * sessions / whole)):
            found.append((page, ASKED.get(page, "").format(run=runs[number % len(runs)].run_id)))
    return found


def measure(args: argparse.Namespace, home: Home) -> tuple[list[Window], list[Window], list[float], list[str]]:
    """Take turns; return windows without and with the crowd, seconds until the pages of those who came were drawn, faults."""
    quiet, busy, came, faults = list[Window](), list[Window](), list[float](), list[str]()
    with training(home) as runs, Server(home, page="run", query=f"run={runs[0].run_id}") as server:
        time.sleep(args.warm)  # the server loads what its pages will need
        assert server.reader is not None
        server.reader.close()
        for number in range(args.windows):
            time.sleep(3)
            quiet.append(window(server, runs, None, args.window))
            tabs = Tabs(server.url)
            opened = tabs.say("open", places(args.sessions, runs, SHARES), args.ramp)
            tabs.say("click", args.click)
            time.sleep(args.warm)
            busy.append(window(server, runs, tabs, args.window))
            came += opened["took_s"]
            faults += opened["faults"] + busy[-1].crowd["faults"] + tabs.say("close")["faults"]
            tabs.end()
            print(f"window {number + 1}: {_line(quiet[-1], busy[-1])}", file=sys.stderr, flush=True)
        faults += server.faults()
    return quiet, busy, came, faults


def _line(quiet: Window, busy: Window) -> str:
    took = sorted(seconds for _, _, seconds in busy.crowd["reruns"])
    return (
        f"{len(took)} reruns, p95 {percentile(took, 0.95):.2f} s, {quiet.images_per_s:.0f} -> {busy.images_per_s:.0f} images/s, "
        f"server {busy.server_share:.0%}, foreign {busy.foreign_share:.0%}"
    )


def percentile(values: list[float], share: float) -> float:
    """Return the value that ``share`` of the sorted ``values`` do not exceed; NaN of none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def percentiles(values: list[float]) -> list[str]:
    """Return median, 95th and 99th percentile and the worst, in words."""
    return [f"{percentile(values, share):.2f}" for share in (0.5, 0.95, 0.99, 1.0)]


def tables(args: argparse.Namespace, quiet: list[Window], busy: list[Window], came: list[float], faults: list[str]) -> str:
    """Return the results as Markdown."""
    rows = []
    reruns = [(kind, page, took_s) for w in busy for kind, page, took_s in w.crowd["reruns"]]
    groups = {"all": reruns, "page (somebody pressed something)": [r for r in reruns if r[0] == "page"],
              "tick (a live part by itself)": [r for r in reruns if r[0] == "tick"]}  # fmt: skip
    groups |= {f"on {page or 'home'}": [r for r in reruns if r[1] == page] for page, _ in SHARES}
    for name, group in groups.items():
        took = sorted(took_s for _, _, took_s in group)
        rows.append([name, len(took), *percentiles(took)])
    took = sorted(came)
    rows.append(["first page of those who come", len(took), *percentiles(took)])
    slower = [1 - b.images_per_s / q.images_per_s for q, b in zip(quiet, busy, strict=True)]
    told = [seconds for w in busy for seconds in w.crowd["intervals_s"]]
    clients = [w.crowd["cpu_s"] / args.window / cores() for w in busy]
    facts: list[list[object]] = [
        ["sessions", busy[0].crowd["tabs"]],
        ["faults", len(faults)],
        ["images/s of both runs, without the crowd", spread([w.images_per_s for w in quiet])],
        ["images/s of both runs, with it", spread([w.images_per_s for w in busy])],
        ["training slowed, % of pairs", spread([100 * share for share in slower], 1)],
        ["server, % of the machine, without the crowd", spread([100 * w.server_share for w in quiet])],
        ["server, % of the machine, with it", spread([100 * w.server_share for w in busy])],
        ["tabs, % of the machine", spread([100 * share for share in clients])],
        ["timers told by the server, s", spread(told, 1) if told else "none"],
        ["sent to the crowd, MiB per window", spread([w.crowd["bytes"] / 2**20 for w in busy], 1)],
        ["memory of the server at the end of each window with it, MiB", ", ".join(f"{w.rss_mib:.0f}" for w in busy)],
        ["foreign load, worst", f"{100 * max(w.foreign_share for w in (*quiet, *busy)):.1f} %"],
        ["windows of each kind", f"{len(busy)} of {args.window:.0f} s"],
    ]  # fmt: skip
    head = ["reruns", "n", "p50 s", "p95 s", "p99 s", "worst s"]
    return f"{machine()}\n\n{table(head, rows)}\n\n{table(['load', 'value'], facts)}\n"


# ---- who comes and goes -----------------------------------------------------------------------------------------------------


def visits(args: argparse.Namespace, home: Home) -> int:
    """Let sessions come and go; print the memory of the server on the way. Return the number of faults."""
    rows: list[list[object]] = []
    faults: list[str] = []
    done = 0
    with Server(home, page="runs") as server:
        time.sleep(args.warm)
        tabs = Tabs(server.url)
        rows.append(["before", "", f"{server.rss_mib():.0f}"])
        for round_ in range(2):
            while done < (round_ + 1) * args.visits:
                answer = tabs.say("visit", min(100, args.visits), 4, ["run" if done % 200 else "runs", ""])
                done += min(100, args.visits)
                faults += answer["faults"]
                rows.append([f"after {done} visits", f"{median(answer['took_s']):.2f}", f"{server.rss_mib():.0f}"])
            time.sleep(args.rest)
            rows.append([f"{args.rest:.0f} s later", "", f"{server.rss_mib():.0f}"])
        tabs.end()
        faults += server.faults()
    print(f"{machine()}\n\n{table(['sessions that came and went', 's until drawn', 'memory of the server, MiB'], rows)}\n")
    print(f"faults: {len(faults)} {faults[:3]}")
    return len(faults)


def main() -> int:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--windows", type=int, default=5, help="of each kind")
    parser.add_argument("--window", type=float, default=60, help="seconds of one")
    parser.add_argument("--click", type=float, default=30, help="seconds between two presses of one reader, on average")
    parser.add_argument("--ramp", type=float, default=20, help="seconds within which the crowd comes")
    parser.add_argument("--warm", type=float, default=WARM_S, help="seconds before a window begins")
    parser.add_argument("--visits", type=int, help="let twice so many sessions come and go instead")
    parser.add_argument(
        "--rest", type=float, default=180, help="seconds of rest after the visits; Streamlit keeps sessions for 120"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kd-load-") as folder:
        home = Home(Path(folder) / "kd").made()
        os.environ |= {"KD_HOME": str(home.root), "CUDA_VISIBLE_DEVICES": ""}
        lab(home, RUNS, EPOCHS)
        if args.visits:
            return int(visits(args, home) > 0)
        quiet, busy, came, faults = measure(args, home)
    print(tables(args, quiet, busy, came, faults))
    for fault in dict.fromkeys(faults):
        print(f"- {fault}")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
