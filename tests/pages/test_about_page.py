"""Networks and data: what the page says of them is what the catalogue, the store and the disk hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kdengine import datasets, errands, fetching, models
from kdengine.errands import Recorder
from kdengine.errors import KdError
from kdengine.home import Home
from pages.parts import room
from pages.parts.learn import figures
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded

PAGE = "about_networks_data"
FAMILIES = ["mobilenetv2", "resnet", "resnet_imagenet", "shufflenetv1", "shufflenetv2", "vgg", "wrn"]


def said(app: AppTest) -> str:
    """Everything a reader can read, but charts and tables."""
    kinds = (app.subheader, app.markdown, app.caption, app.error, app.warning)
    return "\n".join([e.value for kind in kinds for e in kind] + [b.label for b in app.button])


def pictures_of(app: AppTest) -> list[Any]:
    """The images on the page."""
    return [e for kind in ("imgs", "image", "image_list") for e in app.get(kind)]


def figure(app: AppTest, place: int) -> dict[str, Any]:
    """The data of a chart as it is sent."""
    return json.loads(app.get("plotly_chart")[place].proto.spec)


@pytest.fixture
def decoded(home: Home) -> None:
    """Digits as the cache keeps them, in made-up pixels."""
    folder = home.data / "cache" / "digits-32-0123456789abcdef"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        np.save(folder / f"{split}-x.npy", np.random.RandomState(0).randint(0, 256, (40, 3, 32, 32)).astype(np.uint8))
        np.save(folder / f"{split}-y.npy", np.arange(40) % 10)
    (folder / "statistics.json").write_text("[[0, 0, 0], [1, 1, 1]]")


@pytest.fixture
def measured(home: Home) -> None:
    """A measurement of latency of two networks."""
    timing = {"ms": 2.0, "low_ms": 1.9, "high_ms": 2.2, "n": 9}
    slow = timing | {"ms": 11.0}
    (home.root / "latency.json").write_text(
        json.dumps(
            {"at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC).isoformat(), "machine": "an abacus", "cores": 2, "torch": "2.0",
             "threads": 1, "image_size": 32, "foreign_frac": 0.0, "took_s": 75.0,
             "networks": {"resnet20": {"1": timing, "128": timing | {"ms": 100.0}}, "resnet110": {"1": slow, "128": slow}}}
        )
    )  # fmt: skip


# ---- networks ----------------------------------------------------------------------------------------------------------------


def test_an_empty_home_still_teaches(visit: Visit) -> None:
    app = visit(PAGE)
    assert not app.exception and not app.error
    text = said(app)
    assert "Teacher" in text and "Student" in text and "ResNet-110 teaches ResNet-20" in text
    assert "Measure on this machine (about 1 min 40 s)" in text
    shown = app.table[0].value
    assert shown.loc["Parameters"].tolist() == ["1.73 M", "0.27 M", "6.4 times"], "from the catalogue"
    assert "One image" not in shown.index and shown.loc["On cifar100", "Apart"].endswith("points")


def test_the_table_is_the_catalogue(visit: Visit, measured: None) -> None:
    app = visit(PAGE, sort="macs", on="cifar100")
    table = app.dataframe[0].value
    assert sorted(table["Network"]) == sorted(models.keys())
    macs = table["Multiply-adds"].tolist()
    assert macs == sorted(macs) and macs[0] == models.info("mobilenetv2", 10).macs / 1e6
    row = table.set_index("Network").loc["resnet20"]
    assert (row["One image"], row["In batches"], row["Depth"]) == (2.0, 1280.0, 20) and "68.9 to" in row["Published"]
    assert app.table[0].value.loc["One image"].tolist() == ["11.0 ms", "2.0 ms", "5.5 times"]
    assert "an abacus, 1 thread, torch 2.0" in said(app) and "2026-01-02 03:04 UTC" in said(app)
    few = visit(PAGE, family="vgg").dataframe[0].value
    assert set(few["Family"]) == {"VGG"} and "Measured here" not in few


def test_the_figure_has_our_runs_filled_and_the_literature_hollow(visit: Visit, seeded: Seeded, measured: None) -> None:
    ours = figure(visit(PAGE, on="digits", against="params"), 1)
    assert {t["name"] for t in ours["data"]} == {figures.OWN}
    assert {"resnet8", "resnet20"} == {c[0] for t in ours["data"] for c in t["customdata"]}
    app = visit(PAGE, on="cifar100", against="latency")
    theirs = figure(app, 1)
    assert {t["name"] for t in theirs["data"]} == {figures.PRINTED}
    assert all(t["marker"]["symbol"].endswith("-open") for t in theirs["data"])
    assert {c[0] for t in theirs["data"] for c in t["customdata"]} == {"resnet20", "resnet110"}, "only those were measured"
    assert len(app.get("plotly_chart")[1].proto.spec) < 100 * 1024


def test_latency_that_nobody_measured_is_said(visit: Visit) -> None:
    assert "Latency has not been measured on this machine yet" in said(visit(PAGE, against="latency"))


def test_nonsense_in_the_url_is_a_message(visit: Visit) -> None:
    app = visit(PAGE, tab="sofa", on="moon", against="love", family="x", sort="'")
    assert not app.exception and any("sofa" in e.value for e in app.error)
    assert "Teacher" in said(app)


def test_the_measurement_is_an_errand(visit: Visit, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(errands, "start", lambda home, errand: asked.append(errand.name))
    app = visit(PAGE)
    next(b for b in app.button if b.key == "measure-latency").click().run()
    assert asked == ["latency"] and not app.exception
    from kdengine.latency import ERRAND

    with Recorder(home, ERRAND) as note:
        note.step("measure")
        note._written = 0.0
        note(6, 24)
        app = visit(PAGE)
        assert "Measuring: 6 of 24 networks" in app.get("progress")[0].proto.text and "Stop" in said(app)
    with pytest.raises(KdError), Recorder(home, ERRAND):
        raise KdError.of("no time", "a minute", "have one")
    app = visit(PAGE)
    assert "no time" in said(app) and "Try again (about" in said(app)


# ---- data --------------------------------------------------------------------------------------------------------------------


def test_data_compares_the_two_and_lists_all(visit: Visit, home: Home) -> None:
    app = visit(PAGE, tab="data")
    assert not app.exception and not app.error
    facts = app.table[0].value
    assert facts.loc["of each class"].tolist() == ["5,000", "500"]
    assert facts.loc["Superclasses"].tolist() == ["none, classes stand alone", "20, of 5 classes each"]
    text = said(app)
    assert "The same network loses" in text and "10 times as many classes, 10 times fewer images" in text
    for card in datasets.BUILTIN.values():
        assert card.title in text and datasets.licence(card.key) in text
    assert text.count("not on this disk") == 3 and "Fetch 163 MiB" in text and "datasets add" in app.code[0].value
    both = figure(app, 0)
    resnet20 = [t["y"].index("resnet20") for t in both["data"][1:]]
    assert len(resnet20) == 2 and both["layout"]["annotations"][resnet20[0]]["text"].startswith("−2")


def test_torch_is_not_needed_for_the_data(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.parts.learn import networks

    monkeypatch.setattr(networks, "catalogue", lambda: pytest.fail("the networks were built"))
    assert not visit(PAGE, tab="data").exception


def test_samples_are_shown_where_they_are_decoded(visit: Visit, home: Home, decoded: None) -> None:
    app = visit(PAGE, tab="data")
    assert len(pictures_of(app)) == 10 and "enlarged from 8 x 8" in said(app)
    app = visit(PAGE, tab="data", images="cifar100")
    assert not pictures_of(app) and "Real images of CIFAR-100 appear here" in said(app)


def test_many_classes_are_shown_in_parts(visit: Visit, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home.data / "cache" / "cifar100-32-0123456789abcdef"
    folder.mkdir(parents=True)
    np.save(folder / "train-x.npy", np.zeros((100, 3, 32, 32), np.uint8))
    np.save(folder / "train-y.npy", np.arange(100))
    (folder / "statistics.json").write_text("[[0, 0, 0], [1, 1, 1]]")
    app = visit(PAGE, tab="data", images="cifar100", superclass="trees")
    names = [c.value for c in app.caption]
    assert len(pictures_of(app)) == 5 and "oak tree" in names and "apple" not in names
    monkeypatch.setattr(datasets, "_GROUPS", {})
    app = visit(PAGE, tab="data", images="cifar100", classes="20")
    assert len(pictures_of(app)) == 20 and "chair" in [c.value for c in app.caption]


def test_fetching_is_started_watched_and_stopped(visit: Visit, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(fetching, "start", lambda home, key: asked.append(key))
    monkeypatch.setattr(fetching, "cancel", lambda home, key: asked.append(f"not {key}"))
    app = visit(PAGE, tab="data")
    next(b for b in app.button if b.key == "fetch-shelf-cifar100").click().run()
    assert asked == ["cifar100"] and not app.exception
    with Recorder(home, fetching.errand("cifar100")) as note:
        note.step(fetching.DOWNLOAD)
        note._written, note._began = 0.0, note._began - 60
        note(34 << 20, 100 << 20)
        app = visit(PAGE, tab="data")
        assert app.get("progress")[0].proto.text == "34 % of 100 MiB, about 2 min left"
        next(b for b in app.button if b.key == "stop-shelf-cifar100").click().run()
    app.run()
    assert asked[-1] == "not cifar100" and not app.exception


def test_a_failed_download_says_why_and_can_be_tried_again(visit: Visit, home: Home) -> None:
    with pytest.raises(KdError), Recorder(home, fetching.errand("cifar10")):
        raise KdError.of("https://example.org: nobody answers", "a connection", "check the network", "download")
    app = visit(PAGE, tab="data")
    (error,) = app.error
    assert (
        "CIFAR-10 could not be fetched" in error.value and "nobody answers" in error.value and "check the network" in error.value
    )
    assert next(b for b in app.button if b.key == "fetch-shelf-cifar10").label == "Try again"


def test_your_own_dataset_is_listed(visit: Visit, home: Home) -> None:
    name = "mine_a_long_name_that_goes_on_and_on_and"
    own = (2, 5, 3, 64, 3, True, "your own, image folders", "imagefolder", 0.0, ("*a*", "b"))
    card = datasets.DatasetCard(name, name, *own)
    datasets._store(home, datasets._Entry(path=str(home.root), card=card))
    app = visit(PAGE, tab="data", images=card.key)
    assert not app.exception and card.key in said(app) and "in your folders of images" in said(app)
    assert "Show samples" in said(app)


# ---- figures and frames ------------------------------------------------------------------------------------------------------


def results(*rows: tuple[str, str, int, float]) -> pd.DataFrame:
    """Rows of ``queries.results``, each a day younger than the one before: student, setting, seed, best accuracy."""
    columns = ["run_id", "status", "created_at", "dataset", "student", "setting", "seed", "best_frac", "epochs", "train_images"]
    return pd.DataFrame(
        [(f"r{day}", "finished", pd.Timestamp("2026-11-01") + pd.Timedelta(days=day), "digits", *row, 5, None)
         for day, row in enumerate(rows)], columns=columns,
    )  # fmt: skip


def test_the_best_setting_counts_and_of_a_seed_the_newest_run() -> None:
    rows = results(("a", "x", 1, 0.5), ("a", "x", 1, 0.7), ("a", "x", 2, 0.9), ("a", "y", 1, 0.6), ("b", "z", 1, 0.4))
    found = figures.own_results(rows[::-1]).set_index("student")
    assert found.loc["a", "mean_frac"] == pytest.approx(0.8) and found.loc["a", "n"] == 2
    assert found.loc["a", "std_frac"] == pytest.approx(np.std([0.7, 0.9], ddof=1)) and np.isnan(found.loc["b", "std_frac"])
    assert figures.own_results(results()).empty


def test_a_copied_number_counts_once() -> None:
    printed = pd.DataFrame({"dataset": "d", "student": "a", "top1_frac": [0.7, 0.7, 0.8], "source": ["x", "y", "z"]})
    (row,) = figures.printed_results(printed).to_dict("records")
    assert row["mean_frac"] == pytest.approx(0.75) and (row["low_frac"], row["high_frac"]) == (0.7, 0.8)
    assert row["sources"] == "x, y, z"


def test_colours_of_families_are_seen_on_both_backgrounds() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour, _ in figures.FAMILY_STYLES:
        light = luminance(colour)
        assert 1.05 / (light + 0.05) >= 3 and (light + 0.05) / (luminance("#0f1217") + 0.05) >= 3, colour
    assert len({figures.family_style(f, FAMILIES) for f in FAMILIES}) == len(FAMILIES)
    assert {c.family for c in models.cards().values()} == set(FAMILIES) == set(figures.FAMILY_TITLES)


def test_names_cover_neither_markers_nor_one_another() -> None:
    spots = [(0.0, name) for name in "abcde"] + [(1.0, "far")]
    data = [{"x": np.array([x]), "y": np.array([50.0]), "text": [name]} for x, name in spots]
    figures._arrange(data, (40.0, 60.0), False)
    shown = {trace["text"][0]: trace["textposition"][0] for trace in data}
    around = ("top center", "bottom center", "middle right", "middle left")
    assert [shown.get(name) for name in "abcde"] == [*around, None], "the fifth is left to the hover"
    assert shown["far"] == "top center"
    alone = [{"x": np.array([5.0]), "y": np.array([50.0]), "text": ["alone"]}]
    figures._arrange(alone, (40.0, 60.0), True)
    assert alone[0]["text"] == ["alone"]


def test_a_name_does_not_leave_the_figure() -> None:
    x, y, long = np.array([0.0, 1.0]), np.array([0.0, 1.0]), "a name of many letters"
    assert room.places(x, y, [long, long]) == ["middle right", "middle left"]
    assert room.places(x, y, [long, long], wide=60) == [None, None]
    assert room.places(x * 0, y, ["a", "b"], first=[1], wide=60) == ["top center", "top center"]


def test_nothing_measured_nothing_printed() -> None:
    nothing = pd.DataFrame(columns=["dataset", "student", "mean_frac"])
    both = figures.both_datasets(nothing, nothing, "cifar10", "cifar100")
    easy, hard = datasets.BUILTIN["cifar10"], datasets.BUILTIN["cifar100"]
    assert both.empty and "asks more of a network" in figures.what_it_costs(both, easy, hard)
