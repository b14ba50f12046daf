"""What could keep KD Explorer from working here, found before it does: each check turns facts into findings, and does no more.

``doctor_facts`` gathers the facts. Every finding that is not ok says what was found, what is right, and what to do.

Reads / writes: nothing; checks are given what they judge. Never: torch, the results; a secret in a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from kdengine.errors import Problem
from kdengine.home import NETWORK_DISKS
from kdengine.torch_pair import Pair, install_command
from kdengine.torch_pair import problem as pair_problem

MIB = 1 << 20
LOW_BYTES, NONE_BYTES = 2048 * MIB, 64 * MIB
AHEAD_S = 300.0  # how far the time of a file may lie in the future: clocks of two machines
QUEUE_S = 2.0  # how long the queue may be held: every hold is a moment
LATE = timedelta(hours=50)  # two nights
INSTALL = "pip install -r requirements.txt, in the environment that starts the app"


class Level(StrEnum):
    """How bad it is: fine, worth a look, or something does not work."""

    OK = "ok"
    ADVICE = "advice"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says. ``allowed`` and ``do`` are "" where all is well."""

    check: str
    level: Level
    found: str
    allowed: str = ""
    do: str = ""

    def as_dict(self) -> dict[str, str]:
        """Plain strings for JSON."""
        return {name: str(value) for name, value in asdict(self).items()}


def fine(check: str, found: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Level.OK, found)


def of_problem(check: str, problem: Problem, level: Level = Level.BROKEN) -> Finding:
    """Return a problem in three parts as a finding."""
    where = f"{problem.field}: " if problem.field else ""
    return Finding(check, level, where + problem.given, problem.allowed, problem.do)


# ---- software ----------------------------------------------------------------------------------------------------------------


def python(version: tuple[int, ...]) -> Finding:
    """``version``: of the Python that runs this."""
    said = ".".join(map(str, version[:3]))
    if version[:2] >= (3, 11):
        return fine("Python", said)
    return Finding("Python", Level.BROKEN, said, "3.11 or newer", "make the environment anew: make setup PYTHON=python3.12")


def packages(wanted: Mapping[str, str], installed: Mapping[str, str | None]) -> Iterator[Finding]:
    """``wanted``: name -> range as in requirements.txt; ``installed``: name -> version, None = not there."""
    bad = 0
    for name, limits in wanted.items():
        held = installed.get(name)
        if held is None or not fits(held, limits):
            bad += 1
            level = Level.BROKEN if held is None else Level.ADVICE
            yield Finding("packages", level, f"{name} {held or 'is not installed'}", f"{name}{limits}", INSTALL)
    if not bad:
        yield fine("packages", f"{len(wanted)} packages within their ranges")


def fits(version: str, limits: str) -> bool:
    """Say whether a version lies within limits such as ``>=2.6,<3``; what stands behind the numbers does not count."""
    held = _numbers(version)
    for limit in filter(None, limits.split(",")):
        sign, bound = re.match(r"\s*([<>=!]{1,2})\s*(.+)", limit).groups()  # type: ignore[union-attr]
        length = max(len(held), len(_numbers(bound)))
        a, b = (numbers + (0,) * (length - len(numbers)) for numbers in (held, _numbers(bound)))
        if not {">=": a >= b, "<=": a <= b, "<": a < b, ">": a > b, "==": a == b, "!=": a != b}[sign]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version.strip())
    return tuple(int(part) for part in found[0].split(".")) if found else (0,)


@dataclass(frozen=True, slots=True)
class Build:
    """The installed torch as a child process saw it. ``cuda``: version it was built for, None = without; ``sees``: GPUs."""

    pair: Pair
    cuda: str | None = None
    sees: int = 0


@dataclass(frozen=True, slots=True)
class Driver:
    """The NVIDIA driver. ``cuda``: newest CUDA it can serve, such as (12, 4); ``gpus``: names."""

    version: str
    cuda: tuple[int, int]
    gpus: tuple[str, ...]


def torch(build: Build | None, needed: bool = True) -> Finding:
    """``build`` None: not looked at. ``needed``: not in a demo, which trains nothing."""
    if not needed or build is None:
        return fine("torch", "not needed: this server trains nothing" if not needed else "not looked at")
    if fault := pair_problem(build.pair):
        return of_problem("torch", fault)
    return fine("torch", f"{build.pair.torch} and torchvision {build.pair.torchvision} load together")


