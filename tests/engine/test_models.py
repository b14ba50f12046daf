"""Networks: sizes equal to the literature's, taps that mean what they say, folding, discovery. Reads / writes: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdengine import models
from kdengine.errors import KdError, SpecError, UnknownKey
from kdengine.models.contract import TAPS, Network, Outputs
from kdengine.networks import fold

ALL = frozenset(TAPS)
# one of each family and kind of block
KINDS = (
    "resnet14",
    "resnet8x4",
    "resnet18",
    "resnet50",
    "wrn_16_2",
    "vgg8",
    "vgg13",
    "mobilenetv2",
    "shufflenetv1",
    "shufflenetv2",
)


def _random_norms(network: Network) -> Network:
    """Give every BatchNorm statistics and weights as after a training, so that folding has something to get wrong."""
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))
    return network


def _flat(outputs: Outputs) -> dict[str, Tensor]:
    """Return all tapped tensors by name."""
    found: dict[str, Tensor] = {}
    for tap in TAPS:
        value = getattr(outputs, tap)
        found |= {f"{tap}{i}": v for i, v in enumerate(value)} if isinstance(value, tuple) else {tap: value}
    return found


@pytest.mark.parametrize("key", models.keys())
def test_card_is_complete(key: str) -> None:
    card = models.cards()[key]
    assert card.key == key and card.title and card.family and card.source and 1998 <= card.year <= 2030 and card.depth > 0
    for name, field in card.options.model_fields.items():
        assert field.description and not field.is_required(), name


@pytest.mark.slow
@pytest.mark.parametrize("key", models.keys())
def test_info_is_true_of_the_network(key: str) -> None:
    network = models.build(key, 7, 20)
    with torch.no_grad():
        outputs = network(torch.randn(2, 3, 20, 20), ALL)
    info = network.info
    assert (info.model, info.classes, info.image_size) == (key, 7, 20)
    assert info.params == sum(p.numel() for p in network.parameters())
    assert outputs.logits.shape == (2, 7) and outputs.embedding.shape == (2, info.embedding)
    assert tuple(tuple(m.shape[1:]) for m in outputs.stages) == info.stages
    assert tuple(tuple(m.shape[1:]) for m in outputs.preacts) == info.stages
    assert tuple(tuple(m.shape[1:]) for m in outputs.blocks) == info.blocks
    assert tuple(outputs.stem.shape[1:]) == info.stem
    assert info.norms == bool(network.stage_norms())
    assert [norm.num_features for norm in network.stage_norms()] in ([], [c for c, _, _ in info.stages])


@pytest.mark.parametrize("key", KINDS)
@pytest.mark.parametrize("size", [8, 65])
def test_images_of_other_sizes_fit(key: str, size: int) -> None:
    info = models.info(key, 10, size)
    assert all(h == w >= 1 for _, h, w in info.stages)


@pytest.mark.parametrize(("key", "options"), [(key, {}) for key in KINDS] + [("resnet14", {"shortcut": "pad"})])
def test_taps_mean_what_they_say(key: str, options: dict[str, str]) -> None:
    network = _random_norms(models.build(key, 10, options=options)).eval()
    x = torch.randn(2, 3, 16, 16)
    outputs = network(x, ALL)
    for stage, preact in zip(outputs.stages, outputs.preacts, strict=True):
        if key == "mobilenetv2":  # its blocks end without an activation
            assert stage is preact
        else:
            torch.testing.assert_close(stage, preact.relu(), rtol=0, atol=0)
        assert (preact < 0).any()
        assert any(block is stage for block in outputs.blocks)
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    torch.testing.assert_close(outputs.logits, linear(outputs.embedding))
    if outputs.embedding.shape[1] == outputs.stages[-1].shape[1]:  # no convolution in between
        torch.testing.assert_close(outputs.embedding, outputs.stages[-1].mean((2, 3)))
    bare = network(x)
    assert torch.equal(bare.logits, outputs.logits)
    assert all(getattr(bare, tap) is None for tap in TAPS if tap != "logits")


@pytest.mark.slow
@pytest.mark.parametrize("key", KINDS)
def test_every_tap_passes_a_gradient_in_training(key: str) -> None:
    network = models.build(key, 10, 16)
    x = torch.randn(2, 3, 16, 16, requires_grad=True)  # two images, so that BatchNorm has something to norm at 1 x 1
    for name, tap in _flat(network(x, ALL)).items():
        (gradient,) = torch.autograd.grad(tap.square().sum(), x, retain_graph=True)
        assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize("key", KINDS)
def test_maps_stay_in_channels_last(key: str) -> None:
    network = models.build(key, 10, 16).eval()
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = _flat(network(x, ALL))
        after = _flat(network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), ALL))
    for name, tap in after.items():
        torch.testing.assert_close(tap, before[name], rtol=1e-3, atol=1e-5 * before[name].abs().max().item())
        assert tap.dim() == 2 or tap.is_contiguous(memory_format=torch.channels_last), name


def test_pad_shortcut_keeps_every_second_pixel() -> None:
    network = models.build("resnet8", 10, options={"shortcut": "pad"})
    x = torch.randn(2, 16, 8, 8)
    shortcut = network.layer2[0].downsample(x)
    assert shortcut.shape == (2, 32, 4, 4)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert shortcut[:, :8].abs().sum() == shortcut[:, 24:].abs().sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize(("key", "options"), [(key, {}) for key in KINDS] + [("resnet14", {"shortcut": "pad"})])
def test_folding_by_the_named_pairs_changes_nothing(key: str, options: dict[str, str]) -> None:
    network = _random_norms(models.build(key, 10, options=options)).double().eval()
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        before = _flat(network(x, ALL))
        fold(network)
        after = _flat(network(x, ALL))
    left = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert left == (7 if key == "wrn_16_2" else 0)  # one BatchNorm per sum of a pre-activation network stands alone
    for name, tap in before.items():
        torch.testing.assert_close(
            after[name], tap, rtol=1e-6, atol=1e-9 * tap.abs().max().item(), msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("key", ["wrn_16_2", "vgg13", "resnet14", "resnet18", "resnet50", "shufflenetv1"])
def test_stage_norms_stand_before_the_last_activation(key: str) -> None:
    """What the named BatchNorm gives is the preact itself or, in residual networks, all of it but the block's input."""
    network = _random_norms(models.build(key, 10)).eval()
    given: list[Tensor] = []
    for norm in network.stage_norms():
        norm.register_forward_hook(lambda module, args, out: given.append(out))
    with torch.no_grad():
        outputs = network(torch.randn(2, 3, 16, 16), ALL)
    maps = [outputs.stem, *outputs.blocks]
    before = [maps[i - 1] for stage in outputs.stages for i, m in enumerate(maps) if m is stage]
    for preact, out, entered in zip(outputs.preacts, given, before, strict=True):
        torch.testing.assert_close(preact, out if key.startswith(("wrn", "vgg")) else out + entered, rtol=0, atol=0)


