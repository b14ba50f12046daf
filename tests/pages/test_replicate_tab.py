"""The tab that replicates a table: what it offers, what its buttons set in motion, how the table fills."""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

import pytest
from streamlit.testing.v1 import AppTest

from kdengine import replications, runner
from kdengine.home import Home
from kdengine.literature import FIG8
from kdengine.replications import Scale
from kdengine.rundir import RunDir, run_dirs
from kdengine.status import take_lock
from pages.parts import pulse
from pages.parts.compare import replication_words
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded, play
from tests.pages.test_pages import all_text


@pytest.fixture
def figure8(visit: Visit, seeded: Seeded) -> AppTest:
    """The tab with figure 8 at the quick scale, nothing of it trained."""
    return visit("compare", tab="replicate")


def press(app: AppTest, key: str) -> AppTest:
    next(button for button in app.button if button.key == key).click()
    return app.run()


def table_of(app: AppTest) -> Any:
    return app.table[0].value.set_index(replication_words.HEAD)


def trials(scale: Scale, home: Home) -> list[replications.Trial]:
    return replications.complete(replications.trials(FIG8, scale, home))


def fill(home: Home, trial: replications.Trial, frac: float, how: str | None = "finished") -> RunDir:
    with patch("os.fsync"):
        run = RunDir.create(home, trial.spec)
        play(run, [frac] * (trial.spec.epochs if how == "finished" else 3), epochs=trial.spec.epochs, how=how)
    return run


def test_it_says_what_is_missing_and_what_that_takes(figure8: AppTest) -> None:
    assert not figure8.exception and not figure8.error
    text = all_text(figure8)
    assert "2 of 15 runs trained" in figure8.get("progress")[0].proto.text, "two runs of the seeded suite are the very same"
    assert "Train what is missing: 13 runs (" in text
    assert "resnet20 stands for resnet110" in text and "200 images of digits" in text
    shown = table_of(figure8)
    assert list(shown.columns) == ["digits, here", "CIFAR-10, printed", "CIFAR-100, printed"]
    assert shown.loc["resnet110 with resnet20", "CIFAR-10, printed"] == "94.45"
    assert "94.79" in shown.loc["resnet110 with resnet110, second", "CIFAR-10, printed"]


def test_training_queues_only_what_is_missing(visit: Visit, home: Home, seeded: Seeded) -> None:
    for trial in trials(Scale(seeds=1), home)[:2]:
        fill(home, trial, 0.9)
    before = {run.run_id for run in run_dirs(home)}
    app = press(visit("compare", tab="replicate", seeds="1"), "replicate-train")
    pulse.of()._hands.submit(lambda: None).result(timeout=30)
    app.run()
    new = [run.read_request().spec for run in run_dirs(home) if run.run_id not in before]
    assert len(new) == 3 and {spec.suite for spec in new} == {"fig8-quick"} and {spec.method for spec in new} == {"dml"}
    assert "2 of 5 runs trained" in app.get("progress")[0].proto.text
    assert not any(button.key == "replicate-train" for button in app.button), "nothing is offered twice"
    assert "Stop 3 runs" in [button.label for button in app.button]


def test_stop_and_resume_go_through_the_runner(visit: Visit, home: Home, seeded: Seeded, monkeypatch: Any) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(runner, "cancel", lambda home, run_id: asked.append(("stop", run_id)))
    monkeypatch.setattr(runner, "resume", lambda home, run_id: asked.append(("resume", run_id)))
    _, first, second, third, *_ = trials(Scale(seeds=1), home)
    lost, running, queued = fill(home, first, 0.3, None), fill(home, second, 0.5, None), RunDir.create(home, third.spec)
    handle = take_lock(running)
    try:
        app = visit("compare", tab="replicate", seeds="1")
        assert "Resume 1 run" in [b.label for b in app.button] and "Stop 2 runs" in [b.label for b in app.button]
        assert "epoch 3 of 15" in table_of(app).loc["resnet20 with resnet20, first", "digits, here"]
        assert "queued" in table_of(app).loc["resnet110 with resnet20", "digits, here"]
        press(app, "replicate-stop")
        press(app, "replicate-resume")
        pulse.of()._hands.shutdown(wait=True)
    finally:
        assert handle is not None
        os.close(handle)
    assert asked[:2] == [("stop", queued.run_id), ("stop", running.run_id)], "what waits goes first"
    assert asked[2:] == [("resume", lost.run_id)]


def test_the_table_fills_and_claims_are_told(visit: Visit, home: Home, seeded: Seeded) -> None:
    level = {"alone20": 0.60, "alone110": 0.70, "20+20": 0.72, "110+20": 0.80, "110+110": 0.90}
    for trial in trials(Scale(), home):
        fill(home, trial, level[trial.row] + trial.seed / 1000)
    app = visit("compare", tab="replicate")
    shown = table_of(app)
    assert shown.loc["resnet20 alone", "digits, here"] == "60.1\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.1 :gray[resnet8]"
    assert shown.loc["resnet110 with resnet110, first", "digits, here"].startswith("**90.1")
    text = all_text(app)
    assert "Holds here" in text and "6 of 6 comparisons hold beyond seed noise" in text and "In print: 12 of 12" in text
    assert not any(button.key == "replicate-train" for button in app.button)


@pytest.mark.parametrize("scale", list(replications.SCALES))
@pytest.mark.parametrize("table", ["fig7", "networks", "datasets", "crd", "crd-other"])
def test_every_table_at_every_scale(visit: Visit, seeded: Seeded, table: str, scale: str) -> None:
    app = visit("compare", tab="replicate", table=table, scale=scale, seeds="1")
    assert not app.exception and not app.error and len(app.table) == 1
    assert any(button.key == "replicate-train" for button in app.button)
    if scale != "quick":
        assert "is downloaded first" in all_text(app)


def test_a_wrong_link_is_a_message(visit: Visit, seeded: Seeded) -> None:
    app = visit("compare", tab="replicate", table="fig9", scale="fast", seeds="many", data="mnist")
    assert not app.exception and app.table
    said = "\n".join(e.value for e in (*app.error, *app.warning))
    assert "fig9" in said and "fast" in said and "mnist" in said


def test_a_difference_stands_beside_the_printed_number() -> None:
    cell = {"printed_frac": 0.9307, "delta_frac": -0.0032, "mean_frac": 0.9275, "std_frac": 0.001, "n": 2, "running": 0,
            "queued": 0, "stopped": 0, "missing": 1, "finished": 2, "epoch": None, "epochs": None}  # fmt: skip
    text = replication_words._cell(cell, 0.95)
    assert text.replace("\N{NO-BREAK SPACE}", " ") == "92.8 ± 0.1 (n = 2)  \n:gray[printed 93.07, −0.3]"


def test_an_empty_store_leads_there_and_can_start(visit: Visit, home: Home) -> None:
    app = press(visit("compare"), "go-replicate")
    assert not app.exception and app.table and "0 of 15 runs trained" in app.get("progress")[0].proto.text
