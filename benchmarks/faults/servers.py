"""Scenes around servers: killed while they serve, take in and publish; two on one home.

Reads / writes: the home of the stage. Starts and kills servers, with a tab that looks at them.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from benchmarks.faults.stage import Stage, await_true, complaints_of, to_end
from benchmarks.faults.workers import formula_of
from benchmarks.server import Server
from kdengine.rundir import RunDir
from kdengine.status import is_over, status_of

WRITES_S = 60.0


class Watch:
    """A server and a tab; that it comes up, draws the page and says nothing wrong goes into the account.

    Raises:
        TimeoutError: it does not come up, or does not draw the page; noted in the account.
    """

    def __init__(self, stage: Stage, page: str = "", query: str = "", more: dict[str, str] | None = None) -> None:
        self._stage = stage
        self.server = Server(stage.home, page=page, query=query, more=more)
        self._killed = False

    def begin(self) -> Self:
        """Start the process; it cannot serve yet."""
        self.server.start()
        return self

    def up(self) -> Self:
        """Wait until it has drawn the page."""
        self._stage.account.servers += 1
        try:
            self.server.up()
        except (TimeoutError, OSError) as error:
            self._stage.account.servers_failed += 1
            self._stage.complain(f"a server did not start: {error}")
            raise
        return self

    def __enter__(self) -> Self:
        return self.begin().up()

    def click(self) -> bool:
        """Ask for the page anew; say whether it was drawn without a fault."""
        assert self.server.reader is not None
        return self.server.reader.click() and not self.server.reader.tab.faults

    def kill(self) -> None:
        """Kill -9 it, once what went wrong so far is noted."""
        self._note_faults()
        self._stage.kill("server", self.server.pid)
        self.server.kill()
        self._killed = True

    def _note_faults(self) -> None:
        self._stage.complaints += [f"a server: {fault}" for fault in self.server.faults()[:3]]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._killed and kind is None:
            self._note_faults()
        self.server.__exit__()


def server_killed(stage: Stage) -> None:
    """Kill -9 of a server that starts runs, takes in, publishes and serves a tab, or is just starting; the next one goes on"""
    runs: list[RunDir] = []
    shown = 0
    for _ in range(stage.count):
        _keep_busy(stage, runs)
        watch = Watch(stage, "run", f"run={runs[-1].run_id}").begin()
        try:
            if stage.rng.random() < 0.2:
                time.sleep(stage.rng.uniform(0, 3))
            else:
                watch.up()
                time.sleep(stage.rng.uniform(0, 2))
            watch.kill()
        finally:
            watch.__exit__(None, None, None)
        now = stage.snapshot_epochs()
        if now < shown:
            stage.complain(f"the snapshot went back from {shown} to {now} epochs")
        shown = max(shown, now)
    with Watch(stage):
        for run in runs:  # the last server has to start those that no earlier one could
            await_true("the end of a run", lambda run=run: is_over(status_of(run, stage.home)))
            stage.complaints += complaints_of(run, stage.home, formula_of(run))
        told = sum(len(epochs) for epochs in stage.acknowledged().values())
        await_true("all epochs in the snapshot", lambda: stage.snapshot_epochs() >= told, 30)


def _keep_busy(stage: Stage, runs: list[RunDir]) -> None:
    """Keep two runs on their way; servers start them."""
    stage.home.settings.write_text('{"cpu_slots": 2}')
    while sum(not is_over(status_of(run, stage.home)) for run in runs) < 2:
        epochs = min(200, 40 + 20 * stage.count)  # so many that a server is killed within them
        runs.append(stage.launch(epochs=epochs, epoch_s=0.05, seed=len(runs), start=False))


def two_servers(stage: Stage) -> None:
    """Two servers on one home: a run starts once; the one that writes is killed, the other takes over, a new one joins"""
    takeovers: list[float] = []
    watches = [Watch(stage).begin().up(), Watch(stage).begin().up()]
    try:
        for number in range(stage.count):
            run = stage.launch(epochs=20, epoch_s=0.02, seed=number, start=False)
            await_true("the end of a run", lambda run=run: is_over(status_of(run, stage.home)))
            stage.complaints += complaints_of(to_end(stage.home, run.run_id), stage.home, formula_of(run))
            if len(run.attempts()) != 1:
                stage.complain(f"{run.run_id} was started {len(run.attempts())} times")
            await_true("one that writes", lambda: sum(watch.server.writes() for watch in watches) == 1, WRITES_S)
            writer = next(watch for watch in watches if watch.server.writes())
            other = next(watch for watch in watches if watch is not writer)
            writer.kill()
            began = time.monotonic()
            await_true("the other to write", other.server.writes, WRITES_S)
            takeovers.append(time.monotonic() - began)
            if not other.click():
                stage.complain("the server that took over does not draw its page")
            watches.remove(writer)
            writer.__exit__(None, None, None)
            watches.append(Watch(stage).begin().up())
    finally:
        for watch in watches:
            watch.__exit__(None, None, None)
    stage.account.figures["taking over from a killed server, s, worst"] = round(max(takeovers), 2)
