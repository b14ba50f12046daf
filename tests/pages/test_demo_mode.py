"""A demo over recorded runs: every page has real content without torch, nothing can be started or changed, nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from kdengine.home import Home
from pages.parts import demo, pulse
from store.demo import place
from tests.pages.conftest import APP
from tests.pages.test_pages import STATES

ROOT = Path(__file__).resolve().parents[2]
SHOWN: dict[str, tuple[str, dict[str, str]]] = {
    **{name: state for name, state in STATES.items() if state[0] not in ("train", "server")},
    "run": ("run", {"run": "RUN"}),
    "compare fig7": ("compare", {"tab": "replicate", "table": "fig7", "seeds": "5"}),
    "compare what is not there": ("compare", {"tab": "replicate", "table": "crd"}),
    "compare pair without predictions": ("compare", {"suite": "fig7-quick", "tab": "pair"}),
    "images that are not there": ("about_networks_data", {"tab": "data", "images": "cifar100"}),
    "no such run": ("run", {"run": "nothing"}),
}
CONTENT = {  # state -> what a visitor reads there
    "home": ("213 trainings of such pairs, by 24 ways", "a demo over recorded trainings", "all-methods, digits: ab leads with"),
    "runs": ("213 runs.",),
    "run": ("Best test accuracy", "finished", "15 of 15 epochs"),
    "compare ranking": ("ab leads with 95.6", "more than seed noise"),
    "compare pair": ("closes", "Images that only one of them gets", "which are too large for the demo"),
    "compare replicate": ("15 of 15 runs trained", "What the source says, and what holds here"),
    "compare fig7": ("36 of 36 runs trained",),
    "compare what is not there": ("Nothing is trained here", "0 of"),
    "compare pair without predictions": ("The predictions of this student are not part of the demo",),
    "a method's results": ("Measured here", "Published"),
    "a method's play": ("not part of this demo",),
    "a method's source": ("kdengine/methods/kd.py, lines",),
    "a method's cite": ("@inproceedings{kd2014",),
    "about networks": ("ResNet-110 teaches ResNet-20", "as measured where these runs were trained", "AMD EPYC"),
    "about data": ("What the images look like", "part of this demo"),
    "images that are not there": ("The images of CIFAR-100 are not part of this demo",),
    "race": ("Files cannot be exported on this server",),
}  # fmt: skip
CHARTS = {"home": 1, "run": 2, "compare curves": 2, "compare ranking": 1, "compare tradeoff": 3, "compare pair": 4,
          "compare fig7": 1, "a method's results": 1, "about networks": 2, "about data": 1}  # fmt: skip
BUTTONS = {
    "Their curves",
    "Race of figure 7",
    "Choose a run",
    "Show every run",
    "Run (5 s limit)",
}  # what may be pressed besides what filters
QUESTIONS = {"actions.pending", "actions_kept.only_asker", "actions_kept.asker_of"}  # of the modules of actions: change nothing
HARMLESS = {  # what a viewer may do in general, and here to no avail
    "actions_kept.stop_export": "UnknownKey", "actions_kept.remove_export": "UnknownKey",
    "actions_people.dismiss_troubles": "done",
}  # fmt: skip


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a visitor saw in a process without torch, and what became of the home."""
    folder = tmp_path_factory.mktemp("visited")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KD_")}
    environment = kept | {"KD_MODE": "demo", "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, str(ROOT / "tests/pages/visit_demo.py")]
    done = subprocess.run(argv, input=json.dumps(SHOWN), capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr[:3000]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer | {"left": [path.name for path in folder.iterdir()]}


def text_of(seen: dict[str, Any]) -> str:
    return "\n".join(
        line
        for kind in ("title", "subheader", "markdown", "caption", "info", "metric", "code", "progress")
        for line in seen[kind]
    )


@pytest.mark.slow
@pytest.mark.parametrize("state", SHOWN)
def test_every_page_is_whole_without_what_trains(visited: dict[str, Any], state: str) -> None:
    seen = visited["found"][state]
    assert seen["exception"] == [] and seen["error"] == [] and seen["warning"] == []
    assert len(seen["title"]) == 1
    text = text_of(seen)
    for said in CONTENT.get(state, ()):
        assert said in text, said
    assert seen["charts"] >= CHARTS.get(state, 0)


@pytest.mark.slow
def test_tables_are_full(visited: dict[str, Any]) -> None:
    found = visited["found"]
    assert found["runs"]["tables"] == [213] and found["compare table"]["tables"][0] == 24
    assert found["sql asked"]["tables"] == [1] and found["sql asked"]["charts"] == 1
    assert found["about networks"]["tables"][0] == 24 and found["a method's knobs"]["tables"] == [3]
    assert sum("resnet" in link or "**" in link for link in found["methods"]["links"]) >= 24


@pytest.mark.slow
def test_nothing_offers_to_train_and_nothing_runs(visited: dict[str, Any]) -> None:
    for state, seen in visited["found"].items():
        assert not {page for page in seen["pages"] if "train" in page or "server" in page}, state
        assert set(seen["buttons"]) <= BUTTONS, state
        assert not any("running" in link for link in seen["links"]), state


@pytest.mark.slow
def test_every_action_is_refused(visited: dict[str, Any]) -> None:
    tried = {name: came for name, came in visited["tried"].items() if name not in QUESTIONS}
    assert len(tried) > 20
    assert {name: came for name, came in tried.items() if came != "NotAllowed"} == HARMLESS


@pytest.mark.slow
def test_nothing_changes_on_the_disk_and_nothing_is_left(visited: dict[str, Any]) -> None:
    assert visited["changed"]["by looking"] == []
    assert set(visited["changed"]["by trying"]) <= {"audit.jsonl", "locks/audit.lock"}
    assert visited["loaded"] == [] and visited["left"] == []


@pytest.fixture
def in_demo(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppTest]:
    """The app as a demo, in this process."""
    monkeypatch.setenv("KD_MODE", "demo")
    yield AppTest.from_file(str(APP), default_timeout=30)
    pulse.close_all()
    assert list(home.root.glob(f"{place.PREFIX}*")) == []


@pytest.mark.slow
def test_a_demo_stands_still_in_a_home_of_its_own(in_demo: AppTest, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_demo.run().exception
    heart = pulse.of()
    assert demo.on() and heart.still and not heart.exports and heart.home.root.parent == home.root
    done: list[str] = []
    monkeypatch.setattr(pulse.runner, "tick", lambda home: done.append("queue"))
    monkeypatch.setattr(pulse.exports, "tick", lambda home: done.append("exports"))
    monkeypatch.setattr(heart.store, "take_in", lambda: done.append("taking in"))
    heart.beat()
    assert done == [] and heart.beaten_at is not None
    heart.exports = True
    heart.beat()
    assert done == ["exports"]


def test_exports_may_be_switched_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "unpack", lambda home: None)
    monkeypatch.setenv("KD_MODE", "demo")
    monkeypatch.setenv("KD_DEMO_EXPORTS", "on")
    try:
        assert pulse.of().still and pulse.of().exports
    finally:
        pulse.close_all()


def test_runs_of_somebody_are_refused_and_not_touched(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (home.runs / "one").mkdir()
    monkeypatch.setenv("KD_MODE", "demo")
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    assert "holds runs of its own" in app.error[0].value and not app.exception
    assert sorted(path.name for path in home.root.rglob("*")) == ["data", "exports", "locks", "one", "runs"]
