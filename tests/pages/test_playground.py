"""The playground of a method: drawn on two small real runs, moved, put back; and its pictures, kind by kind."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from kdengine import check, methods, networks, runner
from kdengine.home import Home
from kdengine.rundir import RunDir, find_run
from kdengine.spec import RunSpec
from pages.parts import pulse
from pages.parts.learn import pictures, playground, tiles
from tests.pages.seed import Seeded, play

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"image_size": 16, "train_images": 128, "epochs": 2, "batch_size": 32, "precision": "fp32"}
QUICK = ("base", "kd", "rkd")
METHODS = [pytest.param(key, marks=[] if key in QUICK else pytest.mark.slow) for key in methods.entries()]
Open = Callable[..., AppTest]


def finished(home: Home, model: str, seed: int, teacher_run: str | None = None, **fields: Any) -> str:
    """Leave a finished run of a network that never learnt anything, and return its name."""
    if teacher_run is not None:
        fields["teacher"] = find_run(home, teacher_run).read_request().spec.student
    run = RunDir.create(home, check.resolve(RunSpec(**SMALL, student=model, seed=seed, **fields)), teacher_run=teacher_run)
    networks.save_weights(networks.build(model, 10, 16, {}, seed, 0.1), run.best_weights("student"))
    play(run, [0.3, 0.4])
    return run.run_id


@pytest.fixture
def pair(home: Home) -> tuple[str, str]:
    """A teacher's run and that of the student that it taught."""
    teacher = finished(home, "resnet14", 2)
    return teacher, finished(home, "resnet8", 1, teacher, method="kd")


def _script(key: str) -> None:
    from pages.parts import pulse
    from pages.parts.learn import playground

    pulse.of()
    playground.draw(key)