def gpu(driver: Driver | None, build: Build | None, needed: bool = True) -> Finding:
    """Whether torch can use the GPUs that are there. ``driver`` None: there is none."""
    if driver is None or not driver.gpus:
        return fine("GPU", "none: runs train on the CPU")
    there = f"{len(driver.gpus)} x {driver.gpus[0]}, driver {driver.version} (CUDA {driver.cuda[0]}.{driver.cuda[1]})"
    if not needed or build is None or build.pair.error:
        return fine("GPU", there)
    if build.cuda is None:
        do = "install a torch built for CUDA: " + install_command(Pair(None, None, None, ""))
        return Finding("GPU", Level.ADVICE, f"{there}, and a torch without CUDA", "a torch that can use them", do)
    if _numbers(build.cuda)[:1] > driver.cuda[:1]:
        do = f"install a newer driver, or a torch built for CUDA {driver.cuda[0]}"
        return Finding("GPU", Level.BROKEN, f"{there}, and a torch for CUDA {build.cuda}", "a driver as new as that CUDA", do)
    if not build.sees:
        do = "look at nvidia-smi, at CUDA_VISIBLE_DEVICES, and at who may use the devices (docs/hosting.md)"
        return Finding("GPU", Level.BROKEN, f"{there}, of which torch sees none", "GPUs that torch can use", do)
    return fine("GPU", f"{there}, torch for CUDA {build.cuda} sees {build.sees}")


def ffmpeg(said: str | None) -> Finding:
    """``said``: first line of ``ffmpeg -version``, None = none was found or it does not run."""
    if said:
        return fine("ffmpeg", said[:60])
    do = "pip install imageio-ffmpeg, which brings one; until then races are GIFs and pictures"
    return Finding("ffmpeg", Level.ADVICE, "none that runs", "one, for races as MP4", do)


def fonts(sizes: Mapping[str, int]) -> Finding:
    """``sizes``: font file of the race -> bytes, 0 = missing."""
    missing = sorted(name for name, size in sizes.items() if size < 1000)
    if not missing:
        return fine("fonts", f"{len(sizes)} fonts of the race charts")
    do = "get them back: git checkout store/export/race/fonts, or install KD Explorer anew"
    return Finding("fonts", Level.BROKEN, f"{', '.join(missing)} missing", "the fonts that come with KD Explorer", do)


# ---- machine -----------------------------------------------------------------------------------------------------------------


def disk(free: int, total: int, kind: str, allowed_network: bool = False) -> Iterator[Finding]:
    """Bytes of the disk that holds KD_HOME; ``kind`` of file system; whether a network disk was allowed."""
    said = f"{free / 2**30:.1f} of {total / 2**30:.0f} GiB free ({kind or 'unknown kind'})"
    if kind in NETWORK_DISKS:
        do = "set KD_HOME to a local disk" + (", unless one machine alone uses it" if allowed_network else "")
        level = Level.ADVICE if allowed_network else Level.BROKEN
        yield Finding("disk", level, said, "a local disk: locks are not safe on a network disk", do)
    elif free < LOW_BYTES:
        level = Level.BROKEN if free < NONE_BYTES else Level.ADVICE
        do = "make room: remove runs, exports or data that nobody needs, or old backups"
        yield Finding("disk", level, said, f"{LOW_BYTES / 2**30:.0f} GiB: below, trainings wait and backups stop", do)
    else:
        yield fine("disk", said)


def memory(available: int, total: int, cores: int, workers: int) -> Finding:
    """Bytes; ``workers`` that may train on the CPU at once."""
    said = f"{cores} cores, {available / 2**30:.1f} of {total / 2**30:.1f} GiB of memory free"
    if available < LOW_BYTES / 2:
        do = "stop something, or let fewer runs train at once: cpu_slots in settings.json"
        return Finding("memory", Level.ADVICE, said, "1 GiB free", do)
    if workers > cores:
        do = f"set cpu_slots in settings.json to {cores} or fewer"
        return Finding("memory", Level.ADVICE, f"{said}, {workers} runs at once", "a core for each run", do)
    return fine("memory", said)


def clock(now: float, boot: float, newest: float | None) -> Finding:
    """Seconds since 1970: this clock, the start of the machine, the newest file of KD_HOME."""
    if now < boot - 1:
        return Finding("clock", Level.BROKEN, f"the machine started {boot - now:.0f} s in the future", "a clock that goes on",
                       "set the clock (timedatectl set-ntp true)")  # fmt: skip
    if newest is not None and newest > now + AHEAD_S:
        found = f"a file of KD_HOME is {(newest - now) / 60:.0f} min ahead of the clock"
        do = "set the clock (timedatectl set-ntp true); times of runs and backups made meanwhile stay wrong"
        return Finding("clock", Level.ADVICE, found, "files of the past", do)
    return fine("clock", "behind no file")


