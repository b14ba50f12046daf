"""What the command line shows: live bars while runs train, tables, problems in three parts.

Reads: run folders, through their views. Writes: the terminal. Never: torch, the results database.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdengine import labels, runner
from kdengine.errors import KdError, Problem
from kdengine.events import Ended, EpochEnded, Notice
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, RunView, is_over, queue_places, teacher_status, view
from kdengine.suites import Standing

LOOK_S = 0.2
CURVE_CELLS = 20
_BLOCKS = "▁▂▃▄▅▆▇█"
_COLOURS = {
    RunStatus.QUEUED: "yellow", RunStatus.WAITING: "yellow", RunStatus.RUNNING: "cyan", RunStatus.FINISHED: "green",
    RunStatus.FAILED: "red", RunStatus.CANCELLED: "bright_black", RunStatus.LOST: "magenta",
}  # fmt: skip

WORTH_SAYING_BYTES = 1 << 20
WIDE = 110  # columns from which whole run ids fit
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)  # a pipe has no width of its own
err = Console(stderr=True)


@dataclass(slots=True)
class Watched:
    """One run on screen: how it stands, and its curve so far (top-1 of the student per epoch of the main phase)."""

    run: RunDir
    now: RunView
    role: str = ""
    curve: list[float] = field(default_factory=list)
    position: int = 0
    said: tuple[str, int, int] = ("", 0, 0)  # phase, epoch, step of the last line on a step

    def look(self, home: Home, places: Mapping[str, int], every_steps: int = 0) -> list[str]:
        """Look again; return what is new as lines of plain text, with one about every ``every_steps`` steps (0 = none)."""
        self.now = view(self.run, home, places)
        events, self.position = self.run.read_events(self.position)
        lines = [self._line(event) for event in events]
        return [line for line in (*lines, self._step_line(every_steps)) if line]

    def _step_line(self, every: int) -> str:
        at = self.now.progress
        if not every or at is None or not at.epochs:  # data on their way have no epochs
            return ""
        before = self.said[2] if self.said[:2] == (at.phase, at.epoch) else 0
        if at.step // every == before // every:
            return ""
        self.said = (at.phase, at.epoch, at.step)
        phase = "" if at.phase == "main" else f"{at.phase} "
        speed = "" if at.images_per_s is None else f"  {at.images_per_s:,.0f} images/s"
        return f"{self.role}: {phase}epoch {at.epoch}/{at.epochs}  step {at.step}/{at.steps}{speed}"

    def _line(self, event: object) -> str:
        name = f"{self.role}: " if self.role else ""
        if isinstance(event, EpochEnded):
            student = event.measures.get("student")
            top1 = student.test_top1_frac if student else None
            if top1 is not None and event.phase == "main":
                self.curve.append(top1)
            phase = "" if event.phase == "main" else f"{event.phase} "
            return f"{name}{phase}epoch {event.epoch}/{event.epochs}  top-1 {percent(top1)}  {clock(self.now.eta_s)} left"
        if isinstance(event, Notice):
            return f"{name}{event.text}"
        if isinstance(event, Ended):
            return f"{name}{event.how}" + (f": {event.reason}" if event.reason else "")
        return ""


# -- following -----------------------------------------------------------------------------------------------------------


def follow(home: Home, run_ids: Sequence[str], title: str, *, every_steps: int = 0) -> list[RunView]:
    """Show the runs (and the teachers that must come first) until all are over; return how they stand then.

    On a terminal as a live table, else a line per epoch, with ``every_steps`` also one about every so many steps (workers
    say where they are once a second). Ctrl-C stops the showing, never a run.
    """
    watched = _with_teachers(home, run_ids)
    if err.is_terminal:
        with Live(console=err, auto_refresh=False, transient=False) as live:
            for _ in _rounds(home, watched):
                live.update(_live_table(watched, title), refresh=True)
    else:
        for lines in _rounds(home, watched, every_steps):
            for line in lines:
                err.print(line, markup=False, highlight=False, soft_wrap=True)
    return [w.now for w in watched if w.run.run_id in set(run_ids)]


def _rounds(home: Home, watched: list[Watched], every_steps: int = 0) -> Iterator[list[str]]:
    next_tick = 0.0
    while True:
        if time.monotonic() >= next_tick:
            runner.tick(home)
            next_tick = time.monotonic() + runner.TICK_S
        places = queue_places(home)
        going = [w for w in watched if not (is_over(w.now.status) and w.position)]
        yield [line for w in going for line in w.look(home, places, every_steps)]
        if all(is_over(w.now.status) or _waits_in_vain(home, w.now) for w in watched):
            return
        time.sleep(LOOK_S)


def _waits_in_vain(home: Home, shown: RunView) -> bool:
    """Say whether the run waits for a teacher whose worker was lost: nothing moves until a person resumes it."""
    while shown.status is RunStatus.WAITING and shown.request and shown.request.teacher_run:
        if teacher_status(home, shown.request.teacher_run) is RunStatus.LOST:
            return True
        shown = view(RunDir(home.runs / shown.request.teacher_run), home)
    return False


def _with_teachers(home: Home, run_ids: Sequence[str]) -> list[Watched]:
    found: dict[str, Watched] = {}

    def add(run_id: str, asked: bool) -> None:
        run = RunDir(home.runs / run_id)
        if run_id in found or not run.spec_json.is_file():
            return
        now = view(run, home)
        if now.request and now.request.teacher_run and not is_over(now.status):
            add(now.request.teacher_run, False)
        if asked or not is_over(now.status):
            found[run_id] = Watched(run, now, _role(now, asked))

    for run_id in run_ids:
        add(run_id, run_id in run_ids)
    return list(found.values())


def _role(shown: RunView, asked: bool) -> str:
    if shown.request is None:
        return shown.run_id
    spec = shown.request.spec
    return f"{spec.method if asked else 'teacher'} {spec.student} seed {spec.seed}"


def _live_table(watched: Sequence[Watched], title: str) -> Panel:
    table = Table(box=None, padding=(0, 1), expand=True, show_header=False)
    table.add_column("run", no_wrap=True, min_width=12)
    table.add_column("bar", ratio=1, min_width=8)
    for name in ("epoch", "curve", "top1", "left"):
        table.add_column(name, no_wrap=True, justify="left" if name == "curve" else "right")
    shown = _that_fit(watched)
    for w in shown:
        table.add_row(*_live_row(w))
    hidden = len(watched) - len(shown)
    note = Text(f" and {hidden} more, over or in the queue", style="dim") if hidden else Text("")
    subtitle = "[dim]Ctrl-C stops watching, not the training[/]"
    body = Group(table, note) if hidden else table
    return Panel(body, title=f"[bold]{escape(title)}[/]", subtitle=subtitle, title_align="left", border_style="dim")


def _that_fit(watched: Sequence[Watched]) -> list[Watched]:
    room = max(5, err.height - 5)
    if len(watched) <= room:
        return list(watched)
    first = sorted(watched, key=lambda w: (is_over(w.now.status), w.now.status is not RunStatus.RUNNING))[:room]
    return [w for w in watched if w in first]


def _live_row(w: Watched) -> tuple[Text, ProgressBar, Text, Text, Text, Text]:
    colour, epochs = _COLOURS[w.now.status], w.now.request.spec.epochs if w.now.request else 1
    bar = ProgressBar(total=epochs, completed=w.now.done_epochs, complete_style=colour, finished_style="green")
    doing = f"{w.now.epoch.epoch if w.now.epoch else 0}/{epochs}"
    if w.now.epoch and w.now.epoch.phase != "main" and not is_over(w.now.status):
        doing = f"{w.now.epoch.phase} {w.now.epoch.epoch}/{w.now.epoch.epochs}"
    left = status_text(w.now)
    if w.now.status is RunStatus.RUNNING:
        left = "starting" if w.now.eta_s is None else f"{clock(w.now.eta_s)} left"
    return (
        Text(w.role, style="bold" if w.now.status is RunStatus.RUNNING else ""), bar, Text(doing, style="dim"),
        Text(sparkline(w.curve), style=colour), Text(percent(w.now.top1_frac)), Text(left, style=colour),
    )  # fmt: skip


# -- tables --------------------------------------------------------------------------------------------------------------


def status_table(shown: Iterable[RunView]) -> Table:
    """Return runs as a table: name (its end on a narrow terminal), what it does, how it stands, epoch, accuracy, time."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("run", no_wrap=True)
    table.add_column("what")
    table.add_column("status", no_wrap=True)
    for name in ("epoch", "top-1 %", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for v in shown:
        spec = v.request.spec if v.request else None
        time_s = clock(v.epoch.elapsed_s if v.epoch else None) if v.eta_s is None else f"{clock(v.eta_s)} left"
        epoch = f"{v.done_epochs:.0f}/{spec.epochs}" if spec else ""
        status = Text(status_text(v), style=_COLOURS[v.status])
        name = v.run_id if out.width >= WIDE else v.run_id[-6:]
        table.add_row(name, escape(spec.summary()) if spec else "unreadable", status, epoch, percent(v.top1_frac), time_s)
    return table


def run_panel(shown: RunView, run: RunDir) -> Panel:
    """Return one run in full: how it stands, why, its spec, and the end of its log where it went wrong."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_row("status", Text(status_text(shown), style=_COLOURS[shown.status]))
    if shown.reason:
        table.add_row("reason", Text(shown.reason))
    if shown.request:
        table.add_row("asked at", shown.request.created_at)
        if shown.request.teacher_run:
            table.add_row("teacher", shown.request.teacher_run)
        table.add_row("spec", Text(_changed_fields(shown.request.spec)))
        for word, text in _labels_of(run).items():
            table.add_row(word, Text(text))
    table.add_row("folder", Text(str(run.path)))
    body: list[Table | Text] = [table]
    if shown.status in (RunStatus.FAILED, RunStatus.LOST):
        body += [Text("\nend of the log", style="dim"), Text(run.tail_log(15) or "(empty)", style="dim")]
    summary = shown.request.spec.summary() if shown.request else ""
    return Panel(Group(*body), title=f"[bold]{shown.run_id}[/] {escape(summary)}", title_align="left", border_style="dim")


def leaderboard_table(standings: Sequence[Standing], title: str) -> Table:
    """Return a leaderboard: the best and the last test accuracy, mean and standard deviation over n seeds."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1), header_style="dim")
    for name in ("", "method", "teacher", "student"):
        table.add_column(name, no_wrap=True)
    for name in ("best test top-1 %", "last test top-1 %", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, s in enumerate(standings, 1):
        best, last = _mean_std(s.best_mean_frac, s.best_std_frac), _mean_std(s.last_mean_frac, s.last_std_frac)
        style = "bold green" if place == 1 else ""
        table.add_row(str(place), s.method, s.teacher or "none", s.student, best, last, str(s.n), style=style)
    return table


def card_table(cards: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    """Return catalogue entries as a table of the chosen fields; numbers to the right, with thousands separated."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in columns:
        is_number = bool(cards) and type(cards[0][name]) is int and name != "year"
        table.add_column(name.replace("_", " "), justify="right" if is_number else "left", no_wrap=name == "key")
    for card in cards:
        values = ((name, card[name]) for name in columns)
        table.add_row(*(f"{v:,}" if type(v) is int and name != "year" else _word(v) for name, v in values))
    return table


def show_runs(shown: Sequence[RunView], as_json: bool, empty: str) -> None:
    """Print runs as a table or as a list of JSON objects; ``empty`` says what to do when there are none."""
    if as_json:
        show_json([v.as_dict() for v in shown])
    elif shown:
        out.print(status_table(shown))
    else:
        out.print(empty, highlight=False)


def show_cards(cards: list[dict[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Print a catalogue: all of it as JSON, or the chosen columns as a table."""
    if as_json:
        show_json(cards)
    else:
        out.print(card_table(cards, columns))


def show_json(value: Any) -> None:
    """Print a value as JSON, untouched by the width of the terminal."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def show_problems(problems: Iterable[Problem]) -> None:
    """Print problems to stderr: each with what was given, what is allowed, what to do next."""
    for problem in problems:
        table = Table(box=None, show_header=False, padding=(0, 1))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")  # a path is longer than the line, and wanted whole
        for word, text in (("given", problem.given), ("allowed", problem.allowed), ("next", problem.do)):
            table.add_row(word, Text(text))
        err.print(Text(problem.field or "problem", style="bold red"))
        err.print(table)


# -- words ---------------------------------------------------------------------------------------------------------------


def memory_text(method: str, kept: int) -> str:
    """Return what a method keeps in memory beside the networks, in words; "" where it is less than a MiB."""
    return f"{method} keeps {kept / 2**20:,.0f} MiB in memory beside the networks." if kept > WORTH_SAYING_BYTES else ""


def status_text(shown: RunView) -> str:
    """Return the status as a word, with the place in the queue."""
    return f"{shown.status}, place {shown.position}" if shown.position else shown.status.value


def percent(frac: float | None) -> str:
    """Return a share as percent with one decimal, a dash for none."""
    return "-" if frac is None else f"{100 * frac:.1f}"


def clock(seconds: float | None) -> str:
    """Return ``1:05`` or ``1:02:03``; a dash for none."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def sparkline(curve: Sequence[float]) -> str:
    """Return a curve of shares as at most 20 blocks, 0 to 1 from bottom to top."""
    if not curve:
        return ""
    cells = min(CURVE_CELLS, len(curve))
    picked = [curve[(i + 1) * len(curve) // cells - 1] for i in range(cells)]
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int(max(0.0, frac) * len(_BLOCKS)))] for frac in picked)


def _word(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else escape(str(value))


def _mean_std(mean: float, std: float | None) -> str:
    return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"


def _labels_of(run: RunDir) -> dict[str, str]:
    try:
        held = labels.read(run)
    except (KdError, ValueError) as error:  # a broken file of labels hides nothing else of the run
        return {"labels": str(error)}
    return {word: text for word, text in (("tags", " ".join(held.tags)), ("note", held.note)) if text}


def _changed_fields(spec: RunSpec) -> str:
    plain = RunSpec(recipe=spec.recipe).model_dump()
    values = {k: v for k, v in spec.model_dump().items() if v != plain[k] and k not in ("note", "suite", "tags")}
    return ", ".join(f"{k}={v}" for k, v in values.items()) or "all defaults"
