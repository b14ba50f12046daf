"""Networks built from seeds, saved and loaded, and teachers made ready."""

from __future__ import annotations

import argparse
import os
import re

import pytest
import torch

from kdengine import checkpoint, networks, teachers, weights
from kdengine.errors import RunFailed
from kdengine.networks import NetworkView


def build(seed=0, model="resnet8", classes=10):
    return networks.build(model, classes, 32, {}, seed, 0.1)


def test_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    first = build(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again, other = build(1), build(2)
    for (name, a), b, c in zip(first.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim < 2 or not torch.equal(a, c), name


def test_derived_seeds_do_not_meet():
    seeds = {networks.derive_seed(s, name) for s in range(50) for name in ("student", "peer1", "order", "draws")}
    assert len(seeds) == 200


def test_weights_survive_the_file(tmp_path):
    first, other = build(1), build(2)
    networks.save_weights(first, tmp_path / "w.safetensors")
    networks.load_weights(other, tmp_path / "w.safetensors", "teacher")
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True))
    assert [f.name for f in tmp_path.iterdir()] == ["w.safetensors"]


def test_weights_that_do_not_fit_are_refused_with_their_names(tmp_path):
    file = tmp_path / "w.safetensors"
    networks.save_weights(build(model="resnet14"), file)
    with pytest.raises(RunFailed, match="do not fit"):
        networks.load_weights(build(), file, "teacher")
    file.write_bytes(b"not a weight file")
    with pytest.raises(RunFailed, match="safetensors"):
        networks.load_weights(build(), file, "teacher")
    with pytest.raises(RunFailed, match=r"missing\.safetensors"):
        networks.load_weights(build(), tmp_path / "missing.safetensors", "teacher")


def equal(first, other):
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values(), strict=True))


