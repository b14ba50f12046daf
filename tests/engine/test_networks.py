"""Networks built from seeds, saved and loaded, and teachers made ready."""

from __future__ import annotations

import pytest
import torch

from kdengine import networks, teachers
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
