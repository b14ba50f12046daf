"""Commands that the app starts beside itself: one at a time, watched, stopped, and honest about how they ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from kdengine import errands
from kdengine.errands import Errand, Recorder, Standing
from kdengine.errors import KdError, RunBusy
from kdengine.home import Home
from tests.contract.fake_errand import TOY

Begin = Callable[..., bool]


@pytest.fixture
def begin(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Start the toy errand with a plan; whatever is left of it at the end is killed."""
    monkeypatch.setenv(errands.MODULE, "fake_errand")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def start(**plan: object) -> bool:
        monkeypatch.setenv("FAKE_ERRAND", json.dumps(plan))
        return errands.start(home, TOY)

    yield start
    errands.cancel(home, TOY, grace_s=0)
    for process in errands._started:
        process.wait(timeout=5)
    errands._reap()


def test_it_is_watched_from_start_to_end(home: Home, begin: Begin, until: Callable[..., None]) -> None:
    assert errands.standing(home, TOY) == Standing(False), "nobody has asked for it yet"
    assert begin(takes_s=0.5)
    assert errands.standing(home, TOY).going, "from the moment of the start, though its process has not said a word"
    until(lambda: errands.standing(home, TOY).done == 10)
    now = errands.standing(home, TOY)
    assert (now.step, now.share) == ("work", 0.25)
    until(lambda: not errands.standing(home, TOY).going)
    assert errands.standing(home, TOY) == Standing(False) and not (home.root / "begun").exists()
    assert "has begun" in TOY.log(home).read_text()


def test_two_clicks_start_it_once(home: Home, begin: Begin) -> None:
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(begin(takes_s=5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "given"), [("kd", "a lamp"), ("os", "No space left"), ("other", "ZeroDivisionError: by zero")])
def test_a_fault_is_kept_in_three_parts_until_the_next_start(
    home: Home, begin: Begin, until: Callable[..., None], fault: str, given: str
) -> None:
    begin(fault=fault)
    until(lambda: not errands.standing(home, TOY).going)
    (problem,) = errands.standing(home, TOY).problems
    assert given in problem.given and problem.allowed and problem.do
    begin(takes_s=0.2)
    assert errands.standing(home, TOY).problems == ()
    until(lambda: errands.standing(home, TOY) == Standing(False))


def test_one_that_was_killed_says_so(home: Home, begin: Begin, until: Callable[..., None]) -> None:
    begin(takes_s=20)
    until(lambda: errands.standing(home, TOY).step == "work")
    os.kill(int(TOY.lock(home).read_text()), signal.SIGKILL)
    until(lambda: not errands.standing(home, TOY).going)
    (problem,) = errands.standing(home, TOY).problems
    assert "without a word" in problem.given and "the errand has begun" in problem.given


def test_stopping_clears_what_was_begun(home: Home, begin: Begin, until: Callable[..., None]) -> None:
    begin(takes_s=20)
    until((home.root / "begun").exists)
    errands.cancel(home, TOY)
    assert errands.standing(home, TOY) == Standing(False) and not (home.root / "begun").exists()


def test_one_that_does_not_listen_is_killed(home: Home, begin: Begin, until: Callable[..., None]) -> None:
    begin(takes_s=20, deaf=True)
    until(lambda: errands.standing(home, TOY).step == "work")
    errands.cancel(home, TOY, grace_s=0.2)
    assert errands.standing(home, TOY) == Standing(False), "nothing to explain: it was wished"


def test_a_process_of_another_errand_is_not_signalled(home: Home) -> None:
    with Recorder(home, TOY):  # held by this process, whose command line is not that of the errand
        with pytest.raises(RunBusy, match="stop it there"):
            errands.cancel(home, TOY)
        with pytest.raises(RunBusy, match="one at a time"), Recorder(home, TOY):
            pass
        assert errands.start(home, TOY) is False
    assert errands.standing(home, TOY) == Standing(False)


def test_reports_are_written_now_and_then(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (written.append(str(to)), real(self, to))[1])
    with Recorder(home, TOY) as note:
        note.step("work", 1000)
        for i in range(1000):
            note(i, 1000)
        assert errands.standing(home, TOY).going
    assert len(written) <= 4
    monkeypatch.undo()
    with contextlib.suppress(KdError), Recorder(home, TOY):
        raise KdError.of("a", "b", "c")
    assert errands.standing(home, TOY).problems[0].do == "c"
    errands.forget(home, TOY)
    assert errands.standing(home, TOY) == Standing(False)


def test_time_left_follows_the_speed_so_far() -> None:
    assert Standing(True, "download", 25, 100, step_s=10).left_s == 30
    assert Standing(True, "download", 1, 100, step_s=10).left_s is None, "too early to tell"
    assert Standing(True, "download", 5, 0, step_s=10).share == 0
    assert Standing(True, "download", 120, 100, step_s=10).left_s == 0


def test_looking_costs_little(home: Home, begin: Begin) -> None:
    begin(takes_s=3)
    start = time.perf_counter()
    for _ in range(100):
        errands.standing(home, TOY)
    assert time.perf_counter() - start < 0.5


# ---- commands of other packages, and processes that die early or leave others behind -----------------------------------------


