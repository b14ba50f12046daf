"""Scenes around viewers: the SQL page, asked as fast as it answers, while runs log and its server takes in.

Reads / writes: the home of the stage. Starts workers and a server, with tabs that look at it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from urllib.parse import urlencode

import duckdb

from benchmarks.faults.servers import Watch
from benchmarks.faults.stage import Stage, await_true, complaints_of, to_end
from benchmarks.faults.workers import formula_of
from benchmarks.server import Server
from benchmarks.sessions import Reader

RUNS, PER_S, HANDS = 8, 20, 3
QUESTIONS = (
    "select * from leaderboard",
    "select method, count(*) as n, avg(test_top1_frac) as mean from epochs join runs using (run_id) group by all",
    "select * from epochs order by epoch desc, run_id limit 2000",
    "select a.run_id, max(a.test_top1_frac - b.test_top1_frac) from epochs a join epochs b using (epoch, network) group by all",
    "select term, quantile_cont(value, [0.1, 0.5, 0.9]) from terms group by all",
    "select metod from runs",  # a misspelt name
    "select count(*) from range(100000000000) a, range(10000000) b",  # takes for ever
    "copy runs to 'here.csv'",  # refused
)  # fmt: skip
RIGHT = 5  # so many of them have an answer
EMPTY = "No row fits"  # an answer, too: no run has finished yet
SETTLING_S = 10  # of a run, until the server has opened its first page and published
LONG_S, GROWN_MIB = 30, 80.0  # in so many seconds everything was asked; a server that grows by more has a leak


class Lag:
    """Watches the snapshot: how long after it was acknowledged does an epoch show in it?"""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._seen: list[tuple[float, dict[str, int]]] = []
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        inode = 0
        while not self._stop.wait(0.05):
            file = self._stage.home.snapshot
            if not file.exists() or file.stat().st_ino == inode:
                continue
            inode = file.stat().st_ino
            now = time.monotonic()
            try:
                with duckdb.connect(str(file), read_only=True) as con:
                    rows = con.execute("SELECT run_id, max(epoch) FROM epochs GROUP BY run_id").fetchall()
            except duckdb.Error as error:
                self._stage.account.snapshots_unreadable += 1
                self._stage.complain(f"the snapshot cannot be read: {error}")
                return
            self._seen.append((now, dict(rows)))

    def seconds(self) -> list[float]:
        """Stop, and return the lag of every epoch that was told, and showed, while it was watched."""
        self._stop.set()
        self._thread.join()
        found = []
        for run_id, epochs in self._stage.acknowledged().items():
            looks = iter(self._seen)
            at, shown = next(looks, (0.0, {}))
            for told in epochs:
                while at and shown.get(run_id, 0) < told.epoch:
                    at, shown = next(looks, (0.0, {}))
                if at and told.at >= self._began:
                    found.append(max(0.0, at - told.at))
        return found


def hammering(stage: Stage) -> None:
    """The SQL page asked as fast as it answers, also what is wrong, refused or endless, while eight runs log 20 epochs/s each"""
    stage.home.settings.write_text(f'{{"cpu_slots": {RUNS}}}')
    seconds = stage.count
    runs = [
        stage.launch(epochs=PER_S * (seconds + SETTLING_S), epoch_s=1 / PER_S, seed=seed, start=False) for seed in range(RUNS)
    ]
    with Watch(stage, "run", f"run={runs[0].run_id}") as watch:
        await_true("all runs", lambda: all(run.events_bytes() for run in runs))
        await_true("a snapshot", stage.home.snapshot.exists)
        time.sleep(min(15.0, 0.2 * seconds))  # the server loads what its pages will need
        lag, answers, memory = Lag(stage), Counter[str](), list[float]()
        _hammer_all(stage, watch.server, seconds, answers, memory)
        _report(stage, sorted(lag.seconds()), answers, memory)
        for run in runs:
            stage.complaints += complaints_of(to_end(stage.home, run.run_id), stage.home, formula_of(run))


def _hammer_all(stage: Stage, server: Server, seconds: float, answers: Counter[str], memory: list[float]) -> None:
    """Ask with all hands for so long, and note the server's memory meanwhile."""
    stop, until = threading.Event(), time.monotonic() + seconds
    with ThreadPoolExecutor(HANDS) as pool:
        try:
            hands = [pool.submit(_hammer, stage, server.url, number, answers, stop) for number in range(HANDS)]
            while time.monotonic() < until or (not answers["answered"] and time.monotonic() < until + 60):
                memory.append(server.rss_mib())
                time.sleep(min(1.0, seconds / 8))
        finally:
            stop.set()
        for hand in hands:
            hand.result()


def _hammer(stage: Stage, url: str, number: int, answers: Counter[str], stop: threading.Event) -> None:
    place = number * len(QUESTIONS) // HANDS - 1
    with Reader(url, "sql") as reader:
        while not stop.is_set():
            place = (place + 1) % len(QUESTIONS)
            said = _answer(reader, f"{QUESTIONS[place]} -- {number} {sum(answers.values())}")  # no two are the same
            answers["answered" if said is None else "refused or stopped"] += 1
            if said is None and place >= RIGHT:
                stage.complain(f"{QUESTIONS[place]}: has an answer")
            if said is not None and place < RIGHT and "longer than" not in said:  # on a busy machine it may take too long
                stage.complain(f"{QUESTIONS[place]}: {said}")
        stage.complaints += [f"the SQL page: {fault}" for fault in reader.tab.faults]


def _answer(reader: Reader, sql: str) -> str | None:
    """Open the link of a statement and wait until the page has shown its answer; return why there is none, or None."""
    tab = reader.tab
    tab.elements.clear()
    tab.notes.clear()
    tab.query = urlencode({"q": sql})
    if not reader.click():
        return f"the page was not drawn: {tab.faults}"
    try:
        await_true("an answer", lambda: tab.elements["dataframe"] or tab.notes or tab.faults, 60)
    except TimeoutError:
        return "no answer at all"
    said = " ".join(tab.notes or tab.faults)
    return None if tab.elements["dataframe"] or EMPTY in said else said


def _report(stage: Stage, lags: list[float], answers: Counter[str], memory: list[float]) -> None:
    quarter = max(1, len(memory) // 4)
    first, last = median(memory[:quarter]), median(memory[-quarter:])
    figures = stage.account.figures
    figures["questions on the SQL page while eight runs log"] = (
        f"{answers['answered']} answered, {answers['refused or stopped']} refused or stopped"
    )
    if not lags and stage.count >= LONG_S:
        stage.complain("no epoch showed in the snapshot while it was watched")
    elif lags:
        p50, p99 = lags[len(lags) // 2], lags[int(len(lags) * 0.99)]
        figures["from the disk to the snapshot, s, p50 and p99"] = f"{p50:.2f} and {p99:.2f} of {len(lags)} epochs"
    figures["server memory, first and last quarter, MiB"] = f"{first:.0f} and {last:.0f}"
    if stage.count >= LONG_S and last - first > GROWN_MIB:
        stage.complain(f"the server grew from {first:.0f} to {last:.0f} MiB")
    if not answers["answered"] or (stage.count >= LONG_S and not answers["refused or stopped"]):
        stage.complain(f"the hammer fell on nothing: {dict(answers)}")
