"""Measures of a network, against scikit-learn, NumPy and cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, top_k_accuracy_score

from kdengine.evaluate import agreement_frac, cross_entropy, ece_frac, kl, measures_on_test, topk_frac


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(200, 10, generator=generator) * 3, torch.randint(0, 10, (200,), generator=generator)


def test_top_k_and_loss_equal_scikit_learn(sample):
    logits, labels = sample
    probabilities = logits.double().softmax(1).numpy()
    probabilities /= probabilities.sum(1, keepdims=True)
    for k in (1, 5):
        assert topk_frac(logits, labels, k) == pytest.approx(top_k_accuracy_score(labels, probabilities, k=k, labels=range(10)))
    assert cross_entropy(logits, labels) == pytest.approx(log_loss(labels, probabilities, labels=range(10)), rel=1e-9)


def test_calibration_error_equals_a_loop_over_the_bins(sample):
    logits, labels = sample
    p = logits.double().softmax(1).numpy()
    confidence, right = p.max(1), p.argmax(1) == labels.numpy()
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert ece_frac(logits, labels) == pytest.approx(expected, abs=1e-12)


def test_a_sure_and_right_network_has_no_calibration_error_and_a_sure_and_wrong_one_has_all():
    logits = torch.eye(10) * 100
    assert ece_frac(logits, torch.arange(10)) == pytest.approx(0)
    assert ece_frac(logits, (torch.arange(10) + 1) % 10) == pytest.approx(1)


def test_agreement_and_divergence(sample):
    logits, _ = sample
    other = logits.roll(1, dims=0)
    p, q = other.double().softmax(1).numpy(), logits.double().softmax(1).numpy()
    assert kl(logits, other) == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-9)
    assert kl(logits, logits) == pytest.approx(0, abs=1e-12)
    assert agreement_frac(logits, logits) == 1
    assert agreement_frac(logits, other) == pytest.approx((p.argmax(1) == q.argmax(1)).mean())


def test_top_5_is_absent_below_five_classes(sample):
    logits, labels = sample
    assert measures_on_test(logits[:, :4], labels % 4).test_top5_frac is None
    assert measures_on_test(logits[:, :5], labels % 5).test_top5_frac == 1
    assert measures_on_test(logits, labels).agreement_frac is None
