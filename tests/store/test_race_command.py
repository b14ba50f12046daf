"""``python -m store race`` as a user meets it: a file comes out, or every fault at once. Never: a queue."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from kdengine.errors import KdError
from kdengine.home import Home
from store.__main__ import app
from store.export.race import command
from store.export.race.order import Order
from store.export.race.render import Made, Report
from tests.store.conftest import MakeRun
from tests.store.killing import INTAKE, ROOT

TABLE = "epoch,kd,my method\n1,60,65\n2,70.5,68\n3,72,75\n"
SMALL = ("--width", "320", "--height", "200", "--hold", "0")


def race(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["race", *map(str, words)])


def faults(*words: str | Path) -> str:
    """Return what the command refuses, in its own words."""
    done = race(*words)
    assert isinstance(done.exception, KdError), done.output
    assert all(problem.given and problem.allowed and problem.do for problem in done.exception.problems)
    return str(done.exception)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "epochs.csv"
    path.write_text(TABLE, encoding="utf-8")
    return path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """Orders that would have been drawn."""
    seen: list[Order] = []

    def render(order: Order, out: Path, *, poster: Path | None = None, report: Report | None = None) -> Made:
        seen.append(order)
        return Made(7, 1.25, 2_500_000)

    monkeypatch.setattr("store.export.race.render.render", render)
    return seen


# ---- what is drawn ---------------------------------------------------------------------------------------------------------


def test_a_table_becomes_a_gif(table: Path, tmp_path: Path) -> None:
    done = race("--csv", table, "--out", tmp_path / "x.GIF", *SMALL, "--steps", "4")
    assert done.exit_code == 0 and done.stdout == "", done.output
    assert re.search(r"x\.GIF: 9 frames, 0\.5 s, 320x200, 0\.\d\d MB, drawn in \d+\.\d s", done.stderr), done.stderr
    with Image.open(tmp_path / "x.GIF") as picture:
        assert picture.size == (320, 200) and picture.n_frames == 9  # type: ignore[attr-defined]


def test_nothing_held_means_each_frame_once(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.mp4"
    done = race("--csv", table, "--out", out, *SMALL, "--fps", "20", "--steps", "10")
    assert done.exit_code == 0, done.output
    assert imageio_ffmpeg.count_frames_and_secs(str(out))[0] == (3 - 1) * 10 + 1


def test_usual_sizes_and_what_is_said(table: Path, tmp_path: Path, drawn: list[Order]) -> None:
    said = {name: race("--csv", table, "--out", tmp_path / f"x.{name}").stderr for name in command.FORMATS}
    looks = {order.options.format: (order.options.width, order.options.height, order.options.fps) for order in drawn}
    assert looks == {"mp4": (1280, 720, 30), "gif": (800, 450, 20), "png": (1280, 720, 30)}
    assert said["mp4"].endswith("x.mp4: 7 frames, 6.5 s, 1280x720, 2.50 MB, drawn in 1.2 s\n")
    assert said["png"].endswith("x.png: 1280x720, 2.50 MB, drawn in 1.2 s\n")


def test_every_option_arrives(table: Path, tmp_path: Path, drawn: list[Order]) -> None:
    words = (
        "--width 640 --height 360 --fps 25 --steps 3 --hold 1.5 --top 5 --axis zero --from 50 --decimals 2 --easing linear "
        "--theme dark --kind lines --highlight kd --mode best --lower --no-caption"
    )  # fmt: skip
    done = race("--csv", table, "--out", tmp_path / "x.mp4", *words.split(), "--title", "T", "--subtitle", "S", "--unit", " nats",
                "--measure", "loss", "--highlight", "my method")  # fmt: skip
    assert done.exit_code == 0, done.output
    (order,) = drawn
    assert order.options.model_dump() == {
        "kind": "lines", "format": "mp4", "width": 640, "height": 360, "fps": 25, "steps": 3, "hold_s": 1.5, "top": 5,
        "axis": "zero", "axis_from": 50, "decimals": 2, "easing": "linear", "theme": "dark", "caption": False,
        "highlight": ("kd", "my method"),
    }  # fmt: skip
    assert (order.title, order.subtitle, order.unit, order.measure, order.lower_is_better) == ("T", "S", " nats", "loss", True)
    assert order.racers[0].values == (60, 60, 60)


def test_a_table_is_drawn_as_given(table: Path, tmp_path: Path, drawn: list[Order]) -> None:
    race("--csv", table, "--out", tmp_path / "x.mp4")
    (order,) = drawn
    assert [racer.values for racer in order.racers] == [(60, 70.5, 72), (65, 68, 75)]
    assert order.title == "Epochs" and order.options.caption and not order.lower_is_better


@pytest.fixture
def suite(home: Home, make_run: MakeRun) -> str:
    for seed in range(2):
        make_run(method="kd", teacher="resnet20", seed=seed, suite="mine", top1=[0.5, 0.7, 0.6 + seed / 10])
    make_run(method="base", suite="mine", top1=[0.4, 0.5, 0.6])
    return "mine"


def test_a_suite_becomes_a_race(suite: str, tmp_path: Path, drawn: list[Order]) -> None:
    for words in ([suite], ["*"], [suite, "--metric", "test_loss", "--mode", "raw", "--seeds", "0", "--subtitle", "S"],
                  [suite, "--column", "digits-resnet20-resnet8"]):  # fmt: skip
        done = race("--suite", *words, "--out", tmp_path / "x.gif")
        assert done.exit_code == 0, (done.output, done.exception)
    first, every, losses, column = drawn
    assert [racer.name for racer in first.racers] == ["kd", "base"] and first.racers[0].values[-1] == 70
    assert every == first == column and "of suite mine" in first.caption
    assert losses.lower_is_better and losses.subtitle == "S" and "seed 0" in losses.caption


@pytest.mark.slow
def test_a_suite_beside_the_running_app(suite: str, tmp_path: Path) -> None:
    """The app holds the results: the command reads what it publishes."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "store", "race", "--suite", suite, "--out", str(tmp_path / "x.png")]
    with subprocess.Popen([sys.executable, "-c", INTAKE], stdout=subprocess.PIPE, env=environment) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == b"ready\n"
            for _ in range(10):  # until it has published
                done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=50, check=False)
                if done.returncode == 0:
                    break
            assert done.returncode == 0 and "x.png: 1280x720" in done.stderr, done.stderr
        finally:
            server.kill()


