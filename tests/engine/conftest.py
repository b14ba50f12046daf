"""A small real training for the tests of the engine: 128 digits, 16 x 16, two epochs, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kdengine import check, networks
from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from kdengine.train import Setting

SMALL: dict[str, Any] = {
    "train_images": 128, "image_size": 16, "epochs": 2, "batch_size": 32, "device": "cpu", "precision": "fp32", "seed": 1,
}  # fmt: skip


@pytest.fixture
def two_threads():
    """Leave torch's number of threads as it was: a resumed run sets its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def teacher_file(tmp_path) -> str:
    """The weights of a teacher that never learnt anything: enough to teach in a test."""
    file = tmp_path / "teacher.safetensors"
    if not file.exists():
        networks.save_weights(networks.build("resnet14", 10, 16, {}, 5, 0.1), file)
    return str(file)


@pytest.fixture
def small(home: Home, teacher_file: str, two_threads: None) -> Callable[..., Setting]:
    """Return a function that makes a run folder for a small training of any method and the setting to train it."""

    def make(**changes: Any) -> Setting:
        values = SMALL | {"student": "resnet8"} | changes
        spec = check.resolve(RunSpec(**values))
        short = {name: 2 for name in spec.params if name.endswith("_epochs") and name not in changes.get("params", {})}
        spec = spec.but(params=spec.params | short)
        if check.uses_teacher(spec):
            spec = spec.but(teacher="resnet14" if spec.generation == 0 else "resnet8", teacher_weights=teacher_file)
            if spec.generation:
                spec = spec.but(student="resnet14", teacher="resnet14")
        problems = check.check(spec, home)
        assert not problems, problems
        return Setting(home, RunDir.create(home, spec, teacher_run=None), spec)

    return make
