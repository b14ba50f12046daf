"""The wall of methods and a method's page: what the cards say is what the store and the method files say. Never: a training."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kdengine import anatomy, catalogue, methods
from kdengine.home import Home
from pages.parts import words
from pages.parts.learn import evidence, reading, wall
from store import queries
from store.db import Store
from tests.pages.conftest import APP, Visit
from tests.pages.seed import CURVES, Seeded

LABELS = catalogue.labels()


def cards(app: AppTest) -> dict[str, str]:
    """Key of each card that is drawn -> what its link carries beside."""
    links = [link.proto.query_string for link in app.get("page_link") if "method=" in link.proto.query_string]
    return {re.findall(r"method=(\w+)", link)[0]: link for link in links}


def html_of(app: AppTest) -> str:
    return "\n".join(element.proto.body for element in app.get("html"))


def one(app: AppTest, key: str, **query: str) -> AppTest:
    """Open a method's page in a session that is already there."""
    app.query_params.clear()
    for name, value in ({"method": key} | query).items():
        app.query_params[name] = value
    return app.run()


# ---- the wall ------------------------------------------------------------------------------------------------------------


def test_the_wall_has_a_card_for_every_method_and_needs_no_run(visit: Visit) -> None:
    app = visit("methods")
    assert not app.exception and set(cards(app)) == set(LABELS)
    text = html_of(app)
    assert all(wall.escape(label.one_line) in text for label in LABELS.values())
    assert text.count("cost –") == len(LABELS) and "× the time" not in text
    assert "not measured here yet" in text.lower()


def test_cards_say_what_was_measured(visit: Visit, home: Home, seeded: Seeded) -> None:
    text = html_of(visit("methods"))
    with Store.open(home) as store:
        store.take_in()
        costs = queries.method_costs(store).set_index("method")
        board = queries.leaderboard(store).query("student == 'resnet8'").set_index("method")
    assert set(costs.index) == set(CURVES)
    for key in CURVES:
        assert f"{costs.loc[key, 'cost_x']:.1f} × the time of labels only" in text
        assert f"best here: {words.percent(board.loc[key, 'best_mean_frac'])} (digits, n = 2)" in text
    assert text.count("cost –") == len(LABELS) - len(CURVES)


def test_filters_come_from_the_url_and_go_along_into_a_card(visit: Visit) -> None:
    app = visit("methods", family=["relation", "online"], sort="year")
    shown = cards(app)
    assert list(shown) == [
        m.key for m in sorted(LABELS.values(), key=lambda m: (m.year, m.key)) if m.family in ("relation", "online")
    ]
    assert all("family=relation&family=online" in link and "sort=year" in link for link in shown.values())
    needing = set(cards(visit("methods", needs="embedding")))
    assert needing == {key for key, label in LABELS.items() if "embedding" in label.needs}


def test_the_way_back_from_a_card_leads_to_what_was_sought(visit: Visit) -> None:
    app = visit("methods", q="distances angles")
    (key,) = cards(app)
    app.query_params.clear()
    app.query_params["method"] = key
    back = next(link.proto for link in app.run().get("page_link") if link.proto.label == "All methods")
    assert "q=distances+angles" in back.query_string


def test_nothing_fits_and_the_wall_says_so(visit: Visit) -> None:
    app = visit("methods", q="zebra")
    assert not cards(app) and any("No method fits" in m.value for m in app.markdown)


def test_order_by_cost_puts_the_unmeasured_last() -> None:
    known = wall.Measured({"kd": (1.7, 3), "base": (1.0, 2)})
    order = [label.key for label in wall.chosen(LABELS.values(), wall.Filters(sort="cost"), known)]
    assert order[:2] == ["base", "kd"] and order[2:] == sorted(order[2:]) and len(order) == len(LABELS)


