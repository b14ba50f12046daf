"""The compare page: what its link selects, what each tab says, and that nonsense in a link is named and never a trace."""

from __future__ import annotations

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from pages.parts.compare import selection
from store import queries
from store.db import Store
from tests.pages.conftest import Visit
from tests.pages.seed import CURVES, Seeded, play, seed

TABS = ("curves", "table", "ranking", "tradeoff", "pair", "replicate")


def said(app: AppTest) -> str:
    """Everything that is written in sentences."""
    return "\n".join(e.value for kind in (app.markdown, app.caption, app.error) for e in kind)


def picked(app: AppTest, name: str) -> list[str]:
    """What a filter has chosen."""
    return list(app.multiselect(key=f"{name}-choice").value)


def line_of(app: AppTest) -> str:
    """The line that says what is compared."""
    return next(m.value for m in app.markdown if " seed" in m.value and " run" in m.value)


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_is_drawn_on_a_finished_and_on_a_live_store(visit: Visit, live: Seeded, tab: str) -> None:
    for suite in ("demo", "live"):
        app = visit("compare", suite=suite, tab=tab)
        assert not app.exception, app.exception
        assert not app.error


def test_the_newest_suite_comes_first_and_the_line_says_what_is_compared(visit: Visit, seeded: Seeded) -> None:
    app = visit("compare")
    assert app.selectbox(key="suite-choice").value == "demo"
    assert "6 methods, resnet20 → resnet8, digits, 2 seeds, 12 runs" in line_of(app), "the teacher is no competitor"


def test_runs_come_from_the_url(visit: Visit, seeded: Seeded) -> None:
    app = visit("compare", ids=seeded.finished[:2], metric="test_loss", x="images_seen")
    assert not app.exception and not app.error
    assert "2 methods" in line_of(app) and "1 seed, 2 runs" in line_of(app)
    assert app.selectbox(key="suite-choice").value == selection.ALL
    assert app.selectbox(key="metric-choice").value == "test_loss"


def test_every_filter_comes_from_the_url(visit: Visit, seeded: Seeded) -> None:
    app = visit("compare", suite="demo", method=["kd", "base"], seed="1", recipe="quick")
    assert picked(app, "method") == ["kd", "base"]
    assert "2 methods" in line_of(app) and "1 seed, 2 runs" in line_of(app)


def test_what_the_url_names_and_nobody_knows_is_named(visit: Visit, seeded: Seeded) -> None:
    app = visit(
        "compare", ids=["nobody"], suite="none", method=["kd", "magic"], tab="banana", which="worst", x="up", metric="' or 1"
    )
    assert not app.exception
    for value in ("nobody", "none", "magic", "banana", "worst", "up", "' or 1"):
        assert value in said(app)
    assert picked(app, "method") == ["kd"]


def test_a_selection_without_runs_says_so_and_is_cleared(visit: Visit, live: Seeded) -> None:
    app = visit("compare", suite="live", status="failed", seed="9")
    assert "No run fits seeds 9 and status failed together." in said(app)
    app.button(key="clear-filters").click().run()
    assert not app.exception and "No run fits" not in said(app)


def test_of_columns_with_as_many_groups_the_one_with_most_seeds_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(selection.state, "choice", lambda *args, default, **more: asked.append(default) or default)
    rows = [("a", 1), ("a", 1), ("b", 5), ("b", 4), ("c", 99)]
    columns = pd.DataFrame([{"dataset": d, "against": "t", "student": "s", "column": d, "n": n} for d, n in rows])
    assert selection.focus(columns) == "b" and asked == ["b-t-s"]


def test_the_first_question_is_about_what_can_be_judged(visit: Visit, home: Home) -> None:
    seed(home, seeds=(0, 1, 2))
    alone = RunDir.create(home, RunSpec(dataset="digits", suite="demo", method="base", student="resnet8", train_images=100))
    play(alone, [0.5, 0.9])
    app = visit("compare", suite="demo", tab="ranking")
    better, than = (next(box for box in app.selectbox if box.label == label) for label in ("Is", "better than"))
    assert (better.value, than.value) == ("kd", "fitnet")
    assert than.options[-1].startswith("base") and "100 images" in than.options[-1], "one seed cannot be judged"


def test_a_pair_keeps_what_it_is_compared_with(home, seeded: Seeded) -> None:  # type: ignore[no-untyped-def]
    with Store.open(home) as store:
        store.take_in()
        rows = queries.runs(store)
    students = rows[rows["run_id"].isin(seeded.finished)]
    kept = selection.narrowed(students, {"pair": ["resnet20-resnet8"]})
    assert set(kept["method"]) == set(CURVES), "methods without a teacher are what the pair is compared with"
    assert selection.narrowed(students, {"pair": ["resnet20-resnet8"], "seed": ["1"]})["seed"].unique().tolist() == [1]
    assert selection.narrowed(students, {"tag": ["x"]}).empty
