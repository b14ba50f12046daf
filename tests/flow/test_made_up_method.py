"""A method that nobody has heard of, dropped as one file into a copy of the package, works everywhere without another edit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
KEY = "made_up"
METHOD = r'''r"""Gap: the student's logits follow the teacher's by absolute differences.

**Matched**: the logits.

**Formula**: L = CE(z_s, y) + beta * mean |z_s - z_t|.

**Source**: invented for a test, 2026.

**Differs**: nothing to differ from.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kdengine.methods import contract
from kdengine.methods._math import ce, exact
from kdengine.methods.contract import Batch, Card, Progress, View, knob

CARD = Card(
    key="made_up",
    title="A made-up method",
    family="response",
    year=2026,
    citation="Nobody, A method that was never published, 2026",
    links=("https://example.org/made-up",),
    one_line="The student's last numbers follow the teacher's, one by one.",
    story=("The teacher gives numbers.", "The student gives numbers.", "Their gaps, without sign, are added up and shrink."),
    analogy="Copying from the blackboard, digit by digit, without asking what it means.",
    formula=r"\mathcal{L} = \mathrm{CE}(z_s, y) + \beta\,|z_s - z_t|",
    fidelity="paper",
)


class Params(contract.Params):
    """How much the gap counts."""

    beta: float = knob(0.5, low=0, high=10, help="weight of the gap", source="invented")


@exact
def made_up(logits_s: Tensor, logits_t: Tensor) -> Tensor:
    """Mean absolute difference of logits ``(B, K)``. Scalar."""
    return (logits_s - logits_t).abs().mean()


LOSSES = (made_up,)


class MadeUp(contract.Method):
    """Labels and the gap."""

    def loss(self, student: View, teacher: Any, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Return the label term and the gap."""
        logits = student.outputs.logits
        return {"ce": ce(logits, batch.y), "gap": self.params.beta * made_up(logits, teacher.outputs.logits)}
'''
GOLDEN = {"cases": [{"loss": KEY, "args": ["ls", "lt"], "kwargs": {}, "value": 1.80594233, "source": "NumPy from the formula"}]}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package and of the tests of methods, with the one new file in it and no golden value yet."""
    for part in ("kdengine", "store", "tests/engine", "tests/golden"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / f"kdengine/methods/{KEY}.py").write_text(METHOD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("KD_HOME", str(tmp_path / "home"))
    return tmp_path


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=240, cwd=folder, env=dict(os.environ), check=False
    )


def test_it_is_found_shown_and_trained(copied: Path) -> None:
    listed = json.loads(python(copied, "-m", "kdengine", "methods", "--json").stdout)
    assert KEY in {m["key"] for m in listed}
    done = python(
        copied, "-m", "kdengine", "run", "--method", KEY, "--dataset", "digits", "--student", "resnet8", "--teacher", "resnet8",
        "--teacher-epochs", "1", "--train-images", "64", "--image-size", "16", "--epochs", "2", "--set", "beta=0.25", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    asked = "select method, status, params from runs where method = 'made_up'"
    rows = json.loads(python(copied, "-m", "store", "sql", asked, "--format", "json").stdout)
    assert [(r["method"], r["status"]) for r in rows] == [(KEY, "finished")] and "0.25" in str(rows[0]["params"])
    asked = "select distinct term from terms join runs using (run_id) where method = 'made_up' order by term"
    assert [r["term"] for r in json.loads(python(copied, "-m", "store", "sql", asked, "--format", "json").stdout)] == [
        "ce",
        "gap",
    ]
    assert python(copied, "-c", f"from kdengine.losses import {KEY}").returncode == 0


def test_all_tests_by_enumeration_take_it_up_and_its_golden_value_is_asked_for(copied: Path) -> None:
    checks = (
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/engine/test_losses.py",
        "tests/engine/test_methods.py",
        "-k",
        KEY,
    )
    without = python(copied, *checks)
    assert without.returncode == 1 and f"tests/golden/{KEY}.json must hold a value of every loss" in without.stdout
    (copied / f"tests/golden/{KEY}.json").write_text(json.dumps(GOLDEN))
    complete = python(copied, *checks)
    assert complete.returncode == 0, complete.stdout[-3000:]
    assert int(complete.stdout.rsplit(" passed", 1)[0].split()[-1]) >= 12
    (copied / f"tests/golden/{KEY}.json").write_text(json.dumps(GOLDEN).replace("1.8059", "1.8058"))
    assert python(copied, *checks).returncode == 1, "a wrong value fails"