@pytest.fixture
def drawn(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Draw the playground of a method: ``drawn("kd", **{"kd-T": "2"})``, the rest being the URL."""
    monkeypatch.setattr(pulse, "warm_up", lambda: None)
    monkeypatch.setattr(runner, "tick", lambda home: [])

    def draw(key: str, **query: str) -> AppTest:
        app = AppTest.from_function(_script, args=(key,), default_timeout=30)
        for name, value in query.items():
            app.query_params[name] = value
        return app.run()

    yield draw
    pulse.close_all()
    playground._loaded.clear()
    playground._read.clear()


def values(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def text(app: AppTest) -> str:
    return "\n".join(e.value for e in (*app.markdown, *app.caption))


# ---- drawn -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", METHODS)
def test_every_method_has_a_playground(drawn: Open, pair: tuple[str, str], key: str) -> None:
    app = drawn(key)
    assert not app.exception and not app.error
    assert "whole loss" in values(app) and len(app.metric) >= 2
    charts = [chart.proto.spec for chart in app.get("plotly_chart")]
    assert charts and all(len(spec) < 100 * 1024 for spec in charts)
    assert len(app.get("html")) >= 1
    assert "Computed on 20 images of digits" in text(app)


def test_a_slider_changes_the_numbers_and_can_be_put_back(drawn: Open, pair: tuple[str, str]) -> None:
    app = drawn("kd")
    before = values(app)
    slider = next(s for s in app.select_slider if s.label == "T")
    assert slider.value == "4" and "temperature" in text(app)
    slider.set_value("10").run()
    after = values(app)
    assert not app.exception and after["kd"] != before["kd"] and after["ce: labels"] == before["ce: labels"]
    assert next(m for m in app.metric if m.label == "kd").delta == f"default {before['kd']}"
    assert "Class probabilities at temperature 10" in text(app)
    next(b for b in app.button if b.key == "kd-reset").click().run()
    assert values(app) == before


def test_a_link_reopens_it(drawn: Open, pair: tuple[str, str]) -> None:
    app = drawn("kd", **{"kd-T": "10", "kd-image": "7"})
    assert next(s for s in app.select_slider if s.label == "T").value == "10"
    assert "temperature 10" in text(app) and "image of class 3" in text(app)
    plain = drawn("kd")
    wrong = drawn("kd", **{"kd-T": "warm", "kd-image": "999", "kd-student": "nobody", "kd-teacher": "nobody"})
    assert not wrong.exception and values(wrong) == values(plain)


def test_another_run_may_teach(drawn: Open, home: Home, pair: tuple[str, str]) -> None:
    other = finished(home, "resnet20", 5)
    app = drawn("kd", **{"kd-student": pair[1], "kd-teacher": other})
    assert not app.exception and not app.error and "resnet20 · digits" in text(app)
    assert values(app) != values(drawn("kd", **{"kd-student": pair[1]}))


def test_what_cannot_be_computed_is_a_message(drawn: Open, home: Home, pair: tuple[str, str]) -> None:
    app = drawn("fitnet", **{"fitnet-stage": "7"})
    assert not app.exception and "0 to 3" in app.error[0].value


def test_phases_and_progress_are_offered_where_there_are_any(drawn: Open, pair: tuple[str, str]) -> None:
    early = drawn("fitnet", **{"fitnet-phase": "main"})
    late = drawn("fitnet", **{"fitnet-phase": "main", "fitnet-done": "0.99"})
    assert "How far the training is" in [s.label for s in early.select_slider]
    assert values(early)["kd"] != values(late)["kd"]
    assert "How far the training is" not in [s.label for s in drawn("kd").select_slider]


def test_without_networks_it_says_what_to_press(drawn: Open, home: Home) -> None:
    app = drawn("kd")
    assert not app.exception and [b for b in app.button if b.key == "play-demo"]
    assert "Two trained networks" in text(app)


def test_one_network_alone_is_no_pair_and_two_are(drawn: Open, home: Home) -> None:
    finished(home, "resnet8", 0)
    app = drawn("kd")
    assert not app.exception and not app.error and "Two trained networks" in text(app)
    assert values(drawn("base")), "labels only need no other network"
    finished(home, "resnet14", 0)
    pulse.of().store.take_in()
    app = drawn("kd")
    assert not app.exception and not app.error and values(app), "another network of the same data may teach"


def test_a_student_with_a_teacher_comes_before_newer_ones_without(drawn: Open, home: Home, pair: tuple[str, str]) -> None:
    finished(home, "resnet20", 9)
    app = drawn("rkd")
    assert not app.exception and not app.error
    assert next(box for box in app.selectbox if box.label == "Student").value == pair[1]


def test_runs_without_weights_are_no_networks(drawn: Open, seeded: Seeded) -> None:
    assert [b for b in drawn("kd").button if b.key == "play-demo"]


# ---- knobs -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", methods.entries())
def test_steps_stay_within_the_bounds_and_offer_the_default(key: str) -> None:
    params = methods.get(key).params
    for name, knob in params.model_json_schema().get("properties", {}).items():
        for default in (knob["default"], *knob.get("per", {}).values()):
            offered = playground.steps(knob, default)
            assert playground._key(default) in offered and 2 <= len(offered) <= 60
            for given in offered:
                assert getattr(params(**{name: playground._value(knob, given)}), name) == playground._value(knob, given)
            assert playground._value(knob, playground._key(default)) == default


# ---- pictures ----------------------------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)
B, K = 6, 10
SCENE = pictures.Scene("kd", RANDOM.integers(0, 255, (B, 16, 16, 3), dtype=np.uint8), np.array([0, 0, 3, 3, 8, 8]),
                       tuple(f"class-{k}" for k in range(K)), 2)  # fmt: skip
SHAPES = {
    "probabilities": (B, K), "scores": (B, K), "values": (B, 5), "matrix": (B, 4, 7), "maps": (B, 4, 4), "masks": (B, 9, 4, 4),
    "channels": (B, 9, 4, 4), "points": (B, 2), "images": (B, 3, 16, 16),
}  # fmt: skip


def picture(kind: str, **more: Any) -> pictures.Picture:
    own, theirs = (RANDOM.random(SHAPES[kind]).astype(np.float32) for _ in range(2))
    return pictures.Picture("A title", kind, **({"student": own, "teacher": theirs, "note": "A note."} | more))


@pytest.mark.parametrize("kind", pictures.DRAWN)
def test_every_kind_is_drawn_with_either_side_alone_and_for_a_part_of_the_images(kind: str) -> None:
    part = np.array([1, 2, 5])
    cases = [{}, {"student": None}, {"teacher": None}]
    if kind not in ("matrix", "values", "points"):
        cases += [
            {"of": part, "student": RANDOM.random((3, *SHAPES[kind][1:])), "teacher": RANDOM.random((3, *SHAPES[kind][1:]))}
        ]
    for case in cases:
        drawing = pictures.draw(picture(kind, **case), SCENE)
        assert drawing.figures or "<img" in drawing.html
        assert sum(len(f.to_json()) for f in drawing.figures) + len(drawing.html) < 100 * 1024


def test_every_kind_of_the_contract_can_be_drawn() -> None:
    from typing import get_args

    from kdengine.methods.contract import Kind

    assert set(pictures.DRAWN) == set(get_args(Kind))


def test_tables_of_both_sides_share_one_scale() -> None:
    own, theirs, gap = pictures.draw(picture("matrix"), SCENE).figures
    assert (own.data[0].zmin, own.data[0].zmax) == (theirs.data[0].zmin, theirs.data[0].zmax)
    np.testing.assert_allclose(gap.data[0].z, own.data[0].z - theirs.data[0].z, atol=1e-6)
    assert gap.data[0].zmin == -gap.data[0].zmax


def test_bars_of_many_classes_keep_the_label() -> None:
    shares = np.zeros((1, 100), dtype=np.float32)
    shares[0, :50] = 0.02
    scene = pictures.Scene("kd", SCENE.images[:1], np.array([77]), tuple(f"class-{k}" for k in range(100)), 0)
    bars = pictures.draw(pictures.Picture("t", "probabilities", shares, None, "n"), scene).figures[0].data
    assert [bar.name for bar in bars] == ["student", "label"] and len(bars[0].x) == pictures.MOST_BARS
    assert "<b>class-77, label</b>" in bars[0].x and bars[1].y.max() == 100


def test_images_are_shown_pixel_by_pixel() -> None:
    address = tiles.thumbnail(SCENE.images[0])
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
    assert np.array_equal(shown, SCENE.images[0])
    assert "image-rendering:pixelated" in pictures.draw(picture("images"), SCENE).html


def test_heat_lies_over_the_image_block_by_block() -> None:
    image = np.full((8, 8, 3), 100, dtype=np.uint8)
    laid = tiles.over(image, np.array([[0.0, 1.0], [0.5, 0.25]]), 1.0)
    assert laid.shape == image.shape and len(np.unique(laid.reshape(-1, 3), axis=0)) == 4
    assert (laid[:4, :4] == laid[0, 0]).all() and laid[0, 7].sum() > laid[0, 0].sum()


def test_an_image_that_takes_no_part_is_said() -> None:
    half = {"of": np.array([0, 5]), "student": RANDOM.random((2, K)), "teacher": RANDOM.random((2, K))}
    assert "not among the 2 images" in pictures.draw(picture("probabilities", **half), SCENE).said
    assert "not among" not in pictures.draw(picture("probabilities"), SCENE).said


def test_names_cannot_bring_html_of_their_own() -> None:
    drawing = pictures.draw(picture("maps", sides=("<b>student</b>", "teacher")), SCENE)
    assert "<b>student" not in drawing.html and "&lt;b&gt;student" in drawing.html
