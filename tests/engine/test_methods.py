"""Every method by enumeration: what its card and knobs must say, and what its terms must do on small networks.

A new method file is found by itself and must pass all of this without an edit here. Reads / writes: nothing.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdengine import methods, models
from kdengine.errors import KdError, UnknownKey
from kdengine.methods.contract import Batch, DataInfo, Entry, Method, Phase, Progress
from kdengine.models.contract import NetInfo, Network, Outputs

CLASSES, BATCH = 10, 8
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
    for phase in ENTRIES[key].card.phases
]


class FakeView:
    """A network as the loop shows it to a method; ``outputs`` are computed once, on the step's images."""

    def __init__(self, network: Network, taps: frozenset[str], x: Tensor | None, *, no_grad: bool = False) -> None:
        self.network, self.info, self.peers = network, network.info, {}
        self._taps, self._no_grad = taps, no_grad
        self._outputs = None if x is None else self(x)

    @property
    def outputs(self) -> Outputs:
        if self._outputs is None:
            raise RuntimeError("this phase does not run this network")
        return self._outputs

    def __call__(self, x: Tensor) -> Outputs:
        with torch.no_grad() if self._no_grad else contextlib.nullcontext():
            return self.network(x, self._taps)


class Scene:
    """A method among small networks: resnet8 learns, resnet20 teaches, another resnet8 is the peer."""

    def __init__(self, key: str, knobs: dict[str, Any], phase: str = "main", size: int = 16) -> None:
        self.entry: Entry = ENTRIES[key]
        card = self.entry.card
        torch.manual_seed(11)
        self.student = models.build("resnet8", CLASSES, size)
        self.peers = {"peer1": models.build("resnet8", CLASSES, size)} if card.peers else {}
        self.teacher = (
            models.build("resnet20" if not card.chain else "resnet8", CLASSES, size) if card.teacher_mode != "none" else None
        )
        if self.teacher is not None and card.teacher_mode != "trained":
            self.teacher.eval().requires_grad_(False)
        self.x = torch.randn(BATCH, 3, size, size)
        self.batch = Batch(self.x, torch.arange(BATCH) % CLASSES, torch.arange(BATCH) * 3)
        if "views" in card.needs:
            self.batch.views = (self.x.flip(3),)
        labels = torch.arange(64) % CLASSES
        info = DataInfo("fake", 64, CLASSES, size, labels, (-2.0,) * 3, (2.0,) * 3)
        infos = {name: n.info for name, n in self.peers.items()}
        params = self.entry.params(**knobs)
        teacher_info = self.teacher.info if self.teacher is not None else None
        self.faults = self.entry.method.problems(params, self.student.info, teacher_info)
        if not self.faults:
            self.method: Method = self.entry.method(params, self.student.info, teacher_info, infos, info)
            self.phase = next((p for p in self.method.phases() if p.name == phase), None)

    def terms(self, order: Tensor | None = None, *, bf16: bool = False) -> dict[str, Tensor]:
        """Run the networks of the phase on the batch (in ``order``) and return the method's terms."""
        order = torch.arange(BATCH) if order is None else order
        b = self.batch
        batch = Batch(b.x[order], b.y[order], b.index[order], tuple(v[order] for v in b.views))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            student = self._view(self.student, "student", batch.x)
            student.peers = {name: self._view(peer, "peers", batch.x) for name, peer in self.peers.items()}
            teacher = self._view(self.teacher, "teacher", batch.x) if self.teacher is not None else None
            progress = Progress(self.phase.name, 1, 4, 2, 5, torch.Generator().manual_seed(3))
            return self.method.loss(student, teacher, batch, progress)

    def _view(self, network: Network, side: str, x: Tensor) -> FakeView:
        taps = frozenset(self.entry.card.needs) & {"logits", "embedding", "stages", "preacts", "stem", "blocks"}
        still = side == "teacher" and self.entry.card.teacher_mode == "frozen"
        return FakeView(network, taps, x if side in self.phase.runs else None, no_grad=still)

    def trained(self) -> dict[str, nn.Module]:
        """Return what the phase's optimiser updates, by the name the phase uses."""
        found: dict[str, nn.Module] = {}
        for name in self.phase.trains:
            if name.startswith("method"):
                found[name] = self.method.get_submodule(name.removeprefix("method").removeprefix("."))
            elif name == "peers":
                found |= self.peers
            elif name == "teacher" and self.teacher is not None:
                found[name] = self.teacher
            elif name == "student":
                found[name] = self.student
        return found


def _scene(key: str, knobs: dict[str, Any], phase: str) -> Scene:
    scene = Scene(key, knobs, phase)
    if scene.faults:
        pytest.skip(f"refused for these networks: {scene.faults[0]}")
    if scene.phase is None:
        pytest.skip("these knobs have no such phase")
    return scene


