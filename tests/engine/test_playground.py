"""The playground: every method on two networks of run folders and real images. Reads / writes: the tests' temporary folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from kdengine import check, data, methods, networks, playground
from kdengine.errors import KdError, SpecError
from kdengine.home import Home
from kdengine.rundir import RunDir, find_run
from kdengine.spec import RunSpec
from kdengine.train import train

ENTRIES = methods.entries()
SMALL: dict[str, Any] = {"image_size": 16, "train_images": 128, "epochs": 2, "batch_size": 32, "precision": "fp32", "seed": 1}


def make(home: Home, model: str = "resnet8", teacher_run: str | None = None, seed: int = 1, **fields: Any) -> str:
    """Leave the folder of a run whose network never learnt anything, and return its name."""
    values = SMALL | {"student": model, "seed": seed} | fields
    if teacher_run is not None:
        values["teacher"] = find_run(home, teacher_run).read_request().spec.student
    run = RunDir.create(home, check.resolve(RunSpec(**values)), teacher_run=teacher_run)
    network = networks.build(model, 10, values["image_size"], {}, seed, 0.1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # statistics as if it had learnt, so that networks differ in eval mode too
        for name, tensor in network.state_dict().items():
            if name.endswith(("running_mean", "running_var")):
                tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator))
    networks.save_weights(network, run.best_weights("student"))
    return run.run_id


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, str, str]:
    """A home with a teacher's run and that of a student that it taught by soft targets."""
    home = Home(tmp_path_factory.mktemp("playground") / "kd").made()
    teacher = make(home, "resnet14", seed=2)
    return home, make(home, "resnet8", teacher, method="kd"), teacher


@pytest.fixture(scope="module")
def benches(pair: tuple[Home, str, str]) -> Any:
    """Return a function that gives the bench of a method, made once."""
    made: dict[str, playground.Bench] = {}

    def bench(key: str) -> playground.Bench:
        if key not in made:
            made[key] = playground.load(pair[0], key, pair[1], count=12)
        return made[key]

    return bench


CASES = [
    pytest.param(key, phase.name, id=f"{key}-{phase.name}")
    for key, entry in ENTRIES.items()
    for phase in entry.method.phases(entry.params())
]


def shape_fits(kind: str, shape: torch.Size, images: int) -> bool:
    """Say whether a tensor of a picture has the shape that its kind promises."""
    sizes = {"probabilities": (2,), "scores": (2,), "values": (1, 2), "matrix": (2, 3), "maps": (3,), "masks": (4,),
             "channels": (4,), "points": (2,), "images": (4,)}  # fmt: skip
    per_image = kind not in ("values", "matrix") or len(shape) == max(sizes[kind])
    return len(shape) in sizes[kind] and (not per_image or shape[0] == images)


@pytest.mark.parametrize(("key", "phase"), CASES)
def test_every_phase_gives_terms_pulls_and_pictures(benches: Any, key: str, phase: str) -> None:
    bench = benches(key)
    reading = playground.read(bench, {}, phase)
    assert reading.terms and reading.phase == phase
    assert reading.total == pytest.approx(sum(reading.terms.values()))
    student_runs = "student" in next(p.runs for p in ENTRIES[key].method.phases(ENTRIES[key].params()) if p.name == phase)
    assert bool(reading.pulls) == student_runs
    if student_runs:
        assert max(by_term["total"] for by_term in reading.pulls.values()) > 0
    for place in reading.pulls:
        assert sum(reading.shares(place).values()) == pytest.approx(1) or not any(reading.shares(place).values())
    assert reading.pictures
    for picture in reading.pictures:
        images = len(bench.batch.y) if picture.of is None else len(picture.of)
        given = [x for x in (picture.student, picture.teacher) if x is not None]
        assert given and picture.title and picture.note
        for tensor in given:
            assert tensor.dtype == torch.float32 and not tensor.requires_grad and torch.isfinite(tensor).all(), picture.title
            assert shape_fits(picture.kind, tensor.shape, images), (picture.title, tensor.shape)
        if picture.kind == "probabilities":
            torch.testing.assert_close(given[0].sum(1), torch.ones(images))
        if picture.kind == "masks":
            assert all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in given)


