"""What page tests share: the app on a home of the test, empty, seeded, or with something running."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from streamlit.testing.v1 import AppTest

from kdengine import runner
from kdengine.home import Home
from pages.parts import pulse
from tests.pages.seed import Seeded, add_live, seed

APP = Path(__file__).resolve().parents[2] / "app.py"
Visit = Callable[..., AppTest]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count what draws pages as slow, half a second each: ``make check`` draws the first state of each (marked ``once``)."""
    for item in items:
        if "visit" in getattr(item, "fixturenames", ()) and not item.get_closest_marker("once"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def visit(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """Open a page of the app in ``home``: ``visit("run", run=ID)``. Nothing is started; torch loads where a page needs it."""
    monkeypatch.setattr(pulse, "warm_up", lambda: None)
    monkeypatch.setattr(runner, "tick", lambda home: [])

    def open_page(name: str = "home", **query: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(APP), default_timeout=30).run()
        if name != "home":
            app.switch_page(f"pages/{name}.py")
        for key, value in query.items():
            app.query_params[key] = value
        return app.run()

    yield open_page
    pulse.close_all()


@pytest.fixture(scope="session")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seeded]:
    """The finished demo suite, made once and copied for each test."""
    home = Home(tmp_path_factory.mktemp("seeded") / "kd").made()
    with patch("os.fsync"):  # durable is what a test's folder need not be
        return home.runs, seed(home)


@pytest.fixture
def seeded(home: Home, _finished: tuple[Path, Seeded]) -> Seeded:
    """A finished demo suite in ``home``."""
    folder, made = _finished
    shutil.copytree(folder, home.runs, dirs_exist_ok=True)
    return replace(made, other={}, locks=[])


@pytest.fixture
def live(home: Home, seeded: Seeded) -> Iterator[Seeded]:
    """A finished demo suite, and one run of every other status."""
    with patch("os.fsync"):
        add_live(home, seeded)
    yield seeded
    seeded.release()
