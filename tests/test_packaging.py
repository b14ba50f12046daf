"""What ``pip install .`` gives: the packages, the literature's results, the command. Writes: a temporary copy and its wheel."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the checkout stays clean, without a network."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copy(ROOT / name, copy)
    for name in ("kdengine", "store"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "-w", "dist", "."]
    done = subprocess.run(argv, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return next((copy / "dist").glob("*.whl"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this environment was made without pip")
def test_the_wheel_holds_engine_and_store(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        meta = next(name for name in names if name.endswith("METADATA"))
        requires = archive.read(meta).decode()
        points = archive.read(meta.replace("METADATA", "entry_points.txt")).decode()
    wanted = {p.relative_to(ROOT).as_posix() for room in ("kdengine", "store") for p in (ROOT / room).rglob("*.py")}
    assert wanted | {"store/published.csv", "store/demo/home.tar.xz", "kdengine/sizes.json"} <= names
    assert {name.split("/")[0] for name in names} - {"kdengine", "store"} == {meta.split("/")[0]}
    assert "Requires-Dist: torch<3,>=2.6" in requires and "Requires-Dist: duckdb<2.1,>=2.0" in requires
    assert "kdengine = kdengine.cli:" in points


def test_the_command_exists() -> None:
    from kdengine import cli

    assert callable(cli.main)