WRAPPED = {
    "plain": lambda state: state,
    "module": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "old": lambda state: {name: tensor for name, tensor in state.items() if "num_batches" not in name},
    **{key: lambda state, key=key: {"epoch": 3, "prec@1": 91.2, key: state} for key in weights.INSIDE},
    "ours": lambda state: {"identity": "x", "modules": {"student": state, "method0": {}, "peer1": {}}, "optimizer": {}},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("suffix", weights.TORCH_SUFFIXES)
def test_files_of_torch_are_read(tmp_path, wrap, suffix):
    first, other, file = build(1), build(2), tmp_path / f"best{suffix}"
    torch.save(wrap(first.state_dict()), file, _use_new_zipfile_serialization=suffix != ".tar")
    networks.load_weights(other, file, "teacher")
    assert equal(first, other)


def test_a_checkpoint_of_ours_gives_its_student(tmp_path):
    first, other = build(1), build(2)
    checkpoint.save({"modules": {"peer1": build(3).state_dict(), "student": first.state_dict()}}, tmp_path / "last.pt")
    networks.load_weights(other, tmp_path / "last.pt", "teacher")
    assert equal(first, other)


def test_a_file_that_could_run_code_is_refused_unopened(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    state = build().state_dict()
    for extra, named in ((Harmful(), "mkdir"), (argparse.Namespace(lr=0.1), "Namespace")):
        torch.save({"model": state, "opt": extra}, tmp_path / "w.pth")
        with pytest.raises(RunFailed, match=rf"{named}\).*could run code.*state dict alone"):
            networks.load_weights(build(), tmp_path / "w.pth", "teacher_weights")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.pth", b"neither"),
        ("w.pt", b""),
        ("w.npz", b"PK"),
        ("w.pt", {"epoch": 3}),
        ("w.pt", [torch.ones(1)]),
        ("w.ckpt", b"PK"),
    ],
    ids=str,
)
def test_what_is_no_weight_file_is_refused_in_three_parts(tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(RunFailed) as refused:
        networks.load_weights(build(), file, "student_init")
    (problem,) = refused.value.problems
    assert problem.field == "student_init" and name in problem.given and problem.allowed and problem.do
    assert str(tmp_path) not in str(problem)


def under_other_names(state, *changes):
    """The tensors in reverse order, their names changed by regular expressions as another code might have them."""
    for pattern, to in changes:
        state = {re.sub(pattern, to, name): tensor for name, tensor in state.items()}
    return dict(reversed(state.items()))


@pytest.mark.parametrize(
    "changes",
    [
        [("layer", "res"), ("downsample", "ds")],  # Knowledge-Distillation-Zoo
        [("^fc", "linear"), ("downsample", "shortcut")],
        [(r"^layer(\d)", r"block\1.layer"), ("conv1", "conv0"), ("conv2", "conv1"), ("^bn1", "norm"), (r"\.bn", ".norm")],
        [("^", "backbone.net.")],
    ],
    ids=["zoo", "linear", "deeper", "prefix"],
)
def test_other_names_are_understood_where_they_leave_no_choice(tmp_path, changes):
    first, other = build(1, "resnet110"), build(2, "resnet110")  # more than ten blocks: 2 comes before 10
    torch.save(under_other_names(first.state_dict(), *changes), tmp_path / "w.pt")
    networks.load_weights(other, tmp_path / "w.pt", "teacher")
    assert equal(first, other)


@pytest.mark.parametrize(
    "changes",
    [
        [(r"\.conv1", ".left"), (r"\.conv2", ".right")],  # numbers here, words there
        [("layer2.0.conv1", "layer2.0.conv3")],  # would come after conv2
        [(r"(layer1.*)\.bn1\.weight", r"\1.bn1.scale")],  # another kind of tensor
        [("layer1", "first"), ("layer2", "second"), ("layer3", "third")],
        [("layer2", "layer4")],  # would come last
    ],
    ids=["words", "order", "kind", "stages", "number"],
)
def test_other_names_that_leave_a_choice_are_refused(tmp_path, changes):
    first, other = build(1, "resnet20"), build(2, "resnet20")
    before = [tensor.clone() for tensor in other.state_dict().values()]
    torch.save(under_other_names(first.state_dict(), *changes), tmp_path / "w.pt")
    with pytest.raises(RunFailed, match="do not fit"):
        networks.load_weights(other, tmp_path / "w.pt", "teacher")
    assert all(torch.equal(a, b) for a, b in zip(before, other.state_dict().values(), strict=True))


def test_modules_alike_are_never_guessed():
    alike, other = torch.ones(4, 4), torch.ones(2, 4)
    own = {"left.weight": alike, "right.weight": alike, "out.weight": other}
    known = {"head.weight": other, "right.weight": alike, "left.weight": alike}
    assert weights.renamed(own, known) == {
        "left.weight": "left.weight",
        "right.weight": "right.weight",
        "out.weight": "head.weight",
    }
    with pytest.raises(weights.Ambiguous, match="left of the network could be any of a, b"):
        weights.renamed(own, {"a.weight": alike, "b.weight": alike, "out.weight": other})
    assert weights.renamed({"conv2.weight": alike, "conv10.weight": alike}, {"f.7.weight": alike, "f.12.weight": alike}) == {
        "conv2.weight": "f.7.weight", "conv10.weight": "f.12.weight",
    }  # fmt: skip


def test_other_weights_are_refused_with_the_first_differences(tmp_path):
    torch.save({"net": build(1, classes=100).state_dict()}, tmp_path / "w.pth")
    with pytest.raises(RunFailed, match=r"fc\.weight is \(100, 64\) there, \(10, 64\) here; fc\.bias"):
        networks.load_weights(build(), tmp_path / "w.pth", "teacher")


def test_a_frozen_teacher_is_folded_and_says_the_same():
    network = build(3)
    x = torch.randn(16, 3, 32, 32).to(memory_format=torch.channels_last)
    network.train()
    for _ in range(3):
        network(x)
    network.eval()
    with torch.no_grad():
        before = network(x).logits
    layers = sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    ready = teachers.freeze(network, "frozen", "fp32", torch.device("cpu"))
    view = NetworkView(ready.network, frozenset({"stages"}), no_grad=True, half=ready.half)
    assert layers > 0 and not any(isinstance(m, torch.nn.BatchNorm2d) for m in ready.network.modules())
    torch.testing.assert_close(view(x).logits, before, rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in ready.network.parameters())
    assert not view(x).stages[-1].requires_grad


def test_a_teacher_in_bf16_stays_near_its_fp32_self():
    network = build(3)
    x = torch.randn(16, 3, 32, 32)
    with torch.no_grad():
        before = network.eval()(x).logits
    ready = teachers.freeze(network, "frozen", "bf16", torch.device("cpu"))
    after = NetworkView(ready.network, frozenset(), no_grad=True, half=ready.half)(x).logits
    assert after.dtype == torch.bfloat16
    assert (after.float() - before).abs().max() < 0.05 * before.abs().max()


def test_the_graph_mode_keeps_autograd_but_not_the_parameters_gradients():
    ready = teachers.freeze(build(), "graph", "bf16", torch.device("cpu"))
    x = torch.randn(4, 3, 32, 32, requires_grad=True)
    NetworkView(ready.network, frozenset())(x).logits.sum().backward()
    assert x.grad is not None and all(p.grad is None for p in ready.network.parameters())


def test_outputs_that_a_phase_does_not_run_are_not_there():
    with pytest.raises(RuntimeError, match=r"Phase\.runs"):
        _ = NetworkView(build(), frozenset()).outputs