def changes(one: playground.Reading, two: playground.Reading) -> bool:
    """Say whether a term or a picture of two readings differs."""
    if any(two.terms[name] != pytest.approx(value, rel=1e-6) for name, value in one.terms.items()):
        return True
    sides = zip(_tensors(one), _tensors(two), strict=True)
    return any(a.shape != b.shape or not torch.allclose(a, b) for a, b in sides)


def _tensors(reading: playground.Reading) -> list[torch.Tensor]:
    return [x for p in reading.pictures for x in (p.student, p.teacher) if x is not None]


def moved(key: str, name: str) -> float | None:
    """Return another allowed value of a knob that is a number; None for one that is not or that counts epochs."""
    field = ENTRIES[key].params.model_fields[name]
    if field.annotation is not float or name.endswith("_epochs"):
        return None
    for value in (2 * field.default, field.default / 2, field.default + 1):
        try:
            ENTRIES[key].params(**{name: value})
        except ValueError:
            continue
        return float(value)
    return None


@pytest.mark.parametrize("key", ENTRIES)
def test_knobs_change_what_is_read(benches: Any, key: str) -> None:
    values = {name: value for name in ENTRIES[key].params.model_fields if (value := moved(key, name)) is not None}
    if not values:
        assert not ENTRIES[key].params.model_fields or all(
            f.annotation is not float for f in ENTRIES[key].params.model_fields.values()
        )
        return
    bench = benches(key)
    plain = playground.read(bench, {})
    assert any(changes(plain, playground.read(bench, {name: value})) for name, value in values.items())
    assert not changes(plain, playground.read(bench, {})), "the same knobs, the same reading"


