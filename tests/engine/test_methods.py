"""Every method by enumeration: what its card and knobs must say, and what its terms must do on small networks.

A new method file is found by itself and must pass all of this without an edit here; what a single one promises beyond that
stands in ``tests/engine/methods/test_<key>.py``. Reads / writes: nothing.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kdengine import methods
from kdengine.errors import KdError, UnknownKey
from kdengine.methods.contract import Phase
from tests.engine.scene import Scene, gradients

ENTRIES = methods.entries()


def _variants() -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every method with its defaults, and once more for every further choice of a knob of named choices."""
    for key, entry in ENTRIES.items():
        yield key, {}
        for name, field in entry.params.model_fields.items():
            options = getattr(field.annotation, "__args__", ())
            yield from ((key, {name: o}) for o in options if isinstance(o, str) and o != field.default)


# (method, knobs, phase): everything below runs for each
CASES = [
    pytest.param(key, knobs, phase, id="-".join([key, *map(str, knobs.values()), phase]))
    for key, knobs in _variants()
    for phase in [p.name for p in ENTRIES[key].method.phases(ENTRIES[key].params(**knobs))]
]


def _scene(key: str, knobs: dict[str, Any], phase: str) -> Scene:
    scene = Scene(key, knobs, phase)
    assert not scene.faults, "every choice works between two networks of one family"
    return scene


@pytest.mark.parametrize(("key", "knobs", "phase"), CASES)
def test_terms_are_finite_scalars_in_fp32(key: str, knobs: dict[str, Any], phase: str) -> None:
    scene = _scene(key, knobs, phase)
    known = {"student", *scene.peers, "teacher"}
    for bf16 in (False, True):
        terms = scene.terms(bf16=bf16)
        assert terms
        for name, value in terms.items():
            assert value.shape == () and value.dtype == torch.float32, name
            assert torch.isfinite(value), name
            assert "/" not in name or name.split("/")[0] in known, name
    assert phase != "main" or "ce" in terms, "the label term is called ce"


@pytest.mark.slow
@pytest.mark.parametrize(("key", "knobs", "phase"), CASES)
def test_the_smallest_batch_and_equal_images_are_no_nan(key: str, knobs: dict[str, Any], phase: str) -> None:
    for order in (torch.arange(ENTRIES[key].card.min_batch), torch.zeros(4, dtype=torch.long)):
        scene = _scene(key, knobs, phase)
        terms = scene.terms(order)
        sum(terms.values()).backward()
        assert all(torch.isfinite(value) for value in terms.values()), terms
        learning = [p for module in scene.trained().values() for p in module.parameters() if p.grad is not None]
        assert learning and all(torch.isfinite(p.grad).all() for p in learning)


@pytest.mark.parametrize(("key", "knobs", "phase"), CASES)
def test_gradients_go_where_the_phase_says(key: str, knobs: dict[str, Any], phase: str) -> None:
    scene = _scene(key, knobs, phase)
    sum(scene.terms().values()).backward()
    trained = scene.trained()
    for name, module in trained.items():
        assert not list(module.parameters()) or gradients(module) > 0, f"{name} learns nothing"
        if name.startswith("method"):
            without = [n for n, p in module.named_parameters() if p.grad is None and name != "method"]
            assert not without, f"{name}: no gradient for {without}"
    reached = {id(p) for m in trained.values() for p in m.parameters()}
    others = [scene.student, *scene.peers.values(), scene.method, *([scene.teacher] if scene.teacher is not None else [])]
    stray = [
        n
        for m in others
        for n, p in m.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0 and id(p) not in reached
    ]
    assert not stray, "gradients for what this phase does not train"


@pytest.mark.parametrize(("key", "knobs", "phase"), CASES)
def test_order_within_the_batch_does_not_matter(key: str, knobs: dict[str, Any], phase: str) -> None:
    matters = ENTRIES[key].card.batch_order_matters
    if matters is True or matters in [f"{name}={value}" for name, value in knobs.items()]:
        pytest.skip("the card says that it does")
    scene = _scene(key, knobs, phase)
    scene.method.eval(), scene.student.eval()  # running statistics must not move between the two calls
    one, two = scene.terms(), scene.terms(torch.tensor([5, 2, 7, 0, 3, 6, 1, 4]))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("key", "knobs", "phase"), CASES)
def test_bf16_networks_change_terms_little(key: str, knobs: dict[str, Any], phase: str) -> None:
    scene = _scene(key, knobs, phase)
    exact, rough = scene.terms(), scene.terms(bf16=True)
    for name, value in exact.items():  # the networks themselves have bf16's rounding; losses alone are held to 1 %
        assert rough[name].item() == pytest.approx(value.item(), rel=0.1, abs=0.02), name


@pytest.mark.slow
@pytest.mark.parametrize(("key", "knobs", "phase"), CASES)
def test_a_step_repeats_itself(key: str, knobs: dict[str, Any], phase: str) -> None:
    one, two = _scene(key, knobs, phase), _scene(key, knobs, phase)
    assert {n: v.item() for n, v in one.terms().items()} == {n: v.item() for n, v in two.terms().items()}