@pytest.fixture
def script(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Errand]]:
    """Make a package of one line, and return the errand that it does."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made: list[Errand] = []

    def write(text: str, **environment: str) -> Errand:
        (tmp_path / "packages_own.py").write_text(text)
        made.append(Errand("own", ("own", "--of", "test"), "packages_own", environment))
        return made[-1]

    yield write
    for errand in made:
        errands.cancel(home, errand, grace_s=0)
    for process in errands._started:
        process.wait(timeout=5)
    errands._reap()


def test_another_package_does_it_and_is_told_what_it_needs(
    home: Home, script: Callable[..., Errand], until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KD_TOLD", "by the server")
    monkeypatch.setenv("KD_PROXY_SECRET", "canary" * 8)
    told = (
        "import os, sys; secret = os.environ.get('KD_PROXY_SECRET', 'no secret')\n"
        "open('told', 'w').write(' '.join([os.environ['KD_TOLD'], os.environ['KD_HOME'], secret, *sys.argv[1:]]))"
    )
    errand = script(told, KD_TOLD="by the errand", KD_HOME="nowhere")
    errands.start(home, errand)
    until(lambda: (home.root / "told").exists() and (home.root / "told").read_text())
    assert (home.root / "told").read_text() == f"by the errand {home.root} no secret own --of test"
    assert os.environ["KD_TOLD"] == "by the server"


def test_one_that_dies_before_its_first_word_is_found_out(
    home: Home, script: Callable[..., Errand], until: Callable[..., None]
) -> None:
    errand = script("import nothing_of_this_name")
    errands.start(home, errand)
    until(lambda: not errands.is_going(home, errand))
    (problem,) = errands.standing(home, errand).problems
    assert "without a word" in problem.given and "nothing_of_this_name" in problem.given


def test_one_that_cannot_be_started_says_so(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(home.root / "no-python"))
    with pytest.raises(OSError):
        errands.start(home, TOY)
    now = errands.standing(home, TOY)
    assert not now.going and "No such file" in now.problems[0].given


HIDES_A_CHILD = """
import signal, subprocess, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
Path("hidden").write_text(str(child.pid))
time.sleep(60)
"""


def test_what_a_killed_one_had_started_does_not_go_on(
    home: Home, script: Callable[..., Errand], until: Callable[..., None]
) -> None:
    errand = script(HIDES_A_CHILD)
    errands.start(home, errand)
    until(lambda: (home.root / "hidden").exists() and (home.root / "hidden").read_text())
    errands.cancel(home, errand, grace_s=0.1)
    until(lambda: not _runs(int((home.root / "hidden").read_text())))


@pytest.mark.parametrize("away_s", [864_000, -864_000], ids=["forwards", "backwards"])
def test_setting_the_clock_does_not_change_how_long_a_step_takes(
    home: Home, begin: Begin, until: Callable[..., None], monkeypatch: pytest.MonkeyPatch, away_s: int
) -> None:
    begin(takes_s=20)
    until(lambda: errands.standing(home, TOY).done == 10)
    truth = time.time
    monkeypatch.setattr(time, "time", lambda: truth() + away_s)
    before = errands.standing(home, TOY).step_s
    until(lambda: before < errands.standing(home, TOY).step_s < 20)


def test_a_disk_too_full_to_name_the_process_does_not_lose_sight_of_it(
    home: Home, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        assert begin(takes_s=0.2)
    assert errands._started, "it is taken leave of when it has gone"


def test_one_that_has_just_begun_is_waited_for(home: Home, begin: Begin) -> None:
    """Between taking the lock and naming its holder lies a moment; stopping then must not look like somebody else's errand."""
    begin(takes_s=20)
    pid = TOY.lock(home).read_text()
    TOY.lock(home).write_text("")
    later = threading.Timer(0.1, TOY.lock(home).write_text, (pid,))
    later.start()
    errands.cancel(home, TOY)
    later.join()
    assert errands.standing(home, TOY) == Standing(False) and not _runs(int(pid))


LEAVES_SLOWLY = """
import time
from kdengine.errands import Errand, Recorder
from kdengine.home import Home
try:
    with Recorder(Home.find(), Errand("own", ("own", "--of", "test"))) as note:
        note.step("work")
        time.sleep(60)
finally:
    time.sleep(0.5)
"""


def test_stopping_returns_when_the_process_is_gone_not_only_its_lock(
    home: Home, script: Callable[..., Errand], until: Callable[..., None]
) -> None:
    errand = script(LEAVES_SLOWLY)
    errands.start(home, errand)
    until(lambda: errands.standing(home, errand).step == "work")
    pid = int(errand.lock(home).read_text())
    errands.cancel(home, errand)
    assert not _runs(pid)


def test_nothing_is_left_of_an_erased_one(home: Home) -> None:
    with contextlib.suppress(KdError), Recorder(home, TOY):
        errands.erase(home, TOY)  # under way: nothing happens
        assert TOY.note(home).exists() and TOY.lock(home).exists()
        raise KdError.of("a", "b", "c")
    TOY.log(home).write_text("said")
    errands.erase(home, TOY)
    assert not any(path.exists() for path in (TOY.note(home), TOY.log(home), TOY.lock(home)))


def test_a_lock_that_is_erased_while_somebody_waits_for_it_is_not_taken_for_held(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has opened a lock file that is then removed would hold a lock that nobody else can see."""
    real, erased = os.open, []

    def open_then_erase(path: Path, *rest: int) -> int:
        handle = real(path, *rest)
        if not erased:
            erased.append(TOY.lock(home).unlink())
        return handle

    monkeypatch.setattr(os, "open", open_then_erase)
    with Recorder(home, TOY):
        assert erased and errands.is_going(home, TOY)


def _runs(pid: int) -> bool:
    """Say whether a process is there and more than a zombie."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
