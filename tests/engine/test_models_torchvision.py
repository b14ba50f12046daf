"""Torchvision's networks: known by name without loading it, tapped where they should be, refused with a reason."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 - that a network survives it is what is tested
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from kdengine import models, networks
from kdengine.check import check
from kdengine.errors import SpecError, UnknownKey
from kdengine.home import Home
from kdengine.models import _torchvision
from kdengine.models.contract import TAPS
from kdengine.spec import RunSpec

pytestmark = pytest.mark.slow

ALL = frozenset(TAPS)
# at these pixels: stem, stages (module paths), maps of the stages, width of the embedding
PLANS = {
    "resnet18": (64, "relu", "layer1 layer2 layer3 layer4", "64@16 128@8 256@4 512@2", 512),
    "resnet50": (64, "relu", "layer1 layer2 layer3 layer4", "256@16 512@8 1024@4 2048@2", 2048),
    "vgg11_bn": (32, "features.2", "features.6 features.13 features.20 features.27", "128@16 256@8 512@4 512@2", 4096),
    "mobilenet_v3_small": (64, "features.0", "features.1 features.3 features.8 features.12", "16@16 24@8 48@4 576@2", 1024),
    "efficientnet_b0": (
        64, "features.0", "features.1 features.2 features.3 features.5 features.8", "16@32 24@16 40@8 112@4 1280@2", 1280,
    ),
    "densenet121": (
        64, "features.relu0", "features.denseblock1 features.denseblock2 features.denseblock3 features.norm5",
        "256@16 512@8 1024@4 1024@2", 1024,
    ),
    "inception_v3": (
        96, "Conv2d_1a_3x3", "Conv2d_2b_3x3 Conv2d_4a_3x3 Mixed_5d Mixed_6e Mixed_7c", "64@45 192@20 288@9 768@4 2048@1", 2048,
    ),
    "squeezenet1_1": (64, "features.1", "features.4 features.7 features.12", "128@15 256@7 512@3", 512),
    "regnet_y_400mf": (
        64, "stem", "trunk_output.block1 trunk_output.block2 trunk_output.block3 trunk_output.block4",
        "48@16 104@8 208@4 440@2", 440,
    ),
    "convnext_tiny": (64, "features.0.1", "features.1 features.3 features.5 features.7", "96@16 192@8 384@4 768@2", 768),
    "swin_t": (64, "features.0.2", "features.1 features.3 features.5 permute", "96@16 192@8 384@4 768@2", 768),
    "vit_b_16": (
        48, "conv_proj", " ".join(f"encoder.layers.encoder_layer_{i}" for i in (2, 5, 8, 11)), "768@3 768@3 768@3 768@3", 768,
    ),
}  # fmt: skip
LIGHT = ("squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "regnet_y_400mf", "googlenet")


def built(name: str, size: int = 64, **options: str) -> _torchvision.Torchvision:
    network = networks.build(f"torchvision:{name}", 7, size, options, 0, 0.1)
    assert isinstance(network, _torchvision.Torchvision)
    return network


def test_names_are_torchvisions() -> None:
    from torchvision import models as theirs

    names = models.torchvision_names()
    assert sorted(names) == sorted(f"torchvision:{name}" for name in theirs.list_models(module=theirs))
    order = [names.index(f"torchvision:{name}") for name in ("alexnet", "resnet50", "resnet101", "vgg11", "vgg11_bn", "vit_b_16")]
    assert order == sorted(order)


def test_torchvision_is_loaded_only_when_it_is_needed() -> None:
    code = (
        "import sys; from kdengine import check, models; models.cards(); models.torchvision_names(); "
        "models.card_of('torchvision:resnet18'); models.options_of('torchvision:resnet18'); "
        "assert models.known('torchvision:resnet18'); sys.exit('torchvision' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=50, check=False).returncode == 0


@pytest.mark.parametrize("name", PLANS)
def test_taps_are_found_where_maps_shrink(name: str) -> None:
    size, stem, stages, maps, embedding = PLANS[name]
    plan = _torchvision._plan(name, size)
    assert isinstance(plan, _torchvision.Plan), plan
    assert (plan.stem, " ".join(plan.stages)) == (stem, stages)
    info = models.info(f"torchvision:{name}", 7, size)
    assert " ".join(f"{c}@{h}" for c, h, _ in info.stages) == maps and info.embedding == embedding
    assert info.blocks == info.stages and not info.norms


def test_size_is_counted() -> None:
    """Published for 1,000 classes: 11,689,512 parameters, 1,814,073,344 multiply-adds; 86,567,656 parameters."""
    resnet, vit = models.info("torchvision:resnet18", 1000, 224), models.info("torchvision:vit_b_16", 1000, 224)
    assert (resnet.params, resnet.macs) == (11_689_512, 1_814_073_344)
    # patches, then per block and token (196 and the class) four times width by width of attention and eight of the MLP, head
    assert (vit.params, vit.macs) == (86_567_656, 196 * 768**2 + 12 * 197 * 12 * 768**2 + 768 * 1000)


@pytest.mark.parametrize("name", LIGHT)
def test_it_says_what_torchvision_says(name: str) -> None:
    network = built(name).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        outputs = network(x, ALL)
        assert torch.equal(outputs.logits, network.model(x)) and torch.equal(outputs.logits, network(x).logits)
    info = network.info
    assert info.params == sum(p.numel() for p in network.parameters())
    assert tuple(tuple(m.shape[1:]) for m in outputs.stages) == info.stages and tuple(outputs.stem.shape[1:]) == info.stem
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    if linear:
        torch.testing.assert_close(outputs.logits, linear[-1](outputs.embedding))
    assert all(a is b is c for a, b, c in zip(outputs.preacts, outputs.stages, outputs.blocks, strict=True))
    assert network(x, frozenset({"stages"})).embedding is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


@pytest.mark.parametrize("name", LIGHT)
def test_every_tap_passes_a_gradient_in_training(name: str) -> None:
    outputs = (network := built(name)).train()(torch.randn(2, 3, 64, 64), ALL)
    first = next(network.parameters())
    for tap in (outputs.logits, outputs.embedding, outputs.stem, *outputs.stages):
        (gradient,) = torch.autograd.grad(tap.square().sum(), first, retain_graph=True)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v3_small", 64), ("swin_t", 32), ("vit_b_16", 32)])
def test_methods_of_gradients_find_what_they_need(name: str, size: int) -> None:
    """Logits can be derived by a tapped map, also where channels come last, and twice by the images."""
    network = built(name, size)
    nn.init.normal_(linear := [m for m in network.modules() if isinstance(m, nn.Linear)][-1].weight)
    x = torch.randn(2, 3, size, size, requires_grad=True)
    outputs = network(x, ALL)
    for tap in (outputs.stem, *outputs.stages[:-1]):
        assert torch.autograd.grad(outputs.logits.sum(), tap, retain_graph=True)[0].any()
    (gradient,) = torch.autograd.grad(outputs.logits.sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert linear.grad.any()


def test_the_hard_sigmoid_is_pytorchs() -> None:
    x = torch.linspace(-5, 5, 101)
    torch.testing.assert_close(_torchvision.Hardsigmoid()(x), nn.functional.hardsigmoid(x))
    assert any(isinstance(m, _torchvision.Hardsigmoid) for m in built("mobilenet_v3_small").modules())


def test_copies_and_files_hold_all_of_it(tmp_path: Path) -> None:
    network = built("shufflenet_v2_x0_5", stages="stage2,stage4").eval()
    x = torch.randn(2, 3, 64, 64)
    networks.save_weights(network, tmp_path / "w.safetensors")
    other = networks.build("torchvision:shufflenet_v2_x0_5", 7, 64, {"stages": "stage2, stage4"}, 5, 0.1).eval()
    networks.load_weights(other, tmp_path / "w.safetensors", "teacher")
    with torch.no_grad():
        mine = network(x, ALL)
        for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), other):
            theirs = twin(x, ALL)
            assert torch.equal(theirs.logits, mine.logits) and torch.equal(theirs.stages[1], mine.stages[1])


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet18"])
def test_a_folded_network_in_bf16_says_nearly_the_same(name: str) -> None:
    network = built(name)
    x = torch.randn(8, 3, 64, 64)
    for _ in range(3):
        network(x)
    network.eval()
    with torch.no_grad():
        before = network(x, ALL)
        pairs = network.foldable()
        networks.fold(network)
        after = network(x, ALL)
        half = network.bfloat16()(x.bfloat16(), ALL)
    assert pairs and not any(isinstance(network.get_submodule(norm), nn.BatchNorm2d) for _, norm in pairs)
    for a, b in zip((before.logits, before.stem, *before.stages), (after.logits, after.stem, *after.stages), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * a.abs().max().item())
    assert half.stages[0].dtype == torch.bfloat16
    assert (half.logits.float() - before.logits).abs().max() < 0.1 * before.logits.abs().max()


def test_a_convolution_that_is_tapped_is_not_folded() -> None:
    pairs = built("mobilenet_v3_small").foldable()
    tapped = built("mobilenet_v3_small", stages="features.0.0,features.3").foldable()
    assert set(pairs) - set(tapped) == {("model.features.0.0", "model.features.0.1")}


def test_a_map_before_an_activation_is_not_overwritten_by_it() -> None:
    outputs = built("squeezenet1_1", stages="features.0")(torch.randn(2, 3, 64, 64), ALL)
    assert (outputs.stages[0] < 0).any() and torch.equal(outputs.stages[0].relu(), outputs.stem)


def test_channels_come_first_also_where_the_network_has_them_last() -> None:
    network = built("swin_t", 32).eval()
    with torch.no_grad():
        outputs = network(torch.randn(2, 3, 32, 32), ALL)
    assert [m.shape[1] for m in outputs.stages] == [96, 192, 384, 768]
    torch.testing.assert_close(outputs.stages[-1].mean((2, 3)), outputs.embedding)


def test_tokens_become_maps_in_their_places() -> None:
    """Blocks without weights pass their tokens on, so every stage must be the stem again."""
    network = built("vit_b_16", 48).eval()
    with torch.no_grad():
        for parameter in (network.model.encoder.pos_embedding, *network.model.encoder.layers.parameters()):
            parameter.zero_()
        outputs = network(torch.randn(2, 3, 48, 48), ALL)
    for stage in outputs.stages:
        torch.testing.assert_close(stage, outputs.stem)


def test_stages_by_module_path() -> None:
    key, options = "torchvision:resnet18", {"stages": "layer2, layer4.0"}
    assert models.info(key, 10, 64, options).stages == ((128, 8, 8), (512, 2, 2))
    found = models.problems(key, 64, {"stages": "layer2,layer5,flatten"}, "student_options.")
    assert [p.field for p in found] == ["student_options.stages"] * 2
    assert "did you mean 'layer" in found[0].do
    assert found[1].allowed.startswith("conv1, bn1, relu, layer1, layer2, layer3, layer4")
    with pytest.raises(SpecError, match="layer5"):
        models.build(key, 10, 64, {"stages": "layer5"})


@pytest.mark.parametrize(
    ("name", "size", "allowed"),
    [
        ("alexnet", 32, "64 pixels"),
        ("vit_b_16", 40, "32 pixels"),
        ("maxvit_t", 96, "224 pixels"),
        ("inception_v3", 64, "80 pixels"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_a_size_that_does(name: str, size: int, allowed: str, tmp_path: Path) -> None:
    key = f"torchvision:{name}"
    spec = RunSpec(method="kd", student=key, teacher="resnet8", image_size=size)
    found = [p for p in check(spec, Home(tmp_path)) if p.field == "image_size"]
    assert len(found) == 1 and name in found[0].given and allowed in found[0].allowed
    with pytest.raises(SpecError, match="image_size"):
        models.info(key, 10, size)


def test_a_spec_with_torchvisions_networks_is_sound(tmp_path: Path) -> None:
    spec = RunSpec(method="kd", student="torchvision:mobilenet_v3_small", teacher="torchvision:resnet18", image_size=64)
    assert check(spec, Home(tmp_path)) == []


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownKey, match="did you mean 'torchvision:resnet18'"):
        models.card_of("torchvision:resnet_18")
    assert "take 'torchvision:efficientnet_b0'" in models.unknown_model("efficientnet_b0").do
    assert models.unknown_model("resnet19", "teacher").field == "teacher"