def _gradients(module: nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize(("key", "knobs", "phase"), CASES)
def test_terms_are_finite_scalars_in_fp32(key: str, knobs: dict[str, Any], phase: str) -> None:
    scene = _scene(key, knobs, phase)
    networks = {"student", *scene.peers, "teacher"}
    for bf16 in (False, True):
        terms = scene.terms(bf16=bf16)
        assert terms
        for name, value in terms.items():
            assert value.shape == () and value.dtype == torch.float32, name
            assert torch.isfinite(value), name
            assert "/" not in name or name.split("/")[0] in networks, name
    assert phase != "main" or "ce" in terms, "the label term is called ce"


@pytest.mark.parametrize(("key", "knobs", "phase"), CASES)
def test_gradients_go_where_the_phase_says(key: str, knobs: dict[str, Any], phase: str) -> None:
    scene = _scene(key, knobs, phase)
    sum(scene.terms().values()).backward()
    trained = scene.trained()
    for name, module in trained.items():
        assert not list(module.parameters()) or _gradients(module) > 0, f"{name} learns nothing"
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
    if ENTRIES[key].card.batch_order_matters:
        pytest.skip("the card says that it does")
    scene = _scene(key, knobs, phase)
    scene.method.eval(), scene.student.eval()  # running statistics must not move between the two calls
    one, two = scene.terms(), scene.terms(torch.tensor([5, 2, 7, 0, 3, 6, 1, 4]))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("key", "knobs", "phase"), CASES)
def test_bf16_networks_change_terms_little(key: str, knobs: dict[str, Any], phase: str) -> None:
    scene = _scene(key, knobs, phase)
    exact, rough = scene.terms(), scene.terms(bf16=True)
    for name, value in exact.items():  # the networks themselves have bf16's rounding; losses alone are held to 1 %
        assert rough[name].item() == pytest.approx(value.item(), rel=0.1, abs=0.02), name


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
    if scene.faults:
        pytest.skip("refused for these networks")
    phases: tuple[Phase, ...] = scene.method.phases()
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
        assert ours <= {"kdengine.methods", "kdengine.methods.contract", "kdengine.methods._math", "kdengine.models.contract"}
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


# what single methods promise beyond that


def _info(channels: int, size: int, model: str = "fake") -> NetInfo:
    stages = tuple((channels * 2**i, size // 2**i, size // 2**i) for i in range(3))
    return NetInfo(model, CLASSES, size, 1, 1, stages[-1][0], stages, stages[0], stages)


@pytest.mark.parametrize("sizes", [(16, 16), (32, 16), (16, 32), (24, 16), (8, 32)])
@pytest.mark.parametrize("regressor", ["linear", "bn_relu"])
def test_fitnet_meets_maps_of_any_size(sizes: tuple[int, int], regressor: str) -> None:
    entry = ENTRIES["fitnet"]
    student, teacher = _info(4, sizes[0]), _info(6, sizes[1])
    data = DataInfo("fake", 8, CLASSES, 32, torch.arange(8), (0.0,) * 3, (1.0,) * 3)
    method = entry.method(entry.params(stage=1, regressor=regressor), student, teacher, {}, data)
    out = method.regressor(torch.randn(2, *student.stages[0]))
    assert out.shape[1] == 6 and (sizes == (8, 32) or out.shape[2] == sizes[1])


def test_fitnet_says_why_it_cannot() -> None:
    entry = ENTRIES["fitnet"]
    assert "stage 4" in entry.method.problems(entry.params(stage=4), _info(4, 16), _info(4, 16))[0][0]
    unequal = entry.params(regressor="none")
    assert "regressor none" in entry.method.problems(unequal, _info(4, 16), _info(6, 16))[0][0]
    assert not entry.method.problems(unequal, _info(4, 16), _info(4, 16))


@pytest.mark.parametrize("students", [("resnet8", 16), ("resnet8x4", 16)])
def test_factor_transfer_between_unequal_widths(students: tuple[str, int]) -> None:
    entry, scene = ENTRIES["ft"], Scene("ft", {})
    student = models.build(students[0], CLASSES, students[1])
    method = entry.method(
        entry.params(), student.info, scene.teacher.info, {}, DataInfo("f", 8, 10, 16, torch.arange(8), (0.0,), (1.0,))
    )
    taps = frozenset({"stages"})
    views = FakeView(student, taps, scene.x), FakeView(scene.teacher, taps, scene.x, no_grad=True)
    terms = method.loss(*views, scene.batch, Progress("main", 0, 1, 0, 1, torch.Generator()))
    assert torch.isfinite(terms["ft"]) and method.translator[2].out_channels == 32


@pytest.mark.parametrize("peers", [1, 3])
def test_mutual_learning_of_a_cohort(peers: int) -> None:
    scene = Scene("dml", {})
    scene.peers = {f"peer{i + 1}": models.build("resnet8", CLASSES, 16) for i in range(peers)}
    terms = scene.terms()
    assert set(terms) == {"ce", "kl"} | {f"peer{i + 1}/{t}" for i in range(peers) for t in ("ce", "kl")}
    views = [n(scene.x).logits.log_softmax(1) for n in (scene.student, *scene.peers.values())]
    expected = torch.stack([(p.exp() * (p - views[0])).sum(1).mean() for p in views[1:]]).mean()
    torch.testing.assert_close(terms["kl"], expected)


def test_mutual_learning_reaches_only_the_network_named() -> None:
    scene = Scene("dml", {})
    terms = scene.terms()
    (terms["ce"] + terms["kl"]).backward()
    assert _gradients(scene.student) > 0 and _gradients(scene.peers["peer1"]) == 0
