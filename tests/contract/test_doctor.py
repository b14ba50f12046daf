"""The doctor: every check on facts that are given to it, the facts of homes made for the purpose, and the command."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from kdengine import access, cli, doctor, doctor_facts, errands, startup
from kdengine.doctor import Build, Driver, Finding, Level, Lock, Stuck
from kdengine.errors import KdError, Problem
from kdengine.events import Ended
from kdengine.home import Home
from kdengine.rundir import Attempt, RunDir
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, boot_id, status_of, take_lock
from kdengine.torch_pair import Pair

OK, ADVICE, BROKEN = Level.OK, Level.ADVICE, Level.BROKEN
GIB = 1 << 30
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOUND = Pair("2.6.0", "0.21.0", "==2.6.0", "")
DRIVER = Driver("550.54", (12, 4), ("A card", "A card"))
FAULT = Problem("field", "given", "allowed", "do it")


def levels(found: Finding | Iterable[Finding]) -> list[Level]:
    """The levels, worst last is not sorted: one for each finding, all of them complete."""
    listed = [found] if isinstance(found, Finding) else list(found)
    for finding in listed:
        assert finding.found and (finding.level is OK) == (not finding.do) == (not finding.allowed), finding
    return [finding.level for finding in listed]


CHECKS: dict[str, tuple[Any, list[Level]]] = {
    "python": (doctor.python((3, 11, 7)), [OK]),
    "python, old": (doctor.python((3, 10, 1)), [BROKEN]),
    "packages": (doctor.packages({"a": ">=1,<2", "b": ""}, {"a": "1.9.1+cpu", "b": "0.1"}), [OK]),
    "packages, missing": (doctor.packages({"a": ">=1", "b": ">=1"}, {"a": None, "b": "1"}), [BROKEN]),
    "packages, out of range": (doctor.packages({"a": ">=1,<2", "b": ">=1"}, {"a": "2.0", "b": "0.9.9"}), [ADVICE, ADVICE]),
    "torch": (doctor.torch(Build(SOUND)), [OK]),
    "torch, not in a demo": (doctor.torch(None, needed=False), [OK]),
    "torch, a pair that does not load": (doctor.torch(Build(Pair("2.6.0", "0.20.0", "==2.5.0", "no nms"))), [BROKEN]),
    "torch, missing": (doctor.torch(Build(Pair(None, None, None, "No module named torch"))), [BROKEN]),
    "gpu, none": (doctor.gpu(None, Build(SOUND)), [OK]),
    "gpu": (doctor.gpu(DRIVER, Build(SOUND, "12.6", 2)), [OK]),
    "gpu, newer within the major release": (doctor.gpu(DRIVER, Build(SOUND, "12.9", 2)), [OK]),
    "gpu, torch without CUDA": (doctor.gpu(DRIVER, Build(SOUND, None, 0)), [ADVICE]),
    "gpu, driver too old": (doctor.gpu(DRIVER, Build(SOUND, "13.0", 0)), [BROKEN]),
    "gpu, none is seen": (doctor.gpu(DRIVER, Build(SOUND, "12.4", 0)), [BROKEN]),
    "ffmpeg": (doctor.ffmpeg("ffmpeg version 7"), [OK]),
    "ffmpeg, none": (doctor.ffmpeg(None), [ADVICE]),
    "fonts": (doctor.fonts({"a.otf": 90_000}), [OK]),
    "fonts, missing": (doctor.fonts({"a.otf": 90_000, "b.otf": 0}), [BROKEN]),
    "disk": (doctor.disk(50 * GIB, 100 * GIB, "ext4"), [OK]),
    "disk, low": (doctor.disk(GIB, 100 * GIB, "ext4"), [ADVICE]),
    "disk, full": (doctor.disk(GIB // 100, 100 * GIB, "ext4"), [BROKEN]),
    "disk, of the network": (doctor.disk(50 * GIB, 100 * GIB, "nfs4"), [BROKEN]),
    "disk, of the network and allowed": (doctor.disk(50 * GIB, 100 * GIB, "nfs4", True), [ADVICE]),
    "memory": (doctor.memory(8 * GIB, 16 * GIB, 4, 1), [OK]),
    "memory, low": (doctor.memory(GIB // 2, 16 * GIB, 4, 1), [ADVICE]),
    "memory, more runs than cores": (doctor.memory(8 * GIB, 16 * GIB, 4, 8), [ADVICE]),
    "clock": (doctor.clock(1000, 10, 990), [OK]),
    "clock, no file": (doctor.clock(1000, 10, None), [OK]),
    "clock, before the start": (doctor.clock(1000, 2000, 990), [BROKEN]),
    "clock, files of the future": (doctor.clock(1000, 10, 2000), [ADVICE]),
    "port": (doctor.port(8501, True, None), [OK]),
    "port, taken": (doctor.port(8501, False, None), [ADVICE]),
    "port, the app": (doctor.port(8501, False, {"checks": {"disk": {"ok": True}}}), [OK]),
    "port, the app is not well": (doctor.port(8501, False, {"checks": {"disk": {"ok": False}}}), [BROKEN]),
    "locks": (doctor.locks([Lock("store", False), Lock("store", True, 7, True)]), [OK, OK]),
    "locks, of another machine": (doctor.locks([Lock("store", True, 7, False)]), [ADVICE]),
    "locks, of nobody": (doctor.locks([Lock("queue", True)]), [BROKEN]),
    "runs": (doctor.runs({"finished": 3, "queued": 1}, [], True), [OK]),
    "runs, none": (doctor.runs({}, [], False), [OK]),
    "runs, nobody moves the queue on": (doctor.runs({"queued": 1}, [], False), [ADVICE]),
    "runs, stuck": (doctor.runs({"lost": 12}, [Stuck("r", "lost", "resume it")] * 12, True), [ADVICE] * 11),
    "faults": (doctor.faults("x", [FAULT, FAULT], ""), [BROKEN, BROKEN]),
    "faults, none": (doctor.faults("x", [], "as it should be"), [OK]),
    "secrets": (doctor.secrets({"a": 0o600, "b": 0o400}), [OK]),
    "secrets, none": (doctor.secrets({}), [OK]),
    "secrets, for all to read": (doctor.secrets({"a": 0o644, "b": 0o640, "c": 0o600}), [ADVICE, ADVICE]),
    "backups": (doctor.backups(NOW - timedelta(hours=20), NOW, True, True, []), [OK]),
    "backups, nothing to keep": (doctor.backups(None, NOW, True, False, []), [OK]),
    "backups, old": (doctor.backups(NOW - timedelta(days=5), NOW, True, True, []), [ADVICE]),
    "backups, none": (doctor.backups(None, NOW, True, True, []), [ADVICE]),
    "backups, switched off": (doctor.backups(None, NOW, False, True, []), [ADVICE]),
    "backups, the last failed": (doctor.backups(NOW, NOW, True, True, [FAULT]), [BROKEN, OK]),
    "verified": (doctor.verified(0, "2026-11-21T12:00:00Z"), [OK]),
    "verified, never": (doctor.verified(None, ""), [OK]),
    "verified, with findings": (doctor.verified(3, "2026-11-21T12:00:00Z"), [ADVICE]),
}


@pytest.mark.parametrize(("found", "expected"), CHECKS.values(), ids=list(CHECKS))
def test_a_check(found: Any, expected: list[Level]) -> None:
    assert levels(found) == expected


def test_an_old_driver_is_told_from_one_that_is_barred() -> None:
    old, barred = (doctor.gpu(DRIVER, Build(SOUND, cuda, 0)).do for cuda in ("13.0", "12.4"))
    assert "newer driver" in old and "CUDA_VISIBLE_DEVICES" in barred


@pytest.mark.parametrize(
    ("version", "limits", "fitting"),
    [
        ("2.6.0+cpu", ">=2.6,<3", True), ("2.10", ">=2.6,<3", True), ("3.0rc1", "<3", False), ("2.6", "==2.6.0", True),
        ("2.6.1", "==2.6.0", False), ("1.9", ">=1.10", False), ("5.9.8", ">=5.9.8", True), ("2.0.0", ">=2.0,<2.1", True),
        ("2.1", ">=2.0,<2.1", False), ("1", "!=1.0", False), ("2", ">1.9,<=2.0", True), ("7", "", True),
    ],
)  # fmt: skip
def test_versions_are_compared_as_numbers(version: str, limits: str, fitting: bool) -> None:
    assert doctor.fits(version, limits) is fitting


# ---- facts -------------------------------------------------------------------------------------------------------------------


def test_requirements_are_read_as_they_are_written(tmp_path: Path) -> None:
    found = doctor_facts.requirements(doctor_facts.ROOT / "requirements.txt")
    assert {"torch", "streamlit", "imageio-ffmpeg"} <= found.keys() and found["bar_chart_race"] == "==0.1.0"
    assert found["duckdb"] == ">=2.0,<2.1" and all(found.values())
    assert doctor_facts.requirements(tmp_path / "none.txt").keys() >= {"torch", "duckdb"}, "an installed package has no such file"


def test_our_own_packages_fit() -> None:
    assert levels(doctor_facts._packages(trains=True)) == [OK]


@pytest.fixture
def run(home: Home) -> RunDir:
    return RunDir.create(home, RunSpec())


def attempt(run: RunDir, host: str = "", boot: str = "") -> None:
    run.write_attempt(Attempt(1, 4711, host or platform.node(), boot or boot_id(), "2026-11-21T10:00:00Z", "cpu"))


def test_a_lost_run_is_stuck(home: Home, run: RunDir) -> None:
    attempt(run)
    found = doctor_facts.stuck(run, status_of(run, home), home)
    assert found and "lost" in found.why and found.do.startswith(f"python -m kdengine resume {run.run_id}")


def test_a_run_whose_teacher_is_lost_waits_for_ever(home: Home, run: RunDir) -> None:
    student = RunDir.create(home, RunSpec(method="kd"), teacher_run=run.run_id)
    assert status_of(student, home) is RunStatus.WAITING and doctor_facts.stuck(student, RunStatus.WAITING, home) is None
    attempt(run)
    found = doctor_facts.stuck(student, RunStatus.WAITING, home)
    assert found and run.run_id in found.why and run.run_id in found.do


def test_a_run_of_another_machine_may_be_gone(home: Home, run: RunDir) -> None:
    attempt(run, "elsewhere", "another boot")
    found = doctor_facts.stuck(run, status_of(run, home), home)
    assert found and "elsewhere" in found.why and "cancel" in found.do


def test_a_run_that_says_nothing_any_more_is_stuck(home: Home, run: RunDir) -> None:
    attempt(run)
    handle = take_lock(run)
    assert handle is not None
    try:
        run.write_progress({"phase": "main", "epoch": 1, "epochs": 2, "step": 1, "steps": 2})
        assert status_of(run, home) is RunStatus.RUNNING and doctor_facts.stuck(run, RunStatus.RUNNING, home) is None
        for path in (run.progress_json, run.lock):
            os.utime(path, (time.time() - 7200,) * 2)
        found = doctor_facts.stuck(run, RunStatus.RUNNING, home)
        assert found and "silent for 2.0 h" in found.why
    finally:
        os.close(handle)


def test_a_run_that_is_over_is_not_stuck(home: Home, run: RunDir) -> None:
    run.append_event(Ended(how="finished"))
    assert doctor_facts.stuck(run, status_of(run, home), home) is None


def test_who_holds_the_locks(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "QUEUE_S", 0.1)
    assert doctor_facts.held_locks(home) == [Lock("store", False)]
    with FileLock(home.locks / "store.lock"), FileLock(home.locks / "queue.lock"):
        (home.locks / "store.pid").write_text(str(os.getpid()))
        assert doctor_facts.held_locks(home) == [Lock("store", True, os.getpid(), True), Lock("queue", True)]
        (home.locks / "store.pid").write_text("999999999")
        assert doctor_facts.held_locks(home)[0] == Lock("store", True, 999999999, False)


def test_a_lock_of_a_moment_is_no_finding(home: Home) -> None:
    lock = FileLock(home.locks / "queue.lock", thread_local=False)
    lock.acquire()
    threading.Timer(0.15, lock.release).start()
    assert doctor_facts.held_locks(home) == [Lock("store", False)]


def by_check(found: Iterable[Finding]) -> dict[str, list[Finding]]:
    kept: dict[str, list[Finding]] = {}
    for finding in found:
        kept.setdefault(finding.check, []).append(finding)
    return kept


def test_a_sound_home(home: Home) -> None:
    assert {level for finding in doctor_facts.of_home(home) for level in levels(finding)} <= {OK, ADVICE}, "low memory is advice"


def test_what_is_wrong_with_a_home_is_found(home: Home, run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    home.settings.write_text('{"slots_per_gpu": 0}')
    access.file_of(home).write_text("{")
    os.utime(run.path, (time.time() + 3600,) * 2)
    (home.root / "verify.json").write_text('{"findings": [1, 2], "at": "2026-11-21T12:00:00Z"}')
    doctor_facts.BACKUP.note(home).parent.mkdir(exist_ok=True)
    errands._write(doctor_facts.BACKUP.note(home), began=0, problems=(FAULT,))
    monkeypatch.setattr(startup, "demand_writable", lambda folder: (_ for _ in ()).throw(KdError(FAULT)))
    monkeypatch.setattr(doctor_facts, "_disk", lambda home: 1 / 0)
    found = by_check(doctor_facts.of_home(home))
    expected = {"KD_HOME": [BROKEN], "settings": [BROKEN], "people": [BROKEN], "clock": [ADVICE], "store": [ADVICE],
                "backups": [BROKEN, ADVICE], "runs": [ADVICE], "disk": [BROKEN]}  # fmt: skip
    assert {name: levels(found[name]) for name in expected} == expected
    assert "ZeroDivisionError" in found["disk"][0].found and "queued" in found["runs"][0].found


def test_backups_count_by_their_names(home: Home, run: RunDir) -> None:
    for stamp in ("20200101T000000Z", datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"), "nonsense"):
        (home.root / "backups" / stamp).mkdir(parents=True)
        (home.root / "backups" / stamp / "backup.json").touch()
    assert levels(doctor_facts._backups(home)) == [OK]


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Finding]]:
    """Ask the doctor about an environment, with a folder of its own for Streamlit's files."""
    monkeypatch.setattr(doctor_facts, "ROOT", tmp_path)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".streamlit").mkdir()

    def ask(config: str = "", secrets: str = "", **environ: str) -> list[Finding]:
        (tmp_path / ".streamlit" / "config.toml").write_text(config)
        if secrets:
            (tmp_path / ".streamlit" / "secrets.toml").write_text(secrets)
        return list(doctor_facts._hosting(environ))

    return ask


