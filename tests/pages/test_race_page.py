"""The race page: what the player is sent, what is chosen, what becomes of an export."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from kdengine import literature, replications
from kdengine.access import Person, Role
from kdengine.errors import KdError, Problem
from kdengine.home import Home
from kdengine.replications import Scale
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from pages.parts import actions_kept, fetch, pulse, who
from pages.parts.race import exporting, player
from store.db import Store
from store.export.race import bars, exports, lines, words
from store.export.race.exports import About, Export
from store.export.race.options import Options
from store.export.race.order import Order, Racer
from store.export.race.prepare import prepare
from tests.pages.conftest import Visit
from tests.pages.seed import CURVES, Seeded, play

KEY = "0123456789abcdef0123"
NONE = None


def order(**values: Any) -> Order:
    """A race of a leader, one that starts late, one that ends early with a gap, and a tie."""
    rows = {
        "steady": (50.0, 60.0, 70.25, 80.0, 80.0),
        "late": (NONE, NONE, 65.0, 90.0, 95.5),
        "short": (55.0, NONE, 75.0, NONE, NONE),
        "tied": (50.0, 60.0, 70.25, 80.0, 79.0),
    }
    racers = tuple(Racer(name=name, colour="#1e61bd", values=row) for name, row in rows.items())
    given = {"epochs": (1, 2, 3, 4, 6), "racers": racers, "title": "A race", "unit": " %", "most": 100.0, "measure": "Accuracy"}
    return Order(**given | values)


def decoded(text: str, kind: str, width: int) -> np.ndarray:
    """Numbers as the browser reads them."""
    return np.frombuffer(base64.b64decode(text), dtype=kind).reshape(-1, width)


def sent(app: AppTest) -> dict[str, Any]:
    """What the player on the page was given."""
    (element,) = app.get("bidi_component")
    found: dict[str, Any] = json.loads(element.proto.json)
    return found


def said(app: AppTest) -> str:
    """Everything in words on the page."""
    kinds = (app.markdown, app.caption, app.error, app.info, app.subheader)
    return "\n".join(e.value for kind in kinds for e in kind)


def labels(app: AppTest) -> list[str]:
    """What can be pressed."""
    return [button.label for button in app.button]


def links(app: AppTest) -> dict[str, str]:
    """Where links lead: label -> query."""
    return {link.proto.label: link.proto.query_string for link in app.get("page_link")}


# ---- the numbers that are sent -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"lower_is_better": True, "most": None}, {"options": Options(fps=20, steps=3, top=2)}])
def test_what_is_sent_is_what_a_file_is_drawn_from(given: dict[str, Any]) -> None:
    race = order(**given)
    found, told = prepare(race), player.packed(race, follows=True)
    assert json.loads(json.dumps(told)) == told
    assert np.array_equal(decoded(told["filled"], "<f8", 4), found.filled, equal_nan=True)
    assert np.abs(decoded(told["places"], "<u2", 4) / player.FINEST - found.places).max() <= 0.501 / player.FINEST
    assert (told["frames"], told["shown"]) == (found.frames, found.shown)
    assert told["axis"]["low"] == found.axis.low and told["axis"]["high"] == found.axis.high
    assert [tick for tick, _ in told["axis"]["ticks"]] == list(found.axis.ticks)
    frames = np.arange(told["frames"])
    assert np.allclose(frames / told["steps"], found.at)
    assert np.abs(decoded(told["presence"], "u1", 4) / 255 - found.presence).max() <= 0.501 / 255
    ended = np.array([np.inf if epoch is None else epoch for epoch in told["ended"]])
    assert np.array_equal(found.epoch[:, None] >= ended, found.over), "as the script works it out"


def test_a_still_is_sent_as_the_race_it_is_the_end_of() -> None:
    still, film = order(options=Options(format="png")), order()
    told = player.packed(still, follows=False)
    assert told["rest"] and told["frames"] == player.packed(film, follows=False)["frames"] > 1
    one = order(epochs=(1,), racers=(Racer(name="a", colour="#000000", values=(1.0,)),), options=Options(format="png"))
    assert player.packed(one, follows=False)["frames"] == 1


def test_the_preview_is_drawn_by_the_numbers_of_a_file() -> None:
    script = (player.HERE / "picture.js").read_text(encoding="utf-8")
    said = dict(re.findall(r"\b([A-Z_]{4,}) = ([\d.]+|\[[^\]]*\]|\{[^}]*\})", script))
    for module, names in ((bars, ("BARS_SHARE", "THICKNESS", "THICKEST")), (lines, ("STROKE", "THIN", "LONGEST_LEADER"))):
        assert {name: float(said[name]) for name in names} == {name: getattr(module, name) for name in names}
    assert json.loads(said["SEEN_APART"]) == list(bars.SEEN_APART)
    shares = dict(re.findall(r"(\w+): ([\d.]+)", said["NAMES_SHARE"]))
    assert [float(shares[name]) for name in ("tall", "wide", "lines")] == [*bars.NAMES_SHARE, lines.NAMES_SHARE]
    told = player.packed(order(options=Options(theme="print")), follows=False)
    assert told["palette"]["text"] == words.THEMES["print"].text and told["epochTicks"][0] == order().epochs[0]


def test_names_are_never_markup() -> None:
    scripts = "\n".join((player.HERE / name).read_text(encoding="utf-8") for name in player.SCRIPTS)
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert way not in scripts


def test_those_who_cannot_see_it_are_told_who_leads() -> None:
    told = player.packed(order(), follows=True)["about"]
    assert told == "Accuracy of 4 over 5 epochs. At the end late with 95.5 % leads, then steady with 80.0 %, tied with 79.0 %."
    assert player.packed(order(options=Options(caption=False), caption="x"), follows=True)["caption"] == ""


# ---- what is chosen ----------------------------------------------------------------------------------------------------------


def test_a_suite_races_at_once(visit: Visit, seeded: Seeded) -> None:
    app = visit("race")
    told = sent(app)
    assert not app.exception and set(told["names"]) == set(CURVES) and len(told["epochs"]) == 15
    assert told["title"] == "Best test accuracy so far" and "resnet20 → resnet8" in told["subtitle"]
    assert any(label.startswith("Export MP4 (about ") for label in labels(app))
    assert "What is exported is kept here" in said(app)


def test_what_the_url_chooses_is_what_races(visit: Visit, seeded: Seeded) -> None:
    told = sent(visit("race", metric="test_loss", mode="raw", seeds="1", kind="lines", theme="dark", top="3", highlight="kd",
                      decimals="0", length="5", caption="false", title="  Two\twords "))  # fmt: skip
    assert told["lower"] and told["kind"] == "lines" and told["shown"] == 3 and told["axis"]["decimals"] == 0
    assert told["palette"] == asdict(words.THEMES["dark"]) and not told["follows"] and told["caption"] == ""
    assert [name for name, lit in zip(told["names"], told["lit"], strict=True) if lit] == ["kd"]
    assert told["title"] == "Two words"
    assert (told["frames"] / told["fps"] + 1.25 * told["hold_s"]) == pytest.approx(5, abs=0.5)


def test_a_comparison_leads_to_its_own_race(visit: Visit, seeded: Seeded) -> None:
    app = visit("compare", suite="demo", method=["kd", "ft"], metric="test_loss", which="last")
    query = links(app)["Race"]
    assert query == "suite=demo&method=kd&method=ft&metric=test_loss"
    app.switch_page("pages/race.py")
    app.query_params.clear()
    app.query_params.update({"suite": "demo", "method": ["kd", "ft"], "metric": "test_loss"})
    told = sent(app.run())
    assert set(told["names"]) == {"kd", "ft"} and told["lower"], "the choice of the page before counts, not that of the link"


def test_what_has_not_finished_does_not_race(visit: Visit, live: Seeded) -> None:
    app = visit("race", suite="live")
    assert not app.exception and not app.get("bidi_component")
    assert "No run of this selection has finished yet" in said(app) and "2 runs of these are under way" in said(app)


def test_nobody_is_hidden_by_what_another_race_had(visit: Visit, seeded: Seeded) -> None:
    app = visit("race", method=["kd", "fitnet"])
    few = sent(app)
    del app.query_params["method"]
    app.run()
    every = sent(app)
    assert few["shown"] < every["shown"] == len(every["names"]) and "top" not in app.query_params


def test_those_under_way_are_counted(visit: Visit, live: Seeded) -> None:
    assert "2 runs under way; finished runs race here." in said(visit("race", suite="*"))


def test_a_look_that_does_not_fit_the_race_says_why(visit: Visit, seeded: Seeded) -> None:
    app = visit("race", axis="from", **{"from": "101"})
    assert not app.exception and not app.get("bidi_component")
    assert "This race cannot be drawn like this" in said(app) and "less than the greatest value" in said(app)


def test_one_epoch_is_a_picture(visit: Visit, home: Home) -> None:
    play(RunDir.create(home, RunSpec(dataset="digits", suite="one", method="base", student="resnet8", epochs=1)), [0.5])
    app = visit("race", suite="one", format="mp4")
    assert not app.exception and sent(app)["frames"] == 1
    assert any(label.startswith("Export PNG") for label in labels(app)) and "format" in said(app)


def test_a_measure_that_nobody_has_is_said(visit: Visit, seeded: Seeded) -> None:
    app = visit("race", metric="val_loss")
    assert not app.exception and not app.get("bidi_component")
    assert "These runs cannot race like this" in said(app)


def test_figure_7_is_one_click(visit: Visit, home: Home, seeded: Seeded) -> None:
    app = visit("race", metric="test_loss")
    assert links(app)["Race of figure 7 (not trained yet)"] == "tab=replicate&table=fig7"
    for method in ("base", "kd"):
        teacher = {} if method == "base" else {"teacher": "resnet20"}
        spec = RunSpec(dataset="digits", suite="fig7-quick", method=method, student="resnet8", epochs=10, **teacher)
        play(RunDir.create(home, spec, teacher_run=seeded.teacher if teacher else None), [0.1 * n for n in range(1, 10)])
    pulse.of().store.take_in()
    app = visit("race", suite="demo", metric="test_loss")
    app.button(key="figure-7").click().run()
    assert not app.exception and set(sent(app)["names"]) == {"base", "kd"}
    assert sent(app)["title"] == "Best test accuracy so far"


def test_the_replicated_figure_leads_to_its_race(visit: Visit, home: Home) -> None:
    where = {"tab": "replicate", "table": "fig7", "seeds": "1"}
    found = replications.complete(replications.trials(literature.FIG7, Scale(seeds=1), home))
    for trial in [trial for trial in found if trial.row in ("base", "kd")]:
        play(RunDir.create(home, trial.spec), [0.1 * n for n in range(1, trial.spec.epochs + 1)])
    assert links(visit("compare", **where))["Race of figure 7"] == "suite=fig7-quick"
    elsewhere = next(trial.spec for trial in found if trial.row == "ft").model_copy(update={"suite": "other"})
    play(RunDir.create(home, elsewhere), [0.1 * n for n in range(1, elsewhere.epochs + 1)])
    pulse.of().store.take_in()
    app = visit("compare", **where)
    assert links(app)["Race of figure 7"].count("ids=") == 3, "a run that was launched elsewhere belongs to the figure as well"
    app = visit("race", **parse_qs(links(app)["Race of figure 7"]))
    assert set(sent(app)["names"]) == {"base", "kd", "ft"} and len(sent(app)["epochs"]) == 10
    assert "Race of figure 7" not in links(visit("compare", tab="replicate", table="fig8", seeds="1"))


# ---- exports -----------------------------------------------------------------------------------------------------------------


def test_the_button_asks_for_what_is_shown(visit: Visit, seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Order] = []
    monkeypatch.setattr(actions_kept, "export_race", lambda race: asked.append(race) or KEY)
    app = visit("race", format="gif", size="800x450", kind="lines", hold="3.5")
    app.button(key="export-race").click().run()
    assert not app.exception and app.query_params["export"] == KEY
    (race,) = asked
    assert race.options.format == "gif" and (race.options.kind, race.options.hold_s, race.options.fps) == ("lines", 3.5, 20)
    assert race.key({}) in sent(app)["stamp"]


def test_a_refused_export_says_why(visit: Visit, seeded: Seeded, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(race: Order) -> str:
        raise KdError.of("2 exports that wait", "at most 2", "wait for one of them", "queue")

    monkeypatch.setattr(actions_kept, "export_race", refuse)
    app = visit("race")
    app.button(key="export-race").click().run()
    assert "Nothing was exported" in said(app) and "wait for one of them" in said(app)


def test_without_ffmpeg_an_mp4_says_so_before_anything_is_pressed(
    visit: Visit, seeded: Seeded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "has_ffmpeg", lambda: False)
    app = visit("race")
    assert "An MP4 needs ffmpeg" in said(app) and not any(label.startswith("Export") for label in labels(app))
    app = visit("race", format="gif")
    assert "ffmpeg" not in said(app) and any(label.startswith("Export GIF") for label in labels(app))


def test_what_is_too_large_cannot_be_asked_for(visit: Visit, seeded: Seeded) -> None:
    app = visit("race", format="gif", size="1920x1080")
    assert "This cannot be exported" in said(app)
    assert app.button(key="export-race").disabled


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> dict[str, Export]:
    """What exports there are: key -> how each stands."""
    known: dict[str, Export] = {}
    monkeypatch.setattr(fetch, "export", lambda key: known.get(key, Export(key, "absent")))
    monkeypatch.setattr(fetch, "exports", lambda: [export for export in known.values() if export.state == "done"])
    return known


def done(folder: Path, format_: str = "gif", key: str = KEY) -> Export:
    """An export that is there."""
    from PIL import Image

    file, poster = folder / f"race.{format_}", folder / "last.png"
    Image.new("RGB", (8, 4)).save(poster)
    if format_ == "mp4":
        file.write_bytes(b"a film")
    else:
        Image.new("P", (8, 4)).save(file)
    about = About(frames=300, seconds=3.21, bytes=340 * 1024, made_at="2026-11-21T12:00:00.000000Z", kind="bars", format=format_,
                  width=800, height=450, bars=4)  # fmt: skip
    return Export(key, "done", order(options=Options.usual(format_)), ("me",), file=file, poster=poster, about=about)


def test_an_export_on_its_way_can_be_followed_and_stopped(
    visit: Visit, seeded: Seeded, standing: dict[str, Export], monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[str] = []
    monkeypatch.setattr(actions_kept, "stop_export", stopped.append)
    monkeypatch.setattr(who, "person", lambda: Person("", Role.VIEWER, session="me"))
    standing[KEY] = Export(KEY, "waiting", order(), ("somebody else",), position=3)
    app = visit("race", export=KEY)
    (bar,) = app.get("progress")
    assert bar.proto.text == "Waiting for its turn, 2 exports before it" and "Stop" not in labels(app)
    standing[KEY] = Export(KEY, "drawing", order(), ("me",), step="draw", share=0.45, left_s=3.2)
    app = visit("race", export=KEY)
    (bar,) = app.get("progress")
    assert bar.proto.text == "Drawing, 45 %, about 3 s left" and bar.proto.value == 45
    app.button(key="stop-export").click().run()
    assert stopped == [KEY] and "export" not in app.query_params and not app.get("progress")


def test_a_failed_export_says_why(visit: Visit, seeded: Seeded, standing: dict[str, Export]) -> None:
    standing[KEY] = Export(KEY, "failed", order(), problems=(Problem("", "a full disk", "one with room", "make room"),))
    assert "The export failed" in said(visit("race", export=KEY)) and "make room" in said(visit("race", export=KEY))
    assert "This export is not here" in said(visit("race", export="f" * 20))


@pytest.mark.parametrize("format_", ["mp4", "gif", "png"])
def test_a_finished_export_is_played_and_taken_away(
    visit: Visit, seeded: Seeded, standing: dict[str, Export], tmp_path: Path, format_: str
) -> None:
    standing[KEY] = done(tmp_path, format_)
    app = visit("race", export=KEY)
    assert not app.exception and not app.error
    assert len(app.get("video")) == (format_ == "mp4")
    taken = [button.proto.label for button in app.get("download_button")]
    assert f"Download {format_.upper()}" in taken and ("Last frame (PNG)" in taken) == (format_ != "png")
    assert "800 × 450" in said(app) and "340 KiB" in said(app) and "drawn in 3 s" in said(app)


def test_earlier_exports_are_opened_and_removed(
    visit: Visit, seeded: Seeded, standing: dict[str, Export], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(8):
        standing[f"{n:020d}"] = done(tmp_path, key=f"{n:020d}")
    removed: list[str] = []
    monkeypatch.setattr(actions_kept, "remove_export", removed.append)
    app = visit("race")
    assert labels(app).count("Open") == 6
    app.toggle(key="all-exports").set_value(True).run()
    assert labels(app).count("Open") == 8
    app.button(key=f"open-{3:020d}").click().run()
    assert app.query_params["export"] == f"{3:020d}"
    app.button(key=f"remove-{3:020d}").click().run()
    assert removed == [f"{3:020d}"] and "export" not in app.query_params


def test_the_pulse_moves_the_exports_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    ticked: list[Home] = []
    monkeypatch.setattr(exports, "tick", ticked.append)
    with Store.open(home) as store:
        pulse.Pulse(home, store).beat()
    assert ticked == [home]


def test_a_file_is_named_by_what_it_shows() -> None:
    assert exporting.file_name(order(subtitle="digits · resnet20 → resnet8")) == "race-a-race-digits-resnet20-resnet8"
    assert exporting.file_name(order(title="赛", subtitle="")) == "race"


def test_a_file_that_has_gone_is_no_trace(home: Home, visit: Visit, seeded: Seeded) -> None:
    visit("race")
    with pytest.raises(KdError, match="export it again"):
        fetch.export_bytes("f" * 20)
