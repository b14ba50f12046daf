"""Networks: sizes equal to the literature's, taps that mean what they say, folding, discovery. Reads / writes: nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdengine import models
from kdengine.errors import KdError, SpecError, UnknownKey
from kdengine.models.contract import TAPS, Network, Outputs

ALL = frozenset(TAPS)
# key: parameters with 10 and 100 classes, multiply-adds in millions (100 classes); counted on the well-known PyTorch code
PROJECTION = {
    "resnet8": (78_042, 83_892, 12.5),
    "resnet14": (175_258, 181_108, 26.7),
    "resnet20": (272_474, 278_324, 40.8),
    "resnet32": (466_906, 472_756, 69.1),
    "resnet44": (661_338, 667_188, 97.4),
    "resnet56": (855_770, 861_620, 125.8),
    "resnet110": (1_730_714, 1_736_564, 253.2),
    "resnet8x4": (1_210_410, 1_233_540, 177.1),
    "resnet32x4": (7_410_730, 7_433_860, 1083.0),
}
PAD = {
    "resnet8": (75_290, 81_140),
    "resnet14": (172_506, 178_356),
    "resnet20": (269_722, 275_572),
    "resnet32": (464_154, 470_004),
    "resnet44": (658_586, 664_436),
    "resnet56": (853_018, 858_868),
    "resnet110": (1_727_962, 1_733_812),
    # three projections fewer: 32*64 + 64*128 + 128*256 weights and 2 * (64 + 128 + 256) of BatchNorm
    "resnet8x4": (1_210_410 - 43_904, 1_233_540 - 43_904),
    "resnet32x4": (7_410_730 - 43_904, 7_433_860 - 43_904),
}


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


@pytest.mark.parametrize("key", PROJECTION)
def test_sizes(key: str) -> None:
    ten, hundred, mmacs = PROJECTION[key]
    assert models.info(key, 10).params == ten
    assert models.info(key, 100).params == hundred
    assert round(models.info(key, 100).macs / 1e6, 1) == mmacs


@pytest.mark.parametrize("key", PAD)
def test_sizes_with_free_shortcuts(key: str) -> None:
    ten, hundred = PAD[key]
    assert models.info(key, 10, options={"shortcut": "pad"}).params == ten
    assert models.info(key, 100, options={"shortcut": "pad"}).params == hundred


@pytest.mark.parametrize("key", models.keys())
def test_card_is_complete(key: str) -> None:
    card = models.cards()[key]
    assert card.key == key and card.title and card.family and card.source and 1998 <= card.year <= 2030 and card.depth > 0
    for name, field in card.options.model_fields.items():
        assert field.description and not field.is_required(), name


@pytest.mark.parametrize("key", [k for k in models.cards() if models.info(k, 10).macs < 200e6])
def test_info_is_true_of_the_network(key: str) -> None:
    network = models.build(key, 7, 24)
    outputs = network(torch.randn(2, 3, 24, 24), ALL)
    info = network.info
    assert (info.model, info.classes, info.image_size) == (key, 7, 24)
    assert info.params == sum(p.numel() for p in network.parameters())
    assert outputs.logits.shape == (2, 7) and outputs.embedding.shape == (2, info.embedding)
    assert tuple(tuple(m.shape[1:]) for m in outputs.stages) == info.stages
    assert tuple(tuple(m.shape[1:]) for m in outputs.preacts) == info.stages
    assert tuple(tuple(m.shape[1:]) for m in outputs.blocks) == info.blocks
    assert tuple(outputs.stem.shape[1:]) == info.stem


@pytest.mark.parametrize("shortcut", ["projection", "pad"])
def test_taps_mean_what_they_say(shortcut: str) -> None:
    network = models.build("resnet14", 10, options={"shortcut": shortcut}).eval()
    x = torch.randn(2, 3, 32, 32)
    outputs = network(x, ALL)
    for stage, preact in zip(outputs.stages, outputs.preacts, strict=True):
        assert torch.equal(stage, preact.relu()) and (preact < 0).any()
    assert len(outputs.blocks) == 6 and outputs.blocks[-1] is outputs.stages[-1] and outputs.blocks[1] is outputs.stages[0]
    torch.testing.assert_close(outputs.embedding, outputs.stages[-1].mean((2, 3)))
    torch.testing.assert_close(outputs.logits, network.fc(outputs.embedding))
    bare = network(x)
    assert torch.equal(bare.logits, outputs.logits)
    assert all(getattr(bare, tap) is None for tap in TAPS if tap != "logits")


def test_every_tap_passes_a_gradient_in_training() -> None:
    network = models.build("resnet8", 10, 16)
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    for name, tap in _flat(network(x, ALL)).items():
        (gradient,) = torch.autograd.grad(tap.square().sum(), x, retain_graph=True)
        assert gradient.abs().sum() > 0, name


def test_pad_shortcut_keeps_every_second_pixel() -> None:
    network = models.build("resnet8", 10, options={"shortcut": "pad"})
    x = torch.randn(2, 16, 8, 8)
    shortcut = network.layer2[0].downsample(x)
    assert shortcut.shape == (2, 32, 4, 4)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert shortcut[:, :8].abs().sum() == shortcut[:, 24:].abs().sum() == 0


@pytest.mark.parametrize(("key", "options"), [("resnet14", {}), ("resnet14", {"shortcut": "pad"}), ("resnet8x4", {})])
def test_folding_by_the_named_pairs_changes_nothing(key: str, options: dict[str, str]) -> None:
    network = _random_norms(models.build(key, 10, options=options)).eval()
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        before = _flat(network(x, ALL))
        for conv, norm in network.foldable():
            network.set_submodule(conv, fuse_conv_bn_eval(network.get_submodule(conv), network.get_submodule(norm)))
            network.set_submodule(norm, nn.Identity())
        after = _flat(network(x, ALL))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    for name, tap in before.items():
        torch.testing.assert_close(
            after[name], tap, rtol=1e-4, atol=2e-5 * tap.abs().max().item(), msg=lambda m, n=name: f"{n}: {m}"
        )


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


def test_convolutions_start_with_kaimings_spread() -> None:
    network = models.build("resnet20", 10)
    weight = network.layer3[1].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


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