@pytest.mark.slow
def test_the_wall_and_the_head_of_a_method_load_no_torch(home: Home, seeded: Seeded) -> None:
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
from kdengine import runner
from pages.parts import pulse
pulse.warm_up = lambda: None
runner.tick = lambda home: []
app = AppTest.from_file({str(APP)!r}, default_timeout=30).run()
app.switch_page("pages/methods.py").run()
assert not app.exception, app.exception
app.query_params["method"] = "kd"
app.run()
assert not app.exception and "Soft" in app.title[0].value, app.exception
assert "torch" not in sys.modules, "torch was loaded"
pulse.close_all()
"""
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr[-2000:]


# ---- the page of a method ------------------------------------------------------------------------------------------------


def test_every_method_explains_itself(visit: Visit, seeded: Seeded) -> None:
    app = visit("methods")
    for key, label in LABELS.items():
        one(app, key)
        text = "\n".join(m.value for m in app.markdown)
        assert not app.exception and app.title[0].value == label.title, key
        assert all(words.escaped(step) in text for step in (*label.story, label.analogy)), key
        assert len([m for m in app.markdown if m.value.startswith("<svg ")]) == 1, key
        assert [latex.value.strip("$\n") for latex in app.latex] == reading.formula_lines(label.formula), key


@pytest.mark.parametrize("section", ["knobs", "source", "cite"])
def test_every_method_has_every_section(visit: Visit, section: str) -> None:
    app = visit("methods")
    for key, label in LABELS.items():
        one(app, key, show=section)
        assert not app.exception, (key, section)
        if section == "cite":
            assert app.code[0].value == label.citation and app.code[1].value == reading.bibtex(label)
        elif section == "source":
            shown = [code.value for code in app.code]
            assert all(f"def {loss.__name__}(" in code for loss, code in zip(methods.get(key).losses, shown, strict=False)), key
            assert "def loss(self" in shown[-1] and any(label.file in c.value for c in app.caption)
        elif app.table:
            assert list(app.table[0].value.index) == list(methods.get(key).params.model_fields)


def test_an_unknown_method_gets_the_nearest_name_and_the_wall(visit: Visit) -> None:
    app = visit("methods", method="fitnets")
    assert not app.exception and len(app.error) == 1 and "did you mean 'fitnet'?" in app.error[0].value
    assert set(cards(app)) == set(LABELS)


def test_a_method_on_an_empty_store_says_what_to_press(visit: Visit) -> None:
    app = visit("methods", method="rkd")
    assert not app.exception and any("Nothing has been measured here yet" in m.value for m in app.markdown)
    ways = {(link.proto.page, link.proto.query_string) for link in app.get("page_link")}
    assert {("train", "method=rkd"), ("compare", "suite=%2A&method=rkd&method=base"), ("compare", "tab=replicate")} <= ways


def test_results_stand_beside_labels_only_and_lead_to_the_runs(visit: Visit, home: Home, seeded: Seeded) -> None:
    app = visit("methods", method="kd")
    with Store.open(home) as store:
        store.take_in()
        board = queries.leaderboard(store).query("student == 'resnet8'").set_index("method")
    own = next(d.value for d in app.dataframe if "Gain" in d.value)
    kd, base = board.loc["kd"], board.loc["base"]
    assert own["Best"].tolist() == [words.spread(kd.best_mean_frac, kd.best_std_frac)]
    assert own["Labels only"].tolist() == [words.spread(base.best_mean_frac, base.best_std_frac)]
    assert own["Gain"].tolist() == [evidence.points(kd.best_mean_frac - base.best_mean_frac)]
    runs = [link.proto.query_string for link in app.get("page_link") if "run=" in link.proto.query_string]
    assert len(runs) == 2 and all("kd" in run for run in runs)
    published = next(d.value for d in app.dataframe if "Published" in d.value)
    with Store.open(home) as store:
        assert len(published) == (queries.published(store)["method"] == "kd").sum()


# ---- what stands in the tables -------------------------------------------------------------------------------------------


def mine(**more: object) -> pd.DataFrame:
    row = {"dataset": "cifar10", "student": "resnet20", "teacher": "resnet110", "mean_frac": 0.93, "std_frac": 0.002, "n": 3}
    row |= {"best_mean_frac": 0.93, "last_mean_frac": 0.92, "peers": ()}
    return pd.DataFrame([row | more])


def printed(**more: object) -> pd.DataFrame:
    row = dict.fromkeys(("peers", "top1_std_frac", "which", "seeds", "epochs", "recipe", "note"), None)
    row |= {"dataset": "cifar10", "student": "resnet20", "teacher": "resnet110", "top1_frac": 0.9282}
    return pd.DataFrame([row | {"source": "A paper", "page": "table 1", "url": "https://a.paper"} | more])


@pytest.mark.parametrize(("which", "here", "delta"), [(None, "93.0", "+0.2"), ("best", "93.0", "+0.2"), ("last", "92.0", "−0.8")])
def test_a_published_number_stands_beside_ours_of_the_same_selection(which: str | None, here: str, delta: str) -> None:
    row = evidence.published_table(printed(which=which), mine()).iloc[0]
    assert row["Here"].startswith(here) and "n = 3" in row["Here"] and row["Here − published"] == delta
    assert row["Source"] == "https://a.paper#A paper, table 1"


@pytest.mark.parametrize("other", [{"dataset": "cifar100"}, {"student": "resnet8"}, {"teacher": None}, {"peers": "resnet20"}])
def test_other_networks_or_data_are_not_held_against_it(other: dict[str, object]) -> None:
    assert "Here" not in evidence.published_table(printed(**other), mine())


def test_knobs_tell_default_range_and_choices() -> None:
    shown = evidence.knobs_table(anatomy.knobs("fitnet"))
    assert shown.loc["beta", "Default"] == "100 (10 where regressor = linear, 0.1 where regressor = none)"
    assert shown.loc["stage", "Range"] == "0 to 8" and shown.loc["form", "Range"] == "two_stage, joint"


@pytest.mark.parametrize("key", LABELS)
def test_symbols_and_citation_of_every_method(key: str) -> None:
    label = LABELS[key]
    legend = dict(reading.symbols(label.formula))
    assert len(legend) >= 4 and "y" in legend and ("B" in legend or key in {"bss", "nst", "irg"})
    for line in reading.formula_lines(label.formula):
        for row in line.split(r"\\ "):
            assert row.count(r"\left") == row.count(r"\right") and row.count("{") == row.count("}"), row
    cited = reading.citation_of(label.citation)
    assert cited is not None and cited.year in (label.year, label.year + 1) or key == "kd", cited
    assert all(author in reading.bibtex(label) for author in (cited.authors if cited else ()))