def test_the_address_without_sign_in(hosted: Callable[..., list[Finding]]) -> None:
    here = '[server]\naddress = "127.0.0.1"\n'
    assert levels(hosted(here)) == [OK]
    assert levels(hosted("")) == [BROKEN], "Streamlit listens everywhere unless told"
    assert levels(hosted(here, STREAMLIT_SERVER_ADDRESS="0.0.0.0")) == [BROKEN]
    assert levels(hosted("", KD_MODE="demo")) == [OK]


def test_sign_in_and_secrets(hosted: Callable[..., list[Finding]], tmp_path: Path) -> None:
    assert levels(hosted(KD_SIGN_IN="proxy")) == [BROKEN]
    assert levels(hosted(secrets='KD_PROXY_SECRET = "' + "s" * 40 + '"\n', KD_SIGN_IN="proxy")) == [OK]
    found = hosted(secrets='[auth]\ncookie_secret = "hush-hush"\n', KD_SIGN_IN="oidc")
    assert set(levels(found)) == {BROKEN} and any("redirect_uri" in finding.found for finding in found)
    assert not any("hush" in str(finding) for finding in found)
    assert "no TOML" in hosted(secrets="[auth")[0].found
    (tmp_path / ".streamlit" / "secrets.toml").chmod(0o644)
    assert levels(doctor.secrets(doctor_facts._rights())) == [ADVICE]


