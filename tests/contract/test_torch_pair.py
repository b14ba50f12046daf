"""The check that torch and torchvision fit: what it finds, what it advises. Never: torch in this process."""

from __future__ import annotations

import pytest

from kdengine import torch_pair
from kdengine.torch_pair import CPU_INDEX, Pair, install_command, problem

NMS = "RuntimeError: operator torchvision::nms does not exist"


def test_a_pair_that_loads_is_no_problem() -> None:
    assert problem(Pair("2.15.0", "0.29.2", "==2.15.0", "")) is None


def test_cpu_torch_with_the_registrys_torchvision_is_explained() -> None:
    found = problem(Pair("2.15.0+cpu", "0.29.2", "==2.15.0", NMS), python="python")
    assert found is not None
    assert "torch 2.15.0+cpu with torchvision 0.29.2" in found.given and "nms" in found.given
    assert "torchvision 0.29.2 asks for torch==2.15.0" in found.allowed
    assert f"python -m pip install --force-reinstall torch==2.15.0 torchvision --index-url {CPU_INDEX}" in found.do


def test_cuda_builds_are_installed_from_the_plain_registry() -> None:
    assert "--index-url" not in install_command(Pair("2.15.0", "0.20.0", "==2.5.0", NMS))


@pytest.mark.parametrize(
    ("pair", "missing"),
    [
        (Pair(None, None, None, "ModuleNotFoundError: No module named 'torch'"), "torch and torchvision not installed"),
        (Pair("2.15.0", None, None, "ModuleNotFoundError: No module named 'torchvision'"), "torchvision not installed"),
    ],
)
def test_a_missing_package_is_named(pair: Pair, missing: str) -> None:
    found = problem(pair)
    assert found is not None and missing in found.given and "pip install" in found.do


def test_main_says_all_three_parts_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch_pair, "installed", lambda: Pair("2.15.0+cpu", "0.29.2", None, NMS))
    assert torch_pair.main() == 1
    said = capsys.readouterr().err
    assert [line.split(":")[0] for line in said.splitlines()] == ["given", "allowed", "next"]


@pytest.mark.slow
def test_the_pair_of_this_environment_loads(capsys: pytest.CaptureFixture[str]) -> None:
    assert torch_pair.main() == 0
    assert "load together" in capsys.readouterr().out