@pytest.mark.parametrize("key", ENTRIES)
def test_card_is_complete(key: str) -> None:
    card, doc = ENTRIES[key].card, ENTRIES[key].doc
    assert card.key == key == key.lower() and key.isidentifier() and card.title
    for text in (card.citation, card.one_line, *card.story, card.analogy, card.formula):
        assert len(text.strip()) >= 15, text
    assert len(card.story) == 3 and len(set(card.story)) == 3
    assert 20 <= len(card.one_line) <= 160 and len(card.analogy) >= 40
    assert str(card.year) in card.citation or card.fidelity == "abstract" and 1980 <= card.year <= 2030
    assert all(link.startswith("https://") for link in card.links)
    assert card.min_batch >= 1 and card.phases[-1] == "main" and len(set(card.phases)) == len(card.phases)
    assert not card.chain or card.teacher_mode != "none"
    for part in ("**Matched**", "**Formula**", "**Source**", "**Differs**"):
        assert part in doc, f"the docstring has no {part}"


@pytest.mark.parametrize("key", ENTRIES)
def test_formula_is_balanced_latex(key: str) -> None:
    formula = ENTRIES[key].card.formula
    assert formula.count("{") == formula.count("}") and formula.count(r"\left") == formula.count(r"\right")
    assert "\n" not in formula and "$" not in formula


@pytest.mark.parametrize("key", ENTRIES)
def test_knobs_have_bounds_help_and_a_source(key: str) -> None:
    entry = ENTRIES[key]
    defaults = entry.params()
    assert entry.params.model_validate(defaults.model_dump()) == defaults, "a default outside its bounds"
    assert entry.method.Params is entry.params
    for name, field in entry.params.model_fields.items():
        assert field.description and (field.json_schema_extra or {}).get("source"), name
        if field.annotation in (int, float):
            limits = {type(m).__name__ for m in field.metadata}
            assert {"Ge", "Le"} <= limits, f"{name} needs low and high"
    with pytest.raises(ValueError, match="not_a_knob"):
        entry.params(not_a_knob=1)


@pytest.mark.parametrize(("key", "knobs"), [pytest.param(k, v, id="-".join([k, *map(str, v.values())])) for k, v in _variants()])
def test_phases_are_sound(key: str, knobs: dict[str, Any]) -> None:
    scene = Scene(key, knobs)
    phases: tuple[Phase, ...] = scene.phases
    names = [p.name for p in phases]
    assert names == [n for n in scene.entry.card.phases if n in names] and names[-1] == "main"
    assert phases[-1].epochs is None and all(p.epochs is not None and p.epochs >= 1 for p in phases[:-1])
    for phase in phases:
        assert phase.trains and set(phase.runs) <= {"student", "peers", "teacher"} and 0 < phase.lr_scale <= 10
        assert all(n in ("student", "peers", "teacher", "method") or scene.method.get_submodule(n[7:]) for n in phase.trains)
        assert "teacher" not in phase.runs or scene.teacher is not None or phase == Phase()


@pytest.mark.parametrize("key", ENTRIES)
def test_losses_are_documented_functions_of_the_file(key: str) -> None:
    entry = ENTRIES[key]
    for loss in entry.losses:
        assert inspect.getdoc(loss) and "(B" in inspect.getdoc(loss), f"{loss.__name__}: shapes belong into the docstring"
        assert inspect.signature(loss).return_annotation == "Tensor"
    assert Path(entry.file).stem == key and len(Path(entry.file).read_text().splitlines()) <= 400


def test_method_files_import_only_the_contract() -> None:
    for entry in ENTRIES.values():
        lines = Path(entry.file).read_text().splitlines()
        ours = {line.split()[1] for line in lines if line.startswith(("from kdengine", "import kdengine"))}
        pieces = {"kdengine.methods._math", "kdengine.methods._adapters"}
        assert ours <= pieces | {"kdengine.methods", "kdengine.methods.contract", "kdengine.models.contract"}
        assert "from kdengine.methods import contract" in lines


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UnknownKey, match="did you mean 'fitnet'"):
        methods.get("fitnets")


BROKEN = {
    "bad_import": ("import nothing_of_this_name", "ModuleNotFoundError"),
    "bad_parts": ("x = 1", "no CARD; no Params; no LOSSES; 0 subclasses of Method"),
    "bad_key": ("from kdengine.methods.kd import CARD, LOSSES, Params", "CARD.key is 'kd'; 0 subclasses of Method"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_method_file_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, said = BROKEN[name]
    (tmp_path / f"{name}.py").write_text(text)
    with _also_in(tmp_path, monkeypatch), pytest.raises(KdError) as caught:
        methods.entries()
    assert str(tmp_path / f"{name}.py") in str(caught.value) and said in str(caught.value)


def test_a_new_method_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path(ENTRIES["kd"].file).read_text().replace('key="kd"', 'key="made_up"')
    (tmp_path / "made_up.py").write_text(text)
    with _also_in(tmp_path, monkeypatch):
        assert methods.get("made_up").params().T == 4 and set(methods.keys()) == {*ENTRIES, "made_up"}


@contextlib.contextmanager
def _also_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the catalogue look into ``folder`` too."""
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    methods.entries.cache_clear()
    try:
        yield
    finally:
        monkeypatch.undo()
        methods.entries.cache_clear()


def test_a_default_may_go_with_a_choice() -> None:
    params = methods.get("cc").params
    assert params().beta == 100 and params(form="kernel").beta == 100
    assert params(form="adjacent").beta == 0.02 and params(form="adjacent", beta=3).beta == 3
    assert params.model_validate(params(form="adjacent").model_dump()) == params(form="adjacent")


@pytest.mark.parametrize("key", ENTRIES)
def test_defaults_of_choices_name_real_choices(key: str) -> None:
    kind = ENTRIES[key].params
    for name, field in kind.model_fields.items():
        for choice, default in (field.json_schema_extra or {}).get("per", {}).items():
            other, _, chosen = choice.partition("=")
            assert getattr(kind(**{other: chosen}), name) == default, f"{name} per {choice}"
