"""The tab on teacher and student: synthetic predictions in, the right numbers and pictures out; what is missing is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from kdengine.home import Home
from kdengine.rundir import RunDir
from kdengine.spec import RunSpec
from pages.parts.compare import pair_figures, pair_sides
from store.compare import pair
from store.export.colours import style_of
from tests.pages.seed import Seeded, play

Visit = Callable[..., AppTest]
LABELS = np.arange(60) % 10


def logits(wrong: int, shift: int = 1, labels: np.ndarray = LABELS) -> np.ndarray:
    """Answer to all images, the first ``wrong`` of them with the class ``shift`` further on."""
    said = np.where(np.arange(len(labels)) < wrong, (labels + shift) % 10, labels)
    return (5.0 * np.eye(10)[said]).astype(np.float16)


def leave(home: Home, run_id: str, labels: np.ndarray = LABELS, **networks: np.ndarray) -> None:
    """Write what a finished training leaves, features of 40 images included."""
    rng = np.random.default_rng(0)
    run, shared = RunDir(home.runs / run_id), rng.normal(size=(40, 8))
    np.savez(run.predictions_npz, labels=labels, **{f"logits_{name}": z for name, z in networks.items()})
    maps: dict[str, Any] = {"stage1_student": shared.reshape(40, 2, 2, 2), "embedding_student": rng.normal(size=(40, 3))}
    np.savez(run.features_npz, index=np.arange(40), **maps)


@pytest.fixture
def left(home: Home, seeded: Seeded) -> Seeded:
    """The demo suite with predictions: teacher 4 wrong, kd 10 wrong (the same answers), base 20 wrong (other answers)."""
    for run_id in [seeded.teacher, *seeded.finished]:
        method = run_id.split("-")[2]
        if run_id == seeded.teacher:
            leave(home, run_id, student=logits(4))
        elif method == "base":
            leave(home, run_id, student=logits(20, shift=2))
        else:
            partner = "peer1" if method == "dml" else "teacher"
            leave(home, run_id, student=logits(10), **{partner: logits(4)})
    return seeded


def errors(app: AppTest) -> list[str]:
    return [e.value for e in app.exception] + [e.value for e in app.error]


def texts(app: AppTest) -> str:
    return "\n".join(e.value for e in [*app.markdown, *app.caption])


# ---- the tab -------------------------------------------------------------------------------------------------------------


def test_numbers_of_a_student_its_teacher_and_the_student_alone(visit: Visit, left: Seeded) -> None:
    app = visit("compare", tab="pair", student="kd")
    assert errors(app) == []
    assert [(m.label, m.value) for m in app.metric] == [
        ("Says what its teacher says", "90.0 %"),
        ("Copies its teacher's mistakes", "8 of 8"),
        ("Calibration error", f"{100 * (np.exp(5) / (np.exp(5) + 9) - 50 / 60):.1f} %"),
    ]
    said = texts(app)
    # 4 wrong of 60, so 1 of 6 images in 4 classes; the student's habit there is 1 wrong of 6: 2 seeds x 4 x 1/6
    assert "by chance 1.3 ± 1.1, resnet8 alone 0 (2 seeds together)" in said
    assert "of 60 test images both get 50 (kd) and 40 (resnet8 alone)" in said
    assert len(app.get("plotly_chart")) == 7
    sheet = next(e.value if hasattr(e, "value") else e.proto.body for e in app.get("html"))
    assert sheet.count("<figure") == 6 and "resnet8 alone" not in sheet and "✓" in sheet


def test_the_gap_is_that_of_the_accuracies(visit: Visit, home: Home, left: Seeded) -> None:
    app = visit("compare", tab="pair", student="kd", which="last")
    last: dict[str, list[float]] = {}
    for run_id in left.finished:
        event = RunDir(home.runs / run_id).last_epoch()
        assert event is not None
        last.setdefault(run_id.split("-")[2], []).append(float(event.measures["student"].test_top1_frac or 0))
    student, alone, teacher = np.mean(last["kd"]), np.mean(last["base"]), 0.967
    share = 100 * (student - alone) / (teacher - alone)
    assert f"**kd closes {share:.0f} ± " in texts(app) and "(last epoch, 2 seeds)" in texts(app)


def test_copied_mistakes_beside_those_of_another_method(visit: Visit, left: Seeded) -> None:
    app = visit("compare", tab="pair", student="kd", beside="ft")
    assert errors(app) == [] and "ft 8 (2 seeds together)" in texts(app)  # 4 in each of both seeds


def test_the_student_alone_is_offered_once(visit: Visit, left: Seeded) -> None:
    beside = next(box for box in visit("compare", tab="pair", student="kd").selectbox if box.label == "Beside it")
    assert beside.options[0] == "resnet8 alone" and "fitnet" in beside.options
    assert not {"base", "kd"} & set(beside.options)


def test_choices_live_in_the_url(visit: Visit, left: Seeded) -> None:
    app = visit("compare", tab="pair", student="fitnet", beside="kd", images="student", also=["equal"], **{"of-seed": "1"})
    assert errors(app) == []
    chosen = {box.label: box.value for box in app.selectbox}
    assert (chosen["Student"], chosen["Beside it"], chosen["Seeds"]) == ("fitnet", "kd", "1")
    assert "seed 1" in texts(app) or "Seeds: 1" in texts(app)
    assert "batch_size" in app.dataframe[-1].value.index


def test_a_link_that_means_nothing_is_a_message(visit: Visit, left: Seeded) -> None:
    app = visit("compare", tab="pair", student="nobody", images="all", specs="?", **{"of-seed": "77"})
    assert not app.exception and "nobody" in " ".join(e.value for e in app.error)
    assert app.metric


def test_peers_are_held_against_one_another(visit: Visit, left: Seeded) -> None:
    app = visit("compare", tab="pair", student="dml")
    assert errors(app) == [] and app.metric[0].label == "Says what its peer says"
    assert "of the gap" not in texts(app)


def test_a_student_alone_and_a_born_again_one(visit: Visit, left: Seeded) -> None:
    app = visit("compare", tab="pair", student="base")
    assert errors(app) == [] and "learnt alone" in texts(app) and [m.label for m in app.metric] == ["Calibration error"]
    app = visit("compare", tab="pair", student="ban")
    assert errors(app) == [] and "**ban falls" in texts(app) and "behind resnet8 trained alone" in texts(app)


def test_the_specs_of_all_chosen_runs(visit: Visit, left: Seeded) -> None:
    app = visit("compare", tab="pair", specs="chosen")
    shown = app.dataframe[-1].value
    assert sorted(shown.columns) == ["ban", "base", "dml", "fitnet", "ft", "kd"]
    assert shown.loc["params.T", "kd"] == "4" and shown.loc["method", "ban"] == "ban"
    assert "Seeds: 0 and 1" in texts(app)


# ---- what is missing -----------------------------------------------------------------------------------------------------


def test_without_predictions_the_specs_are_still_there(visit: Visit, seeded: Seeded) -> None:
    app = visit("compare", tab="pair", student="kd")
    assert errors(app) == [] and "left no predictions" in texts(app) and len(app.dataframe) == 1


def test_without_features_only_the_layers_are_missing(visit: Visit, home: Home, left: Seeded) -> None:
    for run_id in left.finished:
        RunDir(home.runs / run_id).features_npz.unlink()
    app = visit("compare", tab="pair", student="kd")
    assert errors(app) == [] and "features of the student or of its teacher are not here" in texts(app)
    assert len(app.get("plotly_chart")) == 5


def test_a_damaged_file_is_named(visit: Visit, home: Home, left: Seeded) -> None:
    run_id = next(i for i in left.finished if "-kd-" in i)
    RunDir(home.runs / run_id).predictions_npz.write_bytes(b"PK half")
    app = visit("compare", tab="pair", student="kd")
    assert not app.exception and f"{run_id}/predictions.npz" in app.error[0].value.replace("\\", "")


def test_other_test_images_are_refused(visit: Visit, home: Home, left: Seeded) -> None:
    run_id = next(i for i in left.finished if "-kd-" in i)
    leave(home, run_id, labels=LABELS[:30], student=logits(3, labels=LABELS[:30]), teacher=logits(1, labels=LABELS[:30]))
    app = visit("compare", tab="pair", student="kd")
    assert not app.exception and "tested on the same images" in app.error[0].value


def test_a_missing_baseline_is_offered_and_launched(visit: Visit, home: Home) -> None:
    spec = RunSpec(method="kd", params={"T": 4.0}, teacher="resnet20", student="resnet8", dataset="digits", suite="s", seed=3)
    run = RunDir.create(home, spec)
    play(run, [0.5, 0.8], teacher_top1=0.9)
    leave(home, run.run_id, student=logits(10), teacher=logits(4))
    app = visit("compare", tab="pair")
    assert errors(app) == [] and "is known once resnet8 has been trained alone" in texts(app)
    app.button(key="train-alone").click().run()
    made = [RunDir(p) for p in home.runs.iterdir() if p.name != run.run_id]
    assert len(made) == 1 and made[0].read_request().spec.identity() == pair.alone(spec).identity()


def test_predictions_of_another_epoch_are_noticed(visit: Visit, home: Home, left: Seeded) -> None:
    app = visit("compare", tab="pair", student="kd")
    assert "do not have the calibration error that was logged" in texts(app)  # the seeded log knows nothing of these files
    found = pair.answers(RunDir(home.runs / left.finished[0]))
    assert found is not None and pair.fits_log(found, pair.ece(pair.reliability(found, "student")))


# ---- figures -------------------------------------------------------------------------------------------------------------


def test_figures_of_a_hundred_classes_are_light() -> None:
    rng, labels = np.random.default_rng(0), np.arange(10_000) % 100
    ours, theirs = rng.random((1, 10_000)) < 0.75, rng.random((1, 10_000)) < 0.7
    frame, names = pair.gains(labels, ours, theirs, 100), [f"class number {i}" for i in range(100)]
    for every in (False, True):
        figure = pair_figures.gains(frame, names, style_of("kd"), every=every)
        assert len(figure.to_json()) < 100 * 1024 and len(figure.data) <= 40
        assert len(figure.layout.yaxis.ticktext) == (100 if every else pair_figures.CLASSES_SHOWN)


def test_only_clear_gains_are_coloured_and_classes_stand_in_their_place() -> None:
    frame = pd.DataFrame({"class": [7, 2], "n": [10, 10], "gain_frac": [-0.5, 0.1], "band_frac": [0.3, 0.3], "p": [0.001, 0.6],
                          "clear": [True, False]})  # fmt: skip
    figure = pair_figures.gains(frame, [str(i) for i in range(10)], style_of("kd"))
    assert list(figure.layout.yaxis.ticktext) == ["7", "2"] and list(figure.layout.yaxis.tickvals) == [0, 1]
    np.testing.assert_allclose(figure.data[1].x, [-50, 10])
    assert figure.data[1].marker.color == (style_of("kd").colour, pair_figures.REFERENCE)
    assert [a.text for a in figure.layout.annotations] == ["\N{MINUS SIGN}50.0", "+10.0"]


def test_calibration_draws_no_point_of_a_handful_of_images() -> None:
    frame = pd.DataFrame({"low": [0.0, 0.5], "high": [0.5, 1.0], "n": [4, 96], "confidence_frac": [0.4, 0.9],
                          "accuracy_frac": [0.0, 0.8]})  # fmt: skip
    figure = pair_figures.calibration({"kd": (style_of("kd"), frame)})
    np.testing.assert_allclose(figure.data[1].y, [80])
    np.testing.assert_allclose(figure.data[2].y, [4, 96])


def test_fates_have_a_bar_per_student() -> None:
    counted = dict(zip(pair.FATES, (5.0, 4.0, 3.0, 2.0, 1.0), strict=True))
    figure = pair_figures.fates({"kd": (style_of("kd"), counted), "alone": (style_of("base"), counted)}, partner="the teacher")
    assert len(figure.data) == 2 and list(figure.data[0].x) == [4, 3, 2, 1]
    assert figure.data[1].marker.pattern.shape == "/"


def test_the_sheet_escapes_what_people_named() -> None:
    saying = pair_figures.Saying("<b>who", "<i>said", 0.5, False)
    sheet = pair_figures.sheet([pair_figures.Picture(np.zeros((8, 8, 3), np.uint8), 3, "<script>", (saying,)),
                                pair_figures.Picture(None, 4, "cat", ())])  # fmt: skip
    assert "<script>" not in sheet and "&lt;i&gt;said" in sheet and sheet.count("<img") == 1 and "50 %" in sheet


@pytest.mark.parametrize(
    ("student", "words"),
    [(0.7, "kd closes 50 % of the gap"), (0.95, "kd passes its teacher"), (0.5, "kd falls 10.0 points behind resnet8")],
)
def test_the_gap_in_words(student: float, words: str) -> None:
    gap = pair.gap_closed(pd.DataFrame({"student_frac": [student], "alone_frac": [0.6], "teacher_frac": [0.8]}))
    assert gap is not None
    way = pair_figures.Way("kd", style_of("kd"), gap)
    sentence = pair_sides.gap_sentence(way, "resnet8", "best on test")
    assert words in sentence and "more seeds would say" in sentence
    assert len(pair_figures.gap([way, way], which="best on test").data) == 12


def test_runs_of_one_group_differ_in_the_seed_only() -> None:
    assert pair_sides.together(pd.DataFrame({"status": [], "setting": [], "seed": [], "created_at": [], "run_id": []})) == {}
    side = SimpleNamespace(rows=pd.DataFrame({"seed": [1, 2]}), answers=("a", "b"))
    other = SimpleNamespace(rows=pd.DataFrame({"seed": [2, 3]}), answers=("c", "d"))
    apart = SimpleNamespace(rows=pd.DataFrame({"seed": [8]}), answers=("e",))
    assert pair_sides.paired(side, other) == [("b", "c")]  # type: ignore[arg-type, comparison-overlap]
    assert pair_sides.paired(side, apart) == [("a", "e")]  # type: ignore[arg-type, comparison-overlap]


def test_files_are_read_once(home: Home, left: Seeded, visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    visit("compare", tab="pair", student="kd")
    read: list[Path] = []
    original = pair._arrays
    monkeypatch.setattr(pair, "_arrays", lambda file: (read.append(file), original(file))[1])
    visit("compare", tab="pair", student="kd")
    assert read == []
    changed = next(i for i in left.finished if "-kd-" in i)
    leave(home, changed, student=logits(11), teacher=logits(4))
    visit("compare", tab="pair", student="kd")
    assert {file.parent.name for file in read} >= {changed}