def test_a_broken_torch_does_not_take_the_doctor_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_facts, "_TORCH", "import os; os.abort()")
    assert levels(doctor.torch(doctor_facts.torch_build())) == [BROKEN]
    monkeypatch.setattr(doctor_facts, "_TORCH", "raise SystemExit('operator nms does not exist')")
    assert "nms" in doctor_facts.torch_build().pair.error
    monkeypatch.setattr(doctor_facts, "_TORCH", "print('a warning'); print('[\"12.6\", 2]')")
    found = doctor_facts.torch_build()
    assert (found.cuda, found.sees, found.pair.error) == ("12.6", 2, "")
    monkeypatch.setattr(doctor_facts, "LOAD_S", 0.01)
    assert "did not load within" in doctor_facts.torch_build().pair.error


def test_an_ffmpeg_that_does_not_run_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/false")
    assert doctor_facts.ffmpeg_says() is None
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE")
    assert (doctor_facts.ffmpeg_says() or "").startswith("ffmpeg version")


@pytest.fixture
def listener() -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """A port of this machine, and the answers that it gives, one after the other."""
    answers: list[tuple[int, bytes]] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, body = answers.pop(0)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, answers
        server.shutdown()
        thread.join()


def test_who_listens_on_the_port(listener: tuple[int, list[tuple[int, bytes]]]) -> None:
    port, answers = listener
    well = {"status": "ok", "checks": {"disk": {"ok": True}}}
    answers += [(200, json.dumps(well).encode()), (503, json.dumps(well).encode()), (200, b"<html>"), (200, b"[]"), (404, b"")]
    assert [doctor_facts.health_of(port) for _ in range(5)] == [well, well, None, None, None]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert doctor_facts.health_of(probe.getsockname()[1]) is None


