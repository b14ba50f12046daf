"""Every page on an empty, a finished and a live store: it is drawn, says what the store says, and stays light and quick."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kdengine.home import Home
from pages.parts import words
from store import queries
from store.db import Store
from tests.pages.conftest import APP, Visit
from tests.pages.seed import Seeded

# what a page shows by its link: name -> (page, query)
STATES: dict[str, tuple[str, dict[str, str]]] = {
    **{page: (page, {}) for page in ("home", "train", "runs", "run", "methods")},
    **{f"compare {tab}": ("compare", {"tab": tab}) for tab in ("curves", "table", "ranking", "tradeoff", "pair", "replicate")},
    **{
        f"a method's {show}": ("methods", {"method": "kd", "show": show})
        for show in ("results", "play", "knobs", "source", "cite")
    },
    **{f"about {tab}": ("about_networks_data", {"tab": tab}) for tab in ("networks", "data")},
    "race": ("race", {}),
    "sql": ("sql", {}),
    "sql asked": ("sql", {"q": "SELECT status, count(*) AS runs FROM runs GROUP BY ALL", "chart": "bar"}),
    **{f"server {tab}": ("server", {"tab": tab}) for tab in ("health", "people", "storage", "log")},
    "race of losses": ("race", {"kind": "lines", "format": "png", "metric": "test_loss", "axis": "from"}),
}
FIRST = (
    "home",
    "train",
    "runs",
    "run",
    "methods",
    "compare curves",
    "compare ranking",
    "about networks",
    "race",
)  # in make check
each_state = pytest.mark.parametrize("state", STATES)


def all_text(app: AppTest) -> str:
    """Everything a reader can read, but the charts and tables."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.button, app.error, app.metric, app.warning)
    texts = [e.value if hasattr(e, "value") and isinstance(e.value, str) else "" for kind in kinds for e in kind]
    return "\n".join([*texts, *(b.label for b in app.button), *(f"{m.label} {m.value}" for m in app.metric)])


def board(home: Home) -> object:
    """The leaderboard as another reader of the same home sees it."""
    with Store.open(home) as store:
        store.take_in()
        return queries.leaderboard(store, suite="demo")


def opened(visit: Visit, state: str, run: str | None = None) -> AppTest:
    """The page of a state; ``run`` is the run that the page of one run shows."""
    page, query = STATES[state]
    return visit(page, **query, **({"run": run} if page == "run" and run else {}))


def ways_on(app: AppTest) -> list[str]:
    """What can be pressed on the page itself: buttons, and links beside that of the frame to what is running."""
    links = (link.proto.label for link in app.get("page_link"))
    return [*(b.label for b in app.button), *(label for label in links if "is running" not in label)]


@each_state
def test_an_empty_page_says_what_to_press(visit: Visit, state: str) -> None:
    app = opened(visit, state)
    assert not app.exception and not app.error
    assert len(app.title) == 1
    assert any(ways_on(app)), "no way on"


@pytest.mark.parametrize("state", [pytest.param(name, marks=[pytest.mark.once] if name in FIRST else []) for name in STATES])
def test_pages_on_a_finished_store(visit: Visit, seeded: Seeded, state: str) -> None:
    app = opened(visit, state, seeded.finished[1])
    assert not app.exception and not app.error


@each_state
def test_pages_on_a_live_store(visit: Visit, live: Seeded, state: str) -> None:
    app = opened(visit, state, live.other["running"])
    assert not app.exception and not app.error
    assert "1 running, 2 queued" in "\n".join(link.proto.label for link in app.get("page_link"))


def test_home_shows_the_leader_of_the_newest_suite(visit: Visit, home: Home, seeded: Seeded) -> None:
    app = visit("home")
    first = board(home).iloc[0]
    teacher_is_first = first["student"] == "resnet20"
    leader = board(home).iloc[1] if teacher_is_first else first
    assert f"Suite demo: {leader['method']} leads with {words.percent(leader['best_mean_frac'])}" in all_text(app)
    assert "12 of 12 runs finished" in all_text(app)


def test_home_offers_the_demo_and_queues_it(visit: Visit, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.parts import actions

    asked: list[str] = []
    monkeypatch.setattr(actions, "run_demo", lambda: asked.append("demo"))
    app = visit("home")
    button = next(b for b in app.button if b.key == "run-demo")
    assert button.label == "Run the demo (about 2 min, CPU is enough)"
    button.click().run()
    assert asked == ["demo"] and not app.exception


def test_run_shows_best_last_and_teacher(visit: Visit, home: Home, seeded: Seeded) -> None:
    app = visit("run", run=seeded.finished[1])
    with Store.open(home) as store:
        store.take_in()
        row = queries.run(store, seeded.finished[1]).iloc[0]
    shown = {m.label: m.value for m in app.metric}
    assert shown["Best test accuracy"] == words.percent(row["best_top1_frac"])
    assert shown["Last epoch"] == words.percent(row["last_top1_frac"])
    assert shown["Its teacher"] == "96.7 %"


def test_a_run_that_is_not_there(visit: Visit, seeded: Seeded) -> None:
    app = visit("run", run="20990101-000000-none-ffffff")
    assert not app.exception and "No run is called" in all_text(app)


def test_a_failed_run_says_why_and_offers_to_go_on(visit: Visit, live: Seeded) -> None:
    app = visit("run", run=live.other["failed"])
    assert "the loss is not finite in epoch 3" in all_text(app)
    assert {"resume-run", "retry-run"} <= {b.key for b in app.button} and "stop-run" not in {b.key for b in app.button}


def test_a_running_run_can_be_stopped(visit: Visit, live: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.parts import actions

    stopped: list[str] = []
    monkeypatch.setattr(actions, "stop", stopped.append)
    app = visit("run", run=live.other["running"])
    next(b for b in app.button if b.key == "stop-run").click().run()
    assert stopped == [live.other["running"]] and not app.exception


def test_runs_lists_every_status_in_words(visit: Visit, live: Seeded) -> None:
    app = visit("runs")
    shown = app.dataframe[0].value
    assert len(shown) == 13 + 6
    assert {s.split(" ", 1)[1] for s in shown["Status"]} == set(words.STATUSES)
    assert set(shown["Run"]) == {live.teacher, *live.finished, *live.other.values()}


def test_runs_filters_come_from_the_url(visit: Visit, live: Seeded) -> None:
    app = visit("runs", status="failed")
    assert app.dataframe[0].value["Run"].tolist() == [live.other["failed"]]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["home", "runs", "run", "compare", "race", "sql"])
def test_a_rerun_is_quick(visit: Visit, live: Seeded, page: str) -> None:
    app = visit(page, **({"run": live.finished[1]} if page == "run" else {}))
    took = []
    for _ in range(5):
        began = time.perf_counter()
        app.run()
        took.append(time.perf_counter() - began)
    # 150 ms is the budget on a quiet machine (benchmarks); four times that tells a mistake from a busy one
    assert statistics.median(took) < 0.6


@pytest.mark.slow
def test_only_the_train_page_loads_torch(home: Home, seeded: Seeded) -> None:
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
from kdengine import runner
from pages.parts import pulse
pulse.warm_up = lambda: None
runner.tick = lambda home: []
app = AppTest.from_file({str(APP)!r}, default_timeout=30).run()
for name in ("runs", "run", "compare", "race", "sql"):
    app.switch_page(f"pages/{{name}}.py").run()
    assert not app.exception, app.exception
assert "torch" not in sys.modules, "torch was loaded"
assert "matplotlib" not in sys.modules, "matplotlib was loaded: what draws exports is for processes of their own"
pulse.close_all()
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr[-2000:]
