"""The paper's script of two lines, from a folder of its own, with real workers; and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdengine import runner
from kdengine.events import EpochEnded
from kdengine.rundir import RunDir, run_dirs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(runner.__file__).parents[1]
COMMON = ("--data_name", "digits", "--epochs", "1", "--num_class", "10", "--cuda", "0", "--print_freq", "1")


@pytest.fixture
def script(home, tmp_path):
    """Return a maker of runs: ``script("train_base", flags...)`` runs a script of two lines in an empty folder."""
    folder = tmp_path / "mine"
    folder.mkdir()

    def run(function, *flags):
        (folder / "test.py").write_text(f"import kdengine\nkdengine.{function}()\n")
        known = {r.run_id for r in run_dirs(home)}
        command = [sys.executable, "test.py", *COMMON, *flags]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        (run,) = [r for r in run_dirs(home) if r.run_id not in known]
        assert f"finished: {run.run_id}" in done.stdout and "epoch 1/1" in done.stderr
        return run

    return run


def curve(run: RunDir):
    return [(e.phase, e.epoch, e.measures, e.terms) for e in run.read_events()[0] if isinstance(e, EpochEnded)]


def test_published_commands_follow_one_another(script, tmp_path):
    base = script("train_base", "--net_name", "resnet8", "--save_root", "./results/base/", "--note", "base-r8")
    left = tmp_path / "mine/results/base/base-r8"
    assert {p.name for p in left.iterdir()} == {"model_best.pth.tar", "initial_r8.pth.tar", "log.txt"}
    pair = ("--t_name", "resnet8", "--s_name", "resnet8", "--kd_mode", "st", "--lambda_kd", "0.1")
    by_files = script("train_kd", *pair, "--t_model", "./results/base/base-r8/model_best.pth.tar",
                      "--s_init", "./results/base/base-r8/initial_r8.pth.tar")  # fmt: skip
    by_run = script("train_kd", *pair, "--t_model", base.run_id, "--s_init", "")
    assert by_run.read_request().teacher_run == base.run_id
    # the best weights are the teacher either way, and the initial weights are those that the seed gives
    assert curve(by_files) == curve(by_run) and [phase for phase, *_ in curve(by_run)] == ["main"]
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {"test.py", "results"}
