"""What every room's tests share: a home of their own. Reads / writes: the test's temporary folder. Never: the user's home."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdengine.home import Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An empty home in a temporary folder; ``KD_HOME`` names it, also for processes that the test starts."""
    root = tmp_path / "kd"
    monkeypatch.setenv("KD_HOME", str(root))
    return Home(root).made()


@pytest.fixture(autouse=True)
def _never_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that forgets the ``home`` fixture still cannot touch ``~/.kd``."""
    monkeypatch.setenv("KD_HOME", str(tmp_path / "kd"))
