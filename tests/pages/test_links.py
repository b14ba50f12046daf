"""Links: what they choose is shown, also inside a session that had chosen otherwise, and nonsense in them is never a trace."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import blocks, state
from tests.pages.conftest import APP, Visit
from tests.pages.seed import Seeded
from tests.pages.test_pages import STATES

RUBBISH = ("", "none such", "' or 1=1 --", "9" * 40, "-1", "nan", "inf", "<b>x</b>", "[a](b)", "\u2603", "%00", "a,b", "../..")
FOLLOW = """
import streamlit as st
from pages.parts import state
told = []
state.begin(lambda problems, here: told.append(problems))
titles = {"x": "The X", "y": "The Y", "z": "The Z"}
one = state.choice(st.selectbox, "One", titles, name="one", default="x")
many = state.choice(st.multiselect, "Many", titles, name="many", default=["x", "y"])
st.session_state["answer"] = (one, many, [(p.field, p.given) for p in (told or [[]])[-1]])
"""


@pytest.fixture
def follow() -> AppTest:
    """A page of two choices."""
    return AppTest.from_string(FOLLOW).run()


def answer(app: AppTest, **query: str | list[str]) -> tuple[object, ...]:
    """What the page shows under a link."""
    app.query_params.clear()
    app.query_params.update(query)
    app.run()
    assert not app.exception
    return app.session_state["answer"]


def test_a_link_followed_inside_a_session_is_what_is_shown(follow: AppTest) -> None:
    assert answer(follow) == ("x", ["x", "y"], [])
    assert answer(follow, one="y", many=["z"]) == ("y", ["z"], [])
    assert answer(follow, one="z") == ("z", ["x", "y"], [])
    assert answer(follow) == ("x", ["x", "y"], [])
    assert follow.selectbox[0].value == "x" and follow.multiselect[0].value == ["x", "y"]


def test_a_choice_goes_into_the_url_and_holds(follow: AppTest) -> None:
    follow.selectbox[0].select("y").run()
    follow.multiselect[0].set_value(["z"]).run()
    assert follow.query_params == {"one": "y", "many": "z"}
    assert follow.run().session_state["answer"][:2] == ("y", ["z"])
    follow.multiselect[0].set_value([]).run()
    assert follow.query_params == {"one": "y", "many": ""}, "nothing at all differs from the default, also in a link"
    assert follow.run().session_state["answer"][:2] == ("y", [])
    follow.selectbox[0].select("x").run()
    follow.multiselect[0].set_value(["x", "y"]).run()
    assert follow.query_params == {}, "what is the default needs no word"


def test_a_browser_that_is_late_undoes_no_choice(follow: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(follow, one="y")
    follow.selectbox[0].select("z").run()
    assert answer(follow, one="y")[0] == "z", "the next click came before the browser had the new URL"
    assert follow.query_params == {"one": "z"}
    monkeypatch.setattr(state, "ANSWER_S", 0.0)
    assert answer(follow, one="y")[0] == "y", "later it is a link that was followed"


def test_what_means_nothing_is_named_with_the_nearest(follow: AppTest) -> None:
    assert answer(follow, one="w", many=["z", "nope"]) == ("x", ["z"], [("one", "w"), ("many", "nope")])
    assert answer(follow, one="", other="ignored") == ("x", ["x", "y"], [])


@pytest.mark.parametrize("state", STATES)
def test_no_rubbish_in_a_link_is_a_trace(visit: Visit, live: Seeded, state: str) -> None:
    page, query = STATES[state]
    query = query | ({"run": live.other["running"]} if page == "run" else {})
    app = visit(page, **query)
    drawn = {element.key for element in app.main if getattr(element, "key", None)}
    names = {str(key).removesuffix("-choice") for key in drawn} | {"run", "ids", "tab", "view", "tag", "method", "nobody"}
    first = next(name for name, (other, _) in STATES.items() if other == page)
    for rubbish in RUBBISH:
        for kept in [{}] * (state == first) + [query] * bool(query):  # all is rubbish; all but what the page is opened by
            app.query_params.clear()
            app.query_params.update(dict.fromkeys(names, rubbish) | kept)
            app.run()
            assert not app.exception, (state, rubbish, app.exception)
            assert app.title, (state, rubbish)


def test_the_page_says_what_its_link_asks_in_vain(visit: Visit, live: Seeded) -> None:
    app = visit("train", dataset="digit", many="suit", nobody="knows")
    (said,) = [e.value for e in app.error if e.value.startswith(blocks.MISREAD)]
    assert "did you mean digits?" in said and "did you mean suite?" in said and "nobody" not in said
    assert not [e for e in visit("train", dataset="digits").error if e.value.startswith(blocks.MISREAD)]


def test_a_part_that_lives_says_it_in_its_place() -> None:
    part = FOLLOW.replace("state.begin(lambda problems, here: told.append(problems))", "state.begin(tell)").replace(
        "one = state",
        "state.live(lambda: state.choice(st.selectbox, 'Live', titles, name='live', default='x'), busy=False)\none = state",
    )
    tell = "def tell(problems, here):\n    told.append(problems)\n    if here: st.error(problems[0].given)\n"
    app = AppTest.from_string(part.replace("told = []", f"told = []\n{tell}"))
    app.query_params.update({"one": "w", "live": "v"})
    app.run()
    assert not app.exception and [e.value for e in app.error] == ["v"]
    assert app.session_state["answer"][2] == [("one", "w")]


def test_what_a_page_says_itself_is_not_said_twice(visit: Visit, live: Seeded) -> None:
    app = visit("compare", suite="demos")
    assert "\n".join(e.value for e in app.error).count("demos") == 1


def test_every_page_is_among_those_tried() -> None:
    assert {page for page, _ in STATES.values()} == {path.stem for path in (APP.parent / "pages").glob("*.py")}
