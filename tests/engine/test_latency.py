"""How long a network takes here: measured in this process on two small networks, kept, read back, and shown by the command."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from kdengine import latency, models
from kdengine.cli import app
from kdengine.home import Home

PAIR = ("resnet8", "resnet56")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes over small batches, two networks instead of all."""
    monkeypatch.setattr(latency, "BATCHES", (1, 4))
    monkeypatch.setattr(latency, "ENOUGH_S", 0.02)
    monkeypatch.setattr(models, "keys", lambda: PAIR)


def test_what_was_measured_is_kept_with_where_and_when(home: Home, quick: None) -> None:
    seen: list[tuple[str, int, int]] = []
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    measured = latency.measure(home, lambda *at: seen.append(at))
    assert seen == [("resnet8", 0, 2), ("resnet56", 1, 2)]
    assert latency.read(home) == measured and list(home.root.glob(".latency*")) == []
    assert set(measured.networks) == set(PAIR) and set(measured.networks["resnet8"]) == {1, 4}
    for found in measured.networks.values():
        for timing in found.values():
            assert 0 < timing.low_ms <= timing.ms <= timing.high_ms and latency.LEAST <= timing.n <= latency.REPEATS
    assert measured.networks["resnet56"][1].ms > measured.networks["resnet8"][1].ms, "seven times as many layers"
    assert measured.machine and measured.torch == torch.__version__ and 0 <= measured.foreign_frac <= 1
    assert measured.machine in measured.summary() and "1 thread" in measured.summary()
    assert torch.get_num_threads() == threads and torch.equal(torch.random.get_rng_state(), state)


def test_other_work_on_the_machine_is_said(home: Home, quick: None) -> None:
    measured = latency.measure(home, keys=["resnet8"])
    quiet, busy = (measured.model_copy(update={"foreign_frac": frac}).summary() for frac in (0.02, 0.4))
    assert "other work" not in quiet and "other work took 40 % of the machine" in busy


def test_nothing_or_nonsense_is_no_measurement(home: Home) -> None:
    assert latency.read(home) is None
    latency.path_of(home).write_text('{"at": 1}')
    assert latency.read(home) is None


def test_the_command_measures_and_lists(home: Home, quick: None) -> None:
    run = CliRunner()
    refused = run.invoke(app, ["networks"])
    assert refused.exit_code == 2 and "networks --measure" in refused.output
    done = run.invoke(app, ["networks", "--measure", "--json"])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert [row["key"] for row in rows] == list(PAIR) and rows[0]["batch_1_ms"] > 0
    assert "resnet56" in run.invoke(app, ["networks"]).output