# ---- the command -------------------------------------------------------------------------------------------------------------


def examined(monkeypatch: pytest.MonkeyPatch, found: list[Finding], *words: str) -> int:
    monkeypatch.setattr(doctor_facts, "examine", lambda port: found)
    with pytest.raises(SystemExit) as end:
        cli.main(["doctor", *words])
    return int(end.value.code or 0)


def test_the_command_says_it_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    advice = Finding("disk", ADVICE, "1 GiB free", "2 GiB", "make room")
    broken = Finding("torch", BROKEN, "it does not load", "a pair", "install one")
    assert examined(monkeypatch, [doctor.fine("Python", "3.11"), advice]) == 0
    assert examined(monkeypatch, [broken, advice]) == 1
    said = capsys.readouterr().out
    assert all(word in said for word in ("3.11", "advice", "broken", "next: make room", "allowed: a pair"))
    assert examined(monkeypatch, [broken], "--json") == 1
    assert json.loads(capsys.readouterr().out) == [broken.as_dict()]


@pytest.mark.slow
def test_the_doctor_looks_at_this_very_machine(home: Home) -> None:
    command = [sys.executable, "-m", "kdengine", "doctor", "--json"]
    done = subprocess.run(command, cwd=doctor_facts.ROOT, capture_output=True, text=True, timeout=55, check=False)
    found = json.loads(done.stdout)
    assert {"Python", "packages", "torch", "GPU", "ffmpeg", "fonts", "hosting", "disk", "locks", "backups"} <= {
        f["check"] for f in found
    }
    assert done.returncode == any(finding["level"] == "broken" for finding in found)
    assert all(finding["do"] for finding in found if finding["level"] != "ok")
    assert {finding["check"]: finding["level"] for finding in found}["torch"] == "ok"


def test_a_home_that_cannot_be_used_is_a_finding(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch_build", "ffmpeg_says"):
        monkeypatch.setattr(doctor_facts, name, lambda: None)
    (home.root / "file").touch()
    monkeypatch.setenv("KD_HOME", str(home.root / "file"))
    assert [finding.level for finding in doctor_facts.examine() if finding.check == "KD_HOME"] == [BROKEN]
