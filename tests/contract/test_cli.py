"""The command line: light to start, exact exit codes, faults in three parts, Ctrl-C that kills nothing."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kdengine import runner, terminal
from kdengine.cli import app
from kdengine.errors import Problem, SpecError
from kdengine.home import Home
from kdengine.rundir import RunDir, run_dirs
from kdengine.spec import RunSpec
from kdengine.status import RunStatus, status_of
from kdengine.terminal import clock, sparkline

pytestmark = pytest.mark.usefixtures("fake_worker", "light_check")
Spec = Callable[..., RunSpec]
ROOT = Path(runner.__file__).parents[1]


class _Knobs:
    model_fields = {"T": None, "lambda_kd": None}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the tables room, whatever the terminal that runs the tests."""
    monkeypatch.setattr(terminal.out, "width", 160)


@pytest.fixture
def light_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the heavy rooms, so that these tests load no torch: every spec is fine but one of ``nonsense``."""

    def check(spec: RunSpec, _: Home) -> list[Problem]:
        return [Problem("method", "nonsense", "a method", "choose one")] if spec.method == "nonsense" else []

    def complete(values: dict[str, Any], home: Home) -> tuple[RunSpec, list[Problem]]:
        try:
            spec = RunSpec(**values)
        except SpecError as error:
            raise SpecError(*error.problems, *check(RunSpec(method=values["method"]), home)) from None
        return spec, check(spec, home)

    entry = types.SimpleNamespace(params=_Knobs)
    rooms = {
        "check": {"check": check, "complete": complete, "resolve": lambda spec: spec, "memory_bytes": lambda *_: 51 << 20},
        "methods": {"entries": lambda: {"kd": entry}},
    }
    for name, members in rooms.items():
        module = types.ModuleType(f"kdengine.{name}")
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, f"kdengine.{name}", module)
        monkeypatch.setattr("kdengine." + name, module, raising=False)


def kd(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def shown(result: Result) -> Any:
    return json.loads(result.stdout)


def test_help_is_light_and_lists_the_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kdengine", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    commands = {"run", "suite", "queue", "status", "cancel", "resume", "retry", "label", "methods", "models", "datasets", "demo"}
    assert commands <= set(done.stdout.split())
    assert "torch" not in done.stderr and "pandas" not in done.stderr


@pytest.mark.slow
def test_run_follows_and_exits_0_only_when_finished(home: Home) -> None:
    good = kd("run", "--method", "kd", "--dataset", "digits", "--student", "resnet8", "--teacher", "resnet20",
              "--epochs", "2", "--seed", "1", "--set", "T=4", "--set", "momentum=0.5", "--tag", "a", "--tag", "b")  # fmt: skip
    assert good.exit_code == 0, good.output
    teacher, student = (run.read_request() for run in sorted(run_dirs(home), key=lambda r: r.read_request().created_at))
    assert student.spec.params == {"T": 4} and student.spec.momentum == 0.5 and student.spec.tags == ("a", "b")
    assert teacher.run_id == student.teacher_run
    assert "teacher resnet20 seed 0: epoch 2/2  top-1 90.0" in good.stderr and "finished" in good.stdout
    assert "kd keeps 51 MiB in memory beside the networks" in good.stderr
    bad = kd("run", "--note", '{"fail": "the loss is not finite"}')
    assert bad.exit_code == 1 and "the loss is not finite" in bad.stdout and "hello from" in bad.stdout


def test_every_problem_of_both_kinds_is_shown_at_once(home: Home) -> None:
    result = kd("run", "--method", "nonsense", "--epochs", "0", "--lr", "-1", "--set", "colour=red")
    assert result.exit_code == 2 and run_dirs(home) == []
    assert [word for word in ("epochs", "lr", "method") if f"\n{word}\n" in result.stderr] == ["epochs", "lr", "method"]
    assert result.stderr.count("given") == result.stderr.count("allowed") == result.stderr.count("next") == 3
    assert kd("run", "--method", "kd", "--set", "T").exit_code == 2


def test_json_and_nothing_else_on_stdout(home: Home) -> None:
    queued = shown(kd("run", "--epochs", "1", "--no-follow", "--json"))
    assert queued[0]["run_id"] == run_dirs(home)[0].run_id
    assert shown(kd("run", "--epochs", "1", "--seed", "2", "--json"))[0]["status"] == "finished"
    listed = shown(kd("status", "--json"))
    assert [v["spec"]["seed"] for v in listed] == [0, 2] and shown(kd("queue", "--json")) == []
    assert {card["key"] for card in shown(kd("datasets", "list", "--json"))} > {"digits", "cifar10"}
    assert shown(kd("datasets", "--json"))


def test_status_in_words(home: Home, spec: Spec) -> None:
    assert "demo" in kd("status").stdout
    run_id = runner.launch(home, spec({"fail": "because"}, suite="s"))
    list(runner.follow(home, run_id))
    runner.launch(home, spec({"epoch_s": 9}, seed=3))
    assert "failed" in kd("status").stdout and "running" in kd("queue").stdout
    assert "because" in kd("status", run_id[-6:]).stdout and run_id in kd("status", "--suite", "s").stdout
    unknown = kd("status", "nothing")
    assert unknown.exit_code == 2 and "status` lists them" in unknown.stderr


@pytest.mark.slow
def test_cancel_resume_and_retry(home: Home, spec: Spec) -> None:
    run_id = runner.launch(home, spec({"epoch_s": 0.2}))
    assert kd("cancel", run_id).exit_code == 0 and kd("cancel", run_id).exit_code == 1
    assert kd("resume", run_id).exit_code == 0 and status_of(RunDir(home.runs / run_id), home) is RunStatus.FINISHED
    assert kd("resume", run_id).exit_code == 1
    assert shown(kd("retry", run_id, "--no-follow", "--json"))[0]["retry_of"] == run_id


def test_runs_are_labelled_after_their_launch(home: Home) -> None:
    one, two = (RunDir.create(home, RunSpec(seed=n, tags=("old",))).run_id for n in range(2))
    assert kd("label", one, two, "--tag", "a", "--tag", "b", "--untag", "old", "--note", "[bold] stays").exit_code == 0
    found = shown(kd("label", one, two, "--json"))
    assert found == [{"run_id": run_id, "tags": ["a", "b"], "note": "[bold] stays"} for run_id in (one, two)]
    assert f"{one}  a b  [bold] stays" in kd("label", one).stdout
    assert "a b" in kd("status", one).stdout and "[bold] stays" in kd("status", one).stdout
    wrong = kd("label", one, "--tag", "two words", "--note", "x" * 2001)
    assert wrong.exit_code == 2 and wrong.stderr.count("allowed") == 2 and "Traceback" not in wrong.output
    assert shown(kd("label", one, "--json"))[0]["tags"] == ["a", "b"]
    (home.runs / one / "labels.json").write_text("{")
    assert kd("label", one).exit_code == 2 and kd("status", one).exit_code == 0


def test_suite_is_a_grid_with_shared_teachers(home: Home) -> None:
    result = kd("suite", "mine", "--method", "base", "--method", "kd", "--pair", "resnet20:resnet8", "--seed", "0", "--seed", "1",
                "--epochs", "1", "--set", "kd.T=2", "--set", "batch_size=8", "--json", "--no-follow")  # fmt: skip
    specs = [v["spec"] for v in shown(result)]
    assert [(s["method"], s["seed"], s["params"].get("T"), s["batch_size"]) for s in specs] == [
        ("base", 0, None, 8), ("kd", 0, 2, 8), ("base", 1, None, 8), ("kd", 1, 2, 8),
    ]  # fmt: skip
    assert len(run_dirs(home)) == 5


@pytest.mark.slow
def test_demo_trains_the_suite_once_and_prints_a_leaderboard(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.settings.write_text('{"cpu_slots": 4}')
    monkeypatch.setattr("kdengine.runner.TICK_S", 0.1)
    first = kd("demo")
    assert first.exit_code == 0, first.output
    assert "demo suite" in first.stdout and all(m in first.stdout for m in ("fitnet", "dml", "ban")) and " 2" in first.stdout
    count = len(run_dirs(home))
    assert count == 13 and kd("demo").exit_code == 0 and len(run_dirs(home)) == count


def test_a_lost_teacher_ends_the_watching(home: Home, spec: Spec, becomes: Callable[[str, str], RunDir]) -> None:
    teacher = runner.launch(home, spec({"die": "start"}, student="resnet20"))
    becomes(teacher, "lost")
    result = kd("run", "--method", "kd", "--teacher", "resnet20", "--teacher-run", teacher)
    assert result.exit_code == 1 and "waiting" in result.stdout


@pytest.mark.slow
def test_ctrl_c_stops_watching_not_the_training(home: Home, spec: Spec, until: Callable[..., None]) -> None:
    run_id = runner.launch(home, spec({"die": "epoch", "epoch_s": 0.1}, epochs=3))
    run = RunDir(home.runs / run_id)
    until(lambda: status_of(run, home) is RunStatus.LOST)
    run.spec_json.write_text(run.spec_json.read_text().replace('\\"epoch_s\\": 0.1', '\\"epoch_s\\": 5.0'))
    screen, terminal = pty.openpty()
    watcher = subprocess.Popen(
        [sys.executable, "-m", "kdengine", "resume", run_id], cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ['PYTHONPATH']}", "COLUMNS": "100", "TERM": "xterm"},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored by all that a shell starts with &
    )  # fmt: skip
    os.close(terminal)
    seen = b""
    while b"left" not in seen and b"running" not in seen:
        seen += os.read(screen, 4096)
    until(lambda: status_of(run, home) is RunStatus.RUNNING)
    watcher.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):  # the terminal closes with its last process
        while watcher.poll() is None:
            seen += os.read(screen, 4096)
    assert watcher.wait() == 130 and b"cancel" in seen and run_id[-6:].encode() in seen
    assert status_of(run, home) is RunStatus.RUNNING
    os.close(screen)


def test_words_of_the_terminal() -> None:
    assert [clock(s) for s in (None, 0, 65.4, 3723)] == ["-", "0:00", "1:05", "1:02:03"]
    assert sparkline([]) == "" and sparkline([0, 0.5, 1.0]) == "▁▅█" and len(sparkline([0.5] * 200)) == 20


def test_a_reader_that_goes_away_is_no_fault(home: Home) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "kdengine", "status", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as done:
        assert done.stdout is not None and done.stderr is not None
        done.stdout.close()
        assert (done.stderr.read(), done.wait(timeout=50)) == (b"", 1)
