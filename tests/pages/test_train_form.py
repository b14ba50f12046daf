"""The launch form: knobs from Params, a suite's count, every problem at once, and the launch itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from kdengine import datasets, methods, models
from kdengine.home import Home
from kdengine.rundir import run_dirs
from tests.pages.conftest import Visit
from tests.pages.seed import Seeded


def launch_button(app: AppTest) -> object:
    return next(b for b in app.button if b.key == "launch")


@pytest.mark.slow
@pytest.mark.parametrize("method", methods.keys())
def test_every_method_has_a_form_that_launches(visit: Visit, method: str) -> None:
    app = visit("train", method=method)
    assert not app.exception and not app.error
    labels = [w.label for w in (*app.number_input, *app.selectbox, *app.toggle, *app.text_input)]
    knobs = methods.get(method).params.model_json_schema().get("properties", {})
    assert set(knobs) <= set(labels)
    assert launch_button(app).label.startswith("Train 1 run (") and not launch_button(app).disabled


def test_knobs_carry_bounds_help_and_source(visit: Visit) -> None:
    app = visit("train", method="kd")
    knob = next(w for w in app.number_input if w.label == "T")
    assert (knob.min, knob.max, knob.value) == (0.5, 100.0, 4.0)
    assert "temperature" in knob.help and "Default from" in knob.help


def test_a_weight_goes_with_its_form(visit: Visit) -> None:
    app = visit("train", method="cc")
    weight = next(w for w in app.number_input if w.label == "beta")
    assert weight.value == 100
    weight.set_value(7.0)
    next(w for w in app.selectbox if w.label == "form").set_value("adjacent").run()
    assert next(w for w in app.number_input if w.label == "beta").value == 0.02
    next(w for w in app.selectbox if w.label == "form").set_value("kernel").run()
    assert not app.exception


def test_generations_are_asked_for_where_there_are_any(visit: Visit, home: Home) -> None:
    assert "Generations" not in [w.label for w in visit("train", method="kd").number_input]
    app = visit("train", method="ban")
    next(w for w in app.number_input if w.label == "Generations").set_value(3)
    app.run()
    assert "resnet8" in "\n".join(m.value for m in app.markdown if "trained first" in m.value)
    launch_button(app).click().run()
    assert sorted(run.read_request().spec.generation for run in run_dirs(home)) == [0, 1, 2, 3]


def test_banks_are_said_before_the_start(visit: Visit) -> None:
    app = visit("train", method="crd", dataset="cifar10")
    assert "49 MiB of it for what the method keeps" in "\n".join(m.value for m in app.markdown).replace("\xa0", " ")
    assert "for what the method keeps" not in "\n".join(m.value for m in visit("train", method="kd").markdown)


def test_a_suite_counts_methods_pairs_and_seeds(visit: Visit) -> None:
    app = visit("train", many="suite", methods=["base", "kd", "dml"])
    next(w for w in app.number_input if w.label == "Seeds").set_value(3).run()
    assert launch_button(app).label.startswith("Train 9 runs (")


def test_a_suite_offers_every_larger_network_as_a_teacher(visit: Visit) -> None:
    app = visit("train", many="suite", methods=["kd"])
    pairs = next(w for w in app.multiselect if w.key == "pairs")
    n = len(models.keys())
    assert len(pairs.options) == n * (n - 1) // 2
    assert {"resnet32x4 → shufflenetv2", "vgg13 → mobilenetv2", "resnet50 → vgg8"} <= set(pairs.options)
    assert not app.exception and not app.error


def test_large_images_bring_torchvisions_networks(visit: Visit, home: Home, tmp_path: Path) -> None:
    assert not any("torchvision" in o for o in next(w for w in visit("train").selectbox if w.key == "student").options)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "pets" / split / label
            folder.mkdir(parents=True)
            for i in range(16):
                Image.new("RGB", (80, 96), (i, 9, 9)).save(folder / f"{i}.png")
    datasets.add(home, "pets", imagefolder=tmp_path / "pets")
    app = visit("train", method="kd", student="torchvision:alexnet", dataset="pets")
    assert not app.exception and not app.error
    size = next(w for w in app.number_input if w.label == "Image size")
    assert size.value == 80, "that of the images, not of the small ones elsewhere"
    size.set_value(32).run()
    assert not app.exception and "image\\_size" in app.error[0].value and launch_button(app).disabled
    next(w for w in app.number_input if w.label == "Image size").set_value(64).run()
    assert not app.exception and not app.error
    assert launch_button(app).label.startswith("Train 1 run (") and not launch_button(app).disabled


def test_all_problems_come_at_once(visit: Visit) -> None:
    app = visit("train", method="kd")
    for label, value in (("Training images", 5), ("Image size", 8), ("Crop padding", 20)):
        next(w for w in app.number_input if w.label == label).set_value(value)
    app.run()
    text = app.error[0].value
    assert "batch\\_size" in text and "crop\\_pad" in text
    assert launch_button(app).disabled


def test_launching_makes_the_run_and_its_teacher_and_shows_it(visit: Visit, home: Home) -> None:
    app = visit("train", method="kd")
    next(w for w in app.number_input if w.label == "Epochs").set_value(2)
    next(w for w in app.number_input if w.label == "Training images").set_value(64)
    app.run()
    launch_button(app).click().run()
    assert not app.exception
    specs = {run.read_request().spec.method: run.read_request() for run in run_dirs(home)}
    assert set(specs) == {"base", "kd"}
    assert specs["kd"].spec.epochs == 2 and specs["kd"].spec.train_images == 64
    assert specs["kd"].teacher_run == specs["base"].run_id
    assert app.title[0].value == "kd: resnet20 → resnet8"


def test_a_teacher_that_is_there_is_not_trained_again(visit: Visit, seeded: Seeded) -> None:
    app = visit("train", method="kd", **{"teacher_epochs": "8"})
    assert "already there" in "\n".join(m.value for m in app.markdown)


PATHS = dict.fromkeys(("teacher_weights", "student_init", "peer_inits", "teacher_run", "student_options"), "/etc/passwd")
TYPED = {"dataset": "../../etc", "student": "../../x", "teacher": "/etc/passwd", "recipe": "~/r", "precision": "/x"}


def test_no_address_and_no_state_of_a_session_names_a_file(visit: Visit, home: Home) -> None:
    """Only names that somebody registered on the server are offered; fields of a spec that name files have no widget at all."""
    app = visit("train", method="kd", **PATHS, **TYPED)
    for name, value in PATHS.items():
        app.session_state[name] = app.session_state[f"{name}-choice"] = value
    app = app.run()
    device = next(w for w in app.text_input if w.label == "Device")
    assert launch_button(device.input("/dev/sda").run()).disabled
    device.input("auto").run()
    launch_button(app).click().run()
    assert not app.exception
    (spec,) = (run.read_request().spec for run in run_dirs(home) if run.read_request().spec.method == "kd")
    assert (spec.teacher_weights, spec.student_init, spec.peer_inits, spec.teacher_run) == (None, None, (), None)
    assert (spec.dataset, spec.student, spec.teacher) == ("digits", "resnet8", "resnet20")
    labels = {w.label for w in (*app.number_input, *app.selectbox, *app.toggle, *app.text_input, *app.multiselect)}
    assert not {label for label in labels if any(word in label.lower() for word in ("file", "path", "folder", "weights"))}
    assert not app.get("file_uploader")


@pytest.mark.parametrize("text", ["../../x", "/etc/passwd", "a\x00b", "x" * 3000, "a\u202eb", "a b", "..", "$(id)"])
@pytest.mark.parametrize("field", ["Suite", "Tags"])
def test_path_tricks_in_names_are_refused_before_anything_starts(visit: Visit, home: Home, field: str, text: str) -> None:
    app = visit("train")
    next(w for w in app.text_input if w.label == field).input(text).run()
    assert not app.exception
    if field == "Tags" and text == "a b":  # two tags
        assert not launch_button(app).disabled
    else:
        assert launch_button(app).disabled and app.error
    assert not run_dirs(home)