def test_terms_and_push_are_those_of_the_formula(pair: tuple[Home, str, str]) -> None:
    home, student_run, teacher_run = pair
    bench = playground.load(home, "kd", student_run, index=[3, 1, 4, 1, 5])
    reading = playground.read(bench, {"T": 3.0, "lambda_kd": 0.5, "lambda_ce": 0.25})
    dataset = data.load(home, "digits", image_size=16, train_images=128)
    images = data.normalise(dataset.test.x[[3, 1, 4, 1, 5]], dataset.mean, dataset.std)
    logits = []
    for run_id, model in ((student_run, "resnet8"), (teacher_run, "resnet14")):
        network = networks.build(model, 10, 16, {}, 0, 0.1)
        networks.load_weights(network, find_run(home, run_id).best_weights("student"), "test")
        logits.append(network.eval()(images).logits.detach().double())
    soft_s, soft_t = (z.div(3).softmax(1) for z in logits)
    kl = (soft_t * (soft_t / soft_s).log()).sum(1).mean()
    assert reading.terms["kd"] == pytest.approx(float(0.5 * 9 * kl), rel=1e-3)
    assert reading.terms["ce"] == pytest.approx(
        0.25 * float(F.cross_entropy(logits[0], dataset.test.y[[3, 1, 4, 1, 5]])), rel=1e-4
    )
    torch.testing.assert_close(reading.push["kd"].double(), 0.5 * 3 * (soft_t - soft_s), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(reading.pictures[0].student.double(), soft_s, rtol=1e-3, atol=1e-5)
    assert reading.pulls["logits"]["total"] <= reading.pulls["logits"]["kd"] + reading.pulls["logits"]["ce"] + 1e-6


Loss = Callable[..., torch.Tensor]
LAST = {"stages": "last"}
# method -> knobs, term, and the term computed anew from the first picture of the phase at hand: what is drawn is what is compared
DRAWN: dict[str, tuple[dict[str, Any], str, Loss]] = {
    "kd": ({"T": 2.5}, "kd", lambda p, a, b: p.lambda_kd * p.T**2 * F.kl_div(a.log(), b, reduction="batchmean")),
    "ban": ({"T": 2.5}, "kd", lambda p, a, b: p.lambda_kd * p.T**2 * F.kl_div(a.log(), b, reduction="batchmean")),
    "dml": ({}, "kl", lambda p, a, b: p.lambda_kd * F.kl_div(a.log(), b, reduction="batchmean")),
    "logits": ({}, "logits", lambda p, a, b: p.lambda_kd * F.mse_loss(a, b)),
    "fitnet": ({}, "hint", lambda p, a, b: p.beta * F.mse_loss(a, b)),
    "ft": ({}, "ft", lambda p, a, b: p.beta * F.l1_loss(a, b)),
    "fsp": (LAST, "fsp", lambda p, a, b: p.beta * F.mse_loss(a, b)),
    "nst": ({}, "nst", lambda p, a, b: p.beta * (a - b).square().sum((1, 2)).mean()),
    "at": (LAST | {"p": 3.0}, "at", lambda p, a, b: p.beta * F.mse_loss(a, b)),
    "lwm": ({}, "lwm", lambda p, a, b: p.beta * F.l1_loss(a, b)),
    "sp": ({}, "sp", lambda p, a, b: p.beta * F.mse_loss(a, b)),
    "cc": ({"gamma": 0.7}, "cc", lambda p, a, b: p.beta * F.mse_loss(a, b)),
    "rkd": ({}, "distance", lambda p, a, b: p.beta * p.w_dist * F.smooth_l1_loss(a, b)),
    "pkt": ({}, "pkt", lambda p, a, b: p.beta * (b * ((b + p.eps) / (a + p.eps)).log()).mean()),
}


@pytest.mark.parametrize("key", DRAWN)
def test_the_picture_is_what_the_loss_compares(benches: Any, key: str) -> None:
    knobs, term, loss = DRAWN[key]
    reading = playground.read(benches(key), knobs)
    picture = reading.pictures[0]
    computed = loss(ENTRIES[key].params(**knobs), picture.student.double(), picture.teacher.double())
    assert reading.terms[term] == pytest.approx(float(computed), rel=2e-2)


def test_images_are_spread_over_classes_and_repeat_themselves(pair: tuple[Home, str, str]) -> None:
    labels = torch.arange(1000) % 100
    one, two = (playground.choose(labels, 20, seed=3) for _ in range(2))
    assert one.tolist() == two.tolist() and len(set(one.tolist())) == 20
    assert torch.bincount(labels[one]).unique().tolist() == [0, 2] and labels[one].tolist() == sorted(labels[one].tolist())
    assert playground.choose(labels, 20, seed=4).tolist() != one.tolist()
    bench = playground.load(pair[0], "base", pair[1], count=20)
    dataset = data.load(pair[0], "digits", image_size=16)
    assert torch.equal(bench.pixels, dataset.test.x[bench.batch.index]) and torch.equal(
        bench.batch.y, dataset.test.y[bench.batch.index]
    )


def test_a_method_that_remembers_images_gets_training_images(pair: tuple[Home, str, str]) -> None:
    key = next(k for k, e in ENTRIES.items() if "index" in e.card.needs)
    bench = playground.load(pair[0], key, pair[1])
    dataset = data.load(pair[0], "digits", image_size=16, train_images=128)
    assert torch.equal(bench.pixels, dataset.train.x[bench.batch.index])
    assert any("training images" in notice for notice in playground.read(bench, {}).notices)


def test_problems_come_all_at_once_and_never_as_a_trace(pair: tuple[Home, str, str]) -> None:
    home, student_run, teacher_run = pair
    bench = playground.load(home, "kd", student_run)
    with pytest.raises(SpecError) as caught:
        playground.read(bench, {"T": 0.0, "lambda_ce": -1.0, "nonsense": 1})
    assert {p.field for p in caught.value.problems} == {"T", "lambda_ce", "nonsense"}
    with pytest.raises(SpecError, match="0 to 3"):
        playground.read(playground.load(home, "fitnet", student_run), {"stage": 7})
    with pytest.raises(SpecError, match="main"):
        playground.read(bench, {}, "middle")
    with pytest.raises(KdError, match="learnt without one"):
        playground.load(home, "kd", teacher_run)
    other = make(home, "resnet14", seed=5, image_size=20)
    with pytest.raises(KdError, match="image_size 20"):
        playground.load(home, "kd", student_run, other)
    with pytest.raises(KdError, match="0 to 599"):
        playground.load(home, "kd", student_run, index=[1, 600])
    find_run(home, other).best_weights("student").unlink()
    with pytest.raises(KdError, match="best-student.safetensors"):
        playground.load(home, "base", other)
    with pytest.raises(KdError, match="no-such-run"):
        playground.load(home, "base", "no-such-run")


def test_any_finished_run_may_teach_or_be_the_peer(pair: tuple[Home, str, str]) -> None:
    home, student_run, teacher_run = pair
    other = make(home, "resnet20", seed=6)
    own, chosen = (playground.load(home, "kd", student_run, run) for run in (None, other))
    assert own.teacher.info.model == "resnet14" and chosen.teacher.info.model == "resnet20"
    assert playground.load(home, "kd", student_run, teacher_run).teacher.info.model == "resnet14"
    key = next(k for k, e in ENTRIES.items() if e.card.peers)
    assert playground.load(home, key, student_run).student.peers["peer1"].info.model == "resnet14"
    assert playground.load(home, key, student_run, other).student.peers["peer1"].info.model == "resnet20"


@pytest.mark.slow
@pytest.mark.parametrize("key", ["fitnet", "vid", "crd"])
def test_what_a_method_learnt_is_shown_as_it_was_learnt(small: Any, key: str) -> None:
    setting = small(method=key, epochs=1)
    list(train(setting))
    fresh = playground.load(setting.home, "ofd", setting.run.run_id)
    assert any("freshly drawn" in notice for notice in playground.read(fresh, {}).notices)
    bench = playground.load(setting.home, key, setting.run.run_id)
    assert bench.learnt is not None
    reading = playground.read(bench, setting.spec.params)
    assert any("last epoch" in notice for notice in reading.notices)
    bench.learnt = None
    assert changes(reading, playground.read(bench, setting.spec.params)), "freshly drawn parts give other values"
    text = json.loads(setting.run.spec_json.read_text())
    assert text["spec"]["method"] == key, "reading leaves the folder as it is"


def test_how_far_the_training_is_counts_where_the_method_asks(benches: Any) -> None:
    assert not playground.read(benches("kd"), {}).follows
    for key, phase in (("bss", "main"), ("fitnet", "main")):
        early, late = (playground.read(benches(key), {}, phase, done) for done in (0.0, 0.9))
        assert early.follows and early.terms != late.terms


def test_first_the_phase_in_which_both_networks_meet() -> None:
    assert playground.phases("ab", {}) == (("init", "main"), "init")
    assert playground.phases("ft", {}) == (("paraphraser", "main"), "main")
    assert playground.phases("dml", {}) == (("main",), "main")
    assert playground.phases("fitnet", {"form": "joint"}) == (("main",), "main")


def test_points_keep_their_distances_when_they_are_drawn_in_a_plane(benches: Any) -> None:
    points = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    far = (
        torch.cat([points, torch.zeros(9, 3)], 1)
        @ torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0]
    )
    picture = playground._flat(playground.Compared("Points", "points", far, 3 * points, "note"))
    torch.testing.assert_close(torch.cdist(picture.student, picture.student), torch.cdist(points, points), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(3 * picture.student, picture.teacher, atol=1e-4, rtol=1e-4)
    assert picture.sides[0] == "student (100 % of the spread in view)"
    lone = playground._flat(playground.Compared("Points", "points", None, torch.ones(4, 1), "note"))
    assert lone.student is None and lone.teacher.shape == (4, 2) and not lone.teacher.any()
