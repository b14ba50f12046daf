"""A chain of generations trained one after the other, and the ensemble that the later ones are measured with."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from kdengine import data, generations
from kdengine.events import Ended, EpochEnded, Notice
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from kdengine.train import Setting, train

SMALL = {
    "train_images": 64, "image_size": 16, "epochs": 2, "batch_size": 32, "device": "cpu", "precision": "fp32", "seed": 1,
    "student": "resnet8",
}  # fmt: skip


def trained(home: Home, generation: int, before: RunDir | None) -> tuple[RunDir, list]:
    """Train one generation in this process and leave its folder as a worker would."""
    extra = {"method": "ban", "generation": generation, "teacher": "resnet8"} if generation else {}
    spec = RunSpec(**SMALL, **extra)
    run = RunDir.create(home, spec, teacher_run=before.run_id if before else None)
    events = list(train(Setting(home, run, spec, teacher_run=before.run_id if before else None)))
    for event in [*events, Ended(how="finished")]:
        run.append_event(event)
    return run, events


def last(events) -> EpochEnded:
    return [e for e in events if isinstance(e, EpochEnded)][-1]


@pytest.fixture
def chain(home, two_threads):
    """Generations 0 to 3: their folders and events."""
    runs: list[tuple[RunDir, list]] = []
    for generation in range(4):
        runs.append(trained(home, generation, runs[-1][0] if runs else None))
    return runs


@pytest.mark.slow
def test_from_the_third_network_on_the_generations_are_measured_together(home, chain):
    assert [set(last(events).measures) for _, events in chain] == [{"student"}, {"student"}] + [{"student", "ensemble"}] * 2
    (_, one), (_, two), (_, three) = chain[1:]
    third = chain[3][0]
    assert generations.earlier(home, third.read_request().spec, chain[2][0].run_id) == [chain[2][0].run_id, chain[1][0].run_id]
    # the same again from what the runs left: best weights of generations 1 and 2, the third as it is at its end
    together = last(three).measures["ensemble"]
    found = generations.ensemble(
        home, third.read_request().spec, chain[2][0].run_id, _digits(home), torch.device("cpu"), torch.no_grad
    )
    held = np.load(third.predictions_npz)
    logits = torch.tensor(held["logits_student"]).double()
    mean = (found.probabilities + logits.softmax(1)) / 3
    labels = torch.tensor(held["labels"])
    assert found.members == 2 and together.test_top1_frac == pytest.approx(
        (mean.argmax(1) == labels).double().mean().item(), abs=0.005
    )
    assert together.test_loss == pytest.approx(torch.nn.functional.nll_loss(mean.log(), labels).item(), rel=1e-3)
    assert together.agreement_frac is not None and together.train_loss is None


def _digits(home):
    return data.load(home, "digits", image_size=16, train_images=64, val_frac=0.0)


@pytest.mark.slow
def test_a_generation_that_is_gone_is_said_and_costs_only_the_ensemble(home, chain):
    shutil.rmtree(chain[1][0].path)
    run, events = trained(home, 3, chain[2][0])
    notices = [e.text for e in events if isinstance(e, Notice)]
    assert len(notices) == 1 and "No ensemble" in notices[0] and chain[1][0].run_id in notices[0]
    assert set(last(events).measures) == {"student"}


def test_outside_a_chain_there_are_no_generations(home):
    assert generations.earlier(home, RunSpec(**SMALL), None) == []
    assert generations.earlier(home, RunSpec(**SMALL, method="ban", generation=1, teacher="resnet8"), "whatever") == []
