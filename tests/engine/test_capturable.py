"""Methods whose cards say that a step can be captured: shapes never depend on values, and nothing waits for the device.

Computed on tensors without values: whatever asks for one (``item``, a boolean index, an ``if``) has nothing to answer.
"""

from __future__ import annotations

import warnings

import pytest
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from kdengine import methods
from tests.engine.scene import Scene

CAPTURABLE = {key: entry for key, entry in methods.entries().items() if entry.card.capturable}
PHASES = [(key, phase.name) for key, entry in CAPTURABLE.items() for phase in entry.method.phases(entry.params())]


def step_without_values(key: str, phase: str) -> None:
    scene = Scene(key, {}, phase)
    with FakeTensorMode(allow_non_fake_inputs=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sum(scene.terms().values()).backward()


@pytest.mark.slow
@pytest.mark.parametrize(("key", "phase"), PHASES)
def test_a_step_needs_no_value(key: str, phase: str) -> None:
    step_without_values(key, phase)


def test_the_check_sees_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = methods.get("base").method
    plain = kind.loss
    for asks in (lambda b: b.x.sum().item(), lambda b: b.x[b.x > 0].sum()):
        monkeypatch.setattr(kind, "loss", lambda self, s, t, b, p, asks=asks: plain(self, s, t, b, p) | {"more": asks(b)})
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            step_without_values("base", "main")
