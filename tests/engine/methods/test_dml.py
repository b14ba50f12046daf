"""Mutual learning of more than two, and whom a gradient reaches. Reads / writes: nothing."""

from __future__ import annotations

import pytest
import torch

from kdengine import models
from tests.engine.scene import CLASSES, Scene, gradients


@pytest.mark.parametrize("peers", [1, 3])
def test_mutual_learning_of_a_cohort(peers: int) -> None:
    scene = Scene("dml", {})
    scene.peers = {f"peer{i + 1}": models.build("resnet8", CLASSES, 16) for i in range(peers)}
    terms = scene.terms()
    assert set(terms) == {"ce", "kl"} | {f"peer{i + 1}/{t}" for i in range(peers) for t in ("ce", "kl")}
    views = [n(scene.x).logits.log_softmax(1) for n in (scene.student, *scene.peers.values())]
    expected = torch.stack([(p.exp() * (p - views[0])).sum(1).mean() for p in views[1:]]).mean()
    torch.testing.assert_close(terms["kl"], expected)


def test_mutual_learning_reaches_only_the_network_named() -> None:
    scene = Scene("dml", {})
    terms = scene.terms()
    (terms["ce"] + terms["kl"]).backward()
    assert gradients(scene.student) > 0 and gradients(scene.peers["peer1"]) == 0
