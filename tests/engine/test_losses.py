"""The pure losses against two truths that are not ours to write: published code's values, and NumPy from the formulas.

``tests/golden/<method>.json`` holds values that the authors' or the best-known code gives on closed-form inputs, computed in
float64 and printed with eight decimals. No test writes such a file; a loss without a value fails. A case names the loss, its
inputs (``args``: names of ``inputs()``; ``kwargs``: plain values or, as text, names of inputs), the value and its source;
``"distance": false`` says that the loss of two equal networks is not zero. What a single method promises beyond that stands
in ``tests/engine/methods``.
Reads: tests/golden. Writes: nothing.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdengine import losses
from kdengine.errors import KdError

GOLDEN = Path(__file__).parents[1] / "golden"
PRINTED = 6e-9  # eight decimals are given: half a unit of the last one, and a little
LOSSES = losses.by_name()


def _grid(*sizes: int) -> list[Tensor]:
    """Return one index tensor per axis, float64, each of the full shape."""
    return list(torch.meshgrid(*(torch.arange(s, dtype=torch.float64) for s in sizes), indexing="ij"))


def inputs() -> dict[str, Tensor]:
    """Return the closed-form inputs by name: logits (8, 10), embeddings (8, 12), maps (8, 4, 4, 4) and (8, 8, 2, 2)."""
    i, j = _grid(8, 10)
    e, d = _grid(8, 12)
    n, c, h, w = _grid(8, 4, 4, 4)
    n2, c2, h2, w2 = _grid(8, 8, 2, 2)
    return {
        "ls": 2 * torch.sin(0.7 * i + 1.3 * j),
        "lt": 3 * torch.cos(0.5 * i + 0.9 * j),
        "y": torch.arange(8),
        "es": torch.sin(0.3 * e**2 + 0.8 * d) + 0.1 * e,
        "et": torch.cos(0.2 * e**2 + 0.6 * d) - 0.05 * d,
        "fs": torch.sin(0.5 * n + 0.9 * c + 0.3 * h + 0.4 * w),
        "ft": torch.cos(0.4 * n + 0.7 * c + 0.5 * h + 0.2 * w),
        "fs2": torch.sin(0.6 * n2 + 0.5 * c2 + 0.2 * h2 + 0.7 * w2),
        "ft2": torch.cos(0.3 * n2 + 0.8 * c2 + 0.6 * h2 + 0.1 * w2),
        "five": torch.full((4,), 5.0, dtype=torch.float64),
        "margin": _negative_means(torch.cos(0.4 * n + 0.7 * c + 0.5 * h + 0.2 * w)),
        "rho": torch.full((8, 4), 0.25, dtype=torch.float64),
        "alpha": torch.softmax(torch.sin(0.5 * n + 0.9 * c + 1.3 * h)[..., 0], dim=2),
        "crd_s": _contrastive_scores("s"),
        "crd_t": _contrastive_scores("t"),
    }


STUDENTS = ("ls", "es", "fs", "fs2", "crd_s", "crd_t")  # inputs that gradients flow to
EQUAL = {"lt": "ls", "et": "es", "ft": "fs", "ft2": "fs2"}  # a teacher's input -> the student's of the same shape


def _negative_means(maps: Tensor) -> Tensor:
    """Return per channel ``(C,)`` the mean of what is negative in maps ``(B, C, H, W)``."""
    return torch.stack([maps[:, c][maps[:, c] < 0].mean() for c in range(maps.shape[1])])


def _contrastive_scores(side: str) -> Tensor:
    """Return the normalised scores ``(8, 6)`` of one side of the small contrastive setting: 20 items, 4 features, tau 0.1.

    Column 0 belongs to the item itself, the others to five negatives; each is exp(<bank, embedding> / tau) / Z.
    """
    (q,), (n, j) = _grid(80), _grid(8, 6)
    e, d = _grid(8, 12)
    own = torch.sin(0.3 * e**2 + 0.8 * d) + 0.1 * e if side == "s" else torch.cos(0.2 * e**2 + 0.6 * d) - 0.05 * d
    head = (torch.sin if side == "s" else torch.cos)(torch.arange(48, dtype=torch.float64)).reshape(4, 12)
    other = (torch.cos(2 + q) if side == "s" else torch.sin(1 + q)).reshape(20, 4)  # the other network's bank
    listed = torch.where(j == 0, n, n + 3 * j - 2).long() % 20
    embedding, bank = own @ head.T, other / other.norm(dim=1, keepdim=True)
    embedding = embedding / embedding.norm(dim=1, keepdim=True)
    scores = ((bank[listed] * embedding[:, None]).sum(2) / 0.1).exp()
    return scores / (20 * scores.mean())


def cases(method: str) -> list[dict[str, Any]]:
    """Return a method's golden cases; none where the file is missing."""
    file = GOLDEN / f"{method}.json"
    return json.loads(file.read_text())["cases"] if file.exists() else []