def port(number: int, free: bool, answer: Mapping[str, object] | None) -> Finding:
    """``answer``: what ``/healthz`` of that port says, None = nothing of ours listens there."""
    if free:
        return fine("port", f"{number} is free")
    if answer is None:
        do = f"start the app on another: python -m kdengine.serve --port {number + 1}"
        return Finding("port", Level.ADVICE, f"{number} is taken by another program", "a free port", do)
    checks = answer.get("checks")
    wrong = [name for name, check in checks.items() if not check.get("ok")] if isinstance(checks, dict) else []
    if wrong:
        do = "see the page Server, or the log of the server"
        return Finding("port", Level.BROKEN, f"the app on {number} is not well: {', '.join(wrong)}", "an app that is well", do)
    return fine("port", f"the app on {number} is well")


# ---- home --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock of KD_HOME. ``held`` all the time that was looked; ``pid`` that noted itself, ``alive`` here."""

    name: str
    held: bool
    pid: int | None = None
    alive: bool = False


def locks(found: Iterable[Lock]) -> Iterator[Finding]:
    """Who keeps the results and the queues."""
    for lock in found:
        who = f"process {lock.pid}" if lock.pid else "a process that did not say who it is"
        if not lock.held:
            yield fine("locks", f"{lock.name}: free")
        elif lock.name != "store":
            do = "find who holds it (fuser, lsof on the file in locks/) and end that process"
            yield Finding("locks", Level.BROKEN, f"{lock.name}: held for more than {QUEUE_S:g} s", "a moment at a time", do)
        elif lock.pid and not lock.alive:
            do = "end the second server, or container, that uses this KD_HOME: one home, one machine"
            yield Finding(
                "locks", Level.ADVICE, f"{lock.name}: held by {who}, which is not here", "a process of this machine", do
            )
        else:
            yield fine("locks", f"{lock.name}: held by {who}")


@dataclass(frozen=True, slots=True)
class Stuck:
    """A run that nothing moves on. ``why``: its status and what it waits for; ``do``: what moves it on."""

    run_id: str
    why: str
    do: str


def runs(counts: Mapping[str, int], stuck: Iterable[Stuck], kept: bool) -> Iterator[Finding]:
    """``counts``: status -> runs; ``kept``: somebody moves the queue on, the app or a worker."""
    listed = list(stuck)
    for run in listed[:10]:
        yield Finding("runs", Level.ADVICE, f"{run.run_id}: {run.why}", "runs that go on", run.do)
    if len(listed) > 10:
        yield Finding(
            "runs", Level.ADVICE, f"{len(listed) - 10} more like these", "none", "python -m kdengine status --all lists them"
        )
    if counts.get("queued") and not kept:
        do = "start the app, or run: python -m kdengine queue"
        yield Finding(
            "runs", Level.ADVICE, f"{counts['queued']} queued, and nobody moves the queue on", "the app, or a training", do
        )
    elif not listed:
        yield fine("runs", ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "none yet")


def faults(check: str, problems: Iterable[Problem], otherwise: str) -> Iterator[Finding]:
    """Problems in three parts as findings; ``otherwise``: what to say without any."""
    found = [of_problem(check, problem) for problem in problems]
    yield from found or [fine(check, otherwise)]


def secrets(modes: Mapping[str, int]) -> Iterator[Finding]:
    """``modes``: file of secrets -> its rights (as ``chmod`` has them)."""
    for name, mode in modes.items():
        if mode & 0o077:
            do = f"chmod 600 {name}"
            yield Finding("secrets", Level.ADVICE, f"{name} may be read by others ({mode:o})", "600: by its owner alone", do)
    if not any(mode & 0o077 for mode in modes.values()):
        yield fine("secrets", f"{len(modes)} files, for their owner alone" if modes else "no file of secrets")


def backups(newest: datetime | None, now: datetime, wanted: bool, has_runs: bool, failed: Iterable[Problem]) -> Iterator[Finding]:
    """``newest`` backup (UTC); ``wanted``: by the app, every night; ``failed``: why the last one did."""
    for problem in failed:
        yield of_problem("backups", problem)
    age = None if newest is None else now - newest
    if not has_runs or (age is not None and age < LATE):
        yield fine("backups", "nothing to back up yet" if age is None else f"the newest is {_in_words(age)} old")
        return
    found = "none yet" if age is None else f"the newest is {_in_words(age)} old"
    do = "run: python -m store backup" + ("; the app makes one every night while it runs" if wanted else ", for example by cron")
    yield Finding(
        "backups", Level.ADVICE, found + ("" if wanted else ', and "backups" is false'), "one of the last two nights", do
    )


def verified(findings: int | None, at: str) -> Finding:
    """``findings`` of the last ``python -m store verify``, None = there was none."""
    if not findings:
        return fine("store", f"verified {at[:16]}: sound" if findings == 0 else "never verified: python -m store verify")
    do = "run it again and do what it says: python -m store verify"
    return Finding("store", Level.ADVICE, f"{findings} findings of verify on {at[:16]}", "none", do)


def _in_words(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    if hours < 1:
        return "less than an hour"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"
