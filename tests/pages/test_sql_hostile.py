"""Hostile statements through the page itself: it draws every answer and every fault, and no process of it runs app.py again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import pulse
from pages.parts.sql import asking, links
from store.questions import Questions
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded
from tests.store.hostile import CLASSES

DRAWN = ("harmless though it looks otherwise", "large answers, strange types, talking errors")  # many of these: they have answers
SAMPLE = [attack for name in DRAWN for attack in CLASSES[name][::2]]
SAMPLE += [attack for name in sorted(set(CLASSES) - set(DRAWN)) for attack in CLASSES[name][1::25]]


def follow(app: AppTest, sql: str) -> AppTest:
    """Open a statement's link in the session, and look until it is answered."""
    app.query_params.clear()
    for name, value in links.packed(sql).items():
        app.query_params[name] = value
    app.run()
    end = time.monotonic() + 60
    while any(button.key == "cancel-question" for button in app.button):
        assert time.monotonic() < end, sql[:200]
        time.sleep(0.05)
        app.run()
    return app


@pytest.mark.slow
def test_the_page_draws_whatever_comes_back(
    visit: Visit, seeded: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LIMIT_S", 2.0)
    places = {"home": pulse.of().home.root, "tmp": tmp_path, "secret": tmp_path / "secret.txt", "port": 9, "mark": "kdhostile"}
    asked: list[str] = []
    ask = Questions.ask
    monkeypatch.setattr(
        Questions, "ask", lambda self, sql, *words, **more: [asked.append(sql), ask(self, sql, *words, **more)][1]
    )
    app, sent, drawn = visit("sql"), [], 0
    for attack in SAMPLE:
        sql = attack.sql
        for name, value in places.items():
            sql = sql.replace(f"{{{name}}}", str(value))
        follow(app, sql)
        assert not app.exception, sql[:200]
        assert len(app.dataframe) + len(app.error) == 1, sql[:200]
        sent, drawn = [*sent, sql], drawn + len(app.dataframe)
    assert asked == sent and drawn > 10


@pytest.mark.slow
def test_no_process_of_the_page_runs_the_app_again(
    visit: Visit, seeded: Seeded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python process but an isolated one tells of itself: what ``multiprocessing`` starts would run app.py once more."""
    trap, told = tmp_path / "sitecustomize.py", tmp_path / "told"
    trap.write_text(f"import sys\nwith open({str(told)!r}, 'a') as file: file.write(repr(sys.orig_argv) + '\\n')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    app = visit("sql")
    for sql in ("SELECT count(*) AS n FROM runs", "SELECT 1 AS n", "SELECT nothing"):
        follow(app, sql)
    assert app.error and not told.exists()
    subprocess.run([sys.executable, "-c", "pass"], check=True, env=dict(os.environ))
    assert len(told.read_text().splitlines()) == 1  # the trap works