def arguments(case: dict[str, Any], dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], dict[str, Any]]:
    """Return a case's inputs, the floating ones cast to ``dtype``."""
    known = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs().items()}
    named = {k: known[v] if isinstance(v, str) else v for k, v in case["kwargs"].items()}
    return [known[a] for a in case["args"]], named


def call(case: dict[str, Any], dtype: torch.dtype = torch.float64) -> Tensor:
    """Compute a case's loss with its floating inputs cast to ``dtype``."""
    args, kwargs = arguments(case, dtype)
    return LOSSES[case["loss"]](*args, **kwargs)


ALL_CASES = [pytest.param(c, id=f"{m}-{c['loss']}-{n}") for m in losses.by_method() for n, c in enumerate(cases(m))]


@pytest.mark.parametrize("method", losses.by_method())
def test_every_loss_has_a_golden_value(method: str) -> None:
    expected = {loss.__name__ for loss in losses.by_method()[method]}
    found = {case["loss"] for case in cases(method)}
    assert found == expected, f"tests/golden/{method}.json must hold a value of every loss of {method}, and of no other"
    assert all(case["source"] for case in cases(method))


def test_golden_files_belong_to_methods() -> None:
    assert {f.stem for f in GOLDEN.glob("*.json")} == set(losses.by_method())


@pytest.mark.parametrize("case", ALL_CASES)
def test_golden_value(case: dict[str, Any]) -> None:
    value = call(case)
    assert value.shape == () and value.dtype == torch.float64
    assert value.item() == pytest.approx(case["value"], rel=1e-7, abs=PRINTED)


@pytest.mark.parametrize("case", ALL_CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_raised(case: dict[str, Any], dtype: torch.dtype) -> None:
    """The inputs lose digits, the loss of what is left of them does not."""
    args, kwargs = arguments(case, dtype)
    raised = {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in kwargs.items()}
    expected = LOSSES[case["loss"]](*(a.double() if a.is_floating_point() else a for a in args), **raised).item()
    with torch.autocast("cpu", torch.bfloat16):
        value = LOSSES[case["loss"]](*args, **kwargs)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-7)
    if dtype is torch.bfloat16:  # has the range of fp32; in fp16 small scores become 0
        assert value.item() == pytest.approx(case["value"], rel=0.05)


@pytest.mark.parametrize("case", ALL_CASES)
def test_gradient_against_finite_differences(case: dict[str, Any]) -> None:
    args, kwargs = arguments(case)
    # three images and shifted maps: fewer numbers, and no element where an absolute value has its kink
    few = [a[:3] if len(a) == 8 else a for a in args]
    moved = tuple((a + 0.01).requires_grad_() for a, n in zip(few, case["args"], strict=True) if n in STUDENTS)

    def of(*students: Tensor) -> Tensor:
        rest = iter(students)
        return LOSSES[case["loss"]](
            *(next(rest) if n in STUDENTS else a for a, n in zip(few, case["args"], strict=True)), **kwargs
        )

    assert moved and torch.autograd.gradcheck(of, moved)


@pytest.mark.parametrize("case", [p for p in ALL_CASES if p.values[0].get("distance", True)])
def test_nothing_to_learn_from_an_equal(case: dict[str, Any]) -> None:
    equal = case | {"args": [EQUAL.get(a, a) for a in case["args"]]}
    assert call(equal).item() == pytest.approx(0, abs=1e-12)


# the formulas again, in NumPy, written without looking at the code