# ---- what is refused -------------------------------------------------------------------------------------------------------


def test_all_faults_of_the_words_come_at_once(table: Path, tmp_path: Path) -> None:
    said = faults("--csv", table, "--suite", "demo", "--out", "x.webm", "--width", "801", "--theme", "pink")
    for part in ("--csv and --suite", "one of --csv TABLE and --suite NAME", "x.webm, which ends in .webm", ".mp4, .gif, .png",
                 "for example x.mp4", "width", "an even number", "theme"):  # fmt: skip
        assert part in said
    assert "neither --csv nor --suite" in faults() and "no file to make" in faults()
    assert "which ends in nothing" in faults("--csv", table, "--out", "race")
    assert "folder that exists" in faults("--csv", table, "--out", tmp_path / "no" / "x.mp4")
    assert "up to 50 for a GIF" in faults("--csv", table, "--out", tmp_path / "x.gif", "--fps", "60")
    assert not list(tmp_path.glob("x.*"))


def test_what_a_suite_or_a_table_does_not_need_is_refused(table: Path, tmp_path: Path, home: Home) -> None:
    out = tmp_path / "x.mp4"
    said = faults("--csv", table, "--out", out, "--metric", "test_loss", "--seeds", "mean", "--column", "a-b")
    assert "--metric, --seeds, --column: given together with --csv; allowed: only with --suite" in said
    said = faults("--suite", "demo", "--out", out, "--unit", "%", "--higher", "--measure", "x")
    assert "--unit, --lower, --measure: given together with --suite; allowed: only with --csv" in said


def test_faults_of_what_is_read_arrive(table: Path, tmp_path: Path, home: Home) -> None:
    out = tmp_path / "x.mp4"
    assert "did you mean" in faults("--csv", table.with_name("epoch.csv"), "--out", out)
    assert "names of the racers" in faults("--csv", table, "--out", out, "--highlight", "nobody")
    assert "no suite is there yet" in faults("--suite", "demo", "--out", out)
    assert "mode 'last'" in faults("--suite", "demo", "--out", out, "--mode", "last")


@pytest.mark.slow
def test_a_fault_reaches_the_terminal_without_traceback(table: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "store", "race", "--csv", str(table), "--out", "x.webm"],
        capture_output=True, text=True, cwd=ROOT, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    assert "allowed: .mp4, .gif, .png" in done.stderr and "next: for example x.mp4" in done.stderr


# ---- around it -------------------------------------------------------------------------------------------------------------


def test_an_order_of_the_queue_is_handed_on(monkeypatch: pytest.MonkeyPatch, home: Home) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("store.export.race.exports.draw_ordered", lambda home, key: seen.append((home.root, key)))
    assert race("--order", "abc").exit_code == 0 and seen == [(home.root, "abc")]


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with command._shown() as report:
        assert report is None
    monkeypatch.setenv("FORCE_COLOR", "1")
    with command._shown() as report:
        assert report is not None
        report(1, 2)
        report(0, 0)
    assert "drawing" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["--help"], {"numpy", "pandas", "duckdb", "matplotlib"}),
        (["race", "--help"], {"numpy", "pandas", "duckdb", "matplotlib"}),
        (["race", "--csv", "no.csv", "--out", "x.mp4"], {"pandas", "duckdb", "matplotlib"}),
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(words: list[str], absent: set[str]) -> None:
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "store", *words], capture_output=True, text=True, cwd=ROOT,
                          timeout=50, check=False)  # fmt: skip
    loaded = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "typer" in loaded and not loaded & (absent | {"torch", "streamlit"})
