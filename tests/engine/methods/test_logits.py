"""Logit regression against NumPy, and its weights. Reads / writes: nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdengine import losses
from tests.engine.scene import Scene


def test_logits_against_numpy() -> None:
    rng = np.random.default_rng(7)
    s, t = rng.standard_normal((6, 13)), rng.standard_normal((6, 13))
    expected = ((s - t) ** 2).sum() / (6 * 13)
    assert losses.logits(torch.tensor(s), torch.tensor(t)).item() == pytest.approx(expected, rel=1e-12)


def test_weights_of_logit_regression() -> None:
    default, paper = Scene("logits", {}).terms(), Scene("logits", {"lambda_ce": 0, "lambda_kd": 5}).terms()
    assert paper["ce"] == 0 and default["ce"] > 0
    assert paper["logits"].item() == pytest.approx(50 * default["logits"].item(), rel=1e-6)


def test_a_constant_added_to_all_scores_counts() -> None:
    z = torch.arange(12.0).reshape(3, 4)
    assert losses.logits(z, z + 2).item() == pytest.approx(4)