def _np_softmax(z: np.ndarray, T: float = 1.0) -> np.ndarray:
    e = np.exp(z / T - (z / T).max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def _np_kd(s: np.ndarray, t: np.ndarray, T: float = 1.0) -> float:
    p, q = _np_softmax(t, T), _np_softmax(s, T)
    return float(T * T * (p * np.log(p / q)).sum() / len(s))


def _np_ft(s: np.ndarray, t: np.ndarray) -> float:
    rows = [np.abs(b / np.sqrt((b**2).sum()) - a / np.sqrt((a**2).sum())).ravel() for a, b in zip(s, t, strict=True)]
    return float(np.mean(rows))


LOGIT_ORACLES: dict[str, Callable[..., float]] = {"kd": _np_kd, "ban": _np_kd, "dml": _np_kd}
MAP_ORACLES: dict[str, Callable[..., float]] = {
    "fitnet": lambda s, t: float(((s - t) ** 2).mean()),
    "ft": _np_ft,
    "ft_attention": lambda s, t: _np_ft((s**2).mean(1), (t**2).mean(1)),
}


@pytest.mark.parametrize("name", LOGIT_ORACLES)
@pytest.mark.parametrize("T", [1.0, 2.5, 20.0])
def test_logit_losses_against_numpy(name: str, T: float) -> None:
    rng = np.random.default_rng(7)
    s, t = 5 * rng.standard_normal((6, 13)), 5 * rng.standard_normal((6, 13))
    extra = () if name == "dml" else (T,)
    expected = LOGIT_ORACLES[name](s, t, *extra)
    assert LOSSES[name](torch.tensor(s), torch.tensor(t), *extra).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", MAP_ORACLES)
def test_map_losses_against_numpy(name: str) -> None:
    rng = np.random.default_rng(7)
    s, t = rng.standard_normal((5, 6, 3, 4)), rng.standard_normal((5, 6, 3, 4))
    expected = MAP_ORACLES[name](s, t)
    for layout in (torch.contiguous_format, torch.channels_last):
        maps = [torch.tensor(a).contiguous(memory_format=layout) for a in (s, t)]
        assert LOSSES[name](*maps).item() == pytest.approx(expected, rel=1e-12)


def test_label_loss_against_numpy() -> None:
    rng = np.random.default_rng(7)
    z, y = rng.standard_normal((9, 4)), rng.integers(0, 4, 9)
    expected = -np.log(_np_softmax(z)[np.arange(9), y]).mean()
    assert losses.ce(torch.tensor(z), torch.tensor(y)).item() == pytest.approx(expected, rel=1e-12)


def test_softened_loss_survives_extreme_logits() -> None:
    s = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    value = losses.kd(s, torch.tensor([[-1e4, 0.0, 1e4]]), T=1.0)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(s.grad).all()


def test_peers_get_no_gradient() -> None:
    own, peer = inputs()["ls"].requires_grad_(), inputs()["lt"].requires_grad_()
    losses.dml(own, peer).backward()
    assert own.grad is not None and peer.grad is None


def test_names_are_importable() -> None:
    scope: dict[str, Any] = {}
    exec("from kdengine.losses import *", scope)
    assert set(LOSSES) <= set(scope) and set(LOSSES) <= set(dir(losses))
    with pytest.raises(AttributeError, match="did you mean 'fitnet'"):
        losses.fitnets


def test_two_functions_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def kd() -> None: ...

    double = {"kd": types.SimpleNamespace(losses=(losses.kd,)), "other": types.SimpleNamespace(losses=(kd,))}
    monkeypatch.setattr("kdengine.methods.entries", lambda: double)
    with pytest.raises(KdError, match="a second loss 'kd', in method other"):
        losses.by_name()


PROMISED = {
    "kd": "logits_s logits_t T", "logits": "logits_s logits_t", "at": "map_s map_t p", "fitnet": "map_s map_t",
    "nst": "map_s map_t",
    "pkt": "emb_s emb_t eps", "fsp": "first_s second_s first_t second_t", "ft": "factor_s factor_t",
    "rkd_distance": "emb_s emb_t", "rkd_angle": "emb_s emb_t", "ab": "pre_s pre_t margin", "sp": "map_s map_t",
    "cc": "emb_s emb_t gamma P_order", "vid": "mean map_t var", "ofd": "map_s map_t margin", "lwm": "cam_s cam_t",
    "irg": "fm1_s fm2_s emb_s logits_s fm1_t fm2_t emb_t logits_t weights", "sobolev": "grad_s grad_t",
    "crd_nce": "scores n_data", "bss": "logits_s logits_t T", "dml": "logits_own logits_peer",
}  # fmt: skip


@pytest.mark.parametrize("name", PROMISED)
def test_promised_names_and_arguments(name: str) -> None:
    """Scripts of users rest on these; further arguments come behind and have defaults."""
    given = list(inspect.signature(LOSSES[name]).parameters.values())
    promised = PROMISED[name].split()
    assert [p.name for p in given[: len(promised)]] == promised
    assert all(p.default is not p.empty for p in given[len(promised) :])
    assert name != "irg" or given[-1].default == (0.1, 5, 5)