def test_the_generator_alone_decides_the_weights() -> None:
    def weights(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [p.detach() for p in models.build("resnet8", 10).parameters()]

    assert all(torch.equal(a, b) for a, b in zip(weights(1), weights(1), strict=True))
    assert not torch.equal(weights(1)[0], weights(2)[0])
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    models.info("resnet8", 11, 40)  # never asked before, so not from the cache
    assert torch.equal(torch.rand(1), expected)


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UnknownKey, match="did you mean 'resnet20'"):
        models.build("resnet_20", 10)


def test_faulty_options_are_all_named() -> None:
    with pytest.raises(SpecError) as caught:
        models.options_of("resnet8", {"shortcut": "none", "widht": 3}, "student_options.")
    assert [p.field for p in caught.value.problems] == ["student_options.shortcut", "student_options.widht"]


@pytest.mark.parametrize(("text", "said"), [("MODELS = 1 / 0", "ZeroDivisionError"), ("x = 1", "MODELS")])
def test_a_broken_family_file_is_named(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"broken_{said.lower()}.py"
    file.write_text(text)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    models.cards.cache_clear()
    try:
        with pytest.raises(KdError) as caught:
            models.cards()
    finally:
        models.cards.cache_clear()
    assert str(file) in str(caught.value) and said in str(caught.value)
