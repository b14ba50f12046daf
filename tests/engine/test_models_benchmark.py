"""The networks of the standard benchmark: sizes and maps equal to the literature's, weights that start and are named alike."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdengine import models

# key: parameters with 10 and 100 classes, multiply-adds in millions (100 classes); counted on the well-known PyTorch code
SIZES = {
    "resnet8": (78_042, 83_892, 12.5),
    "resnet14": (175_258, 181_108, 26.7),
    "resnet20": (272_474, 278_324, 40.8),
    "resnet32": (466_906, 472_756, 69.1),
    "resnet44": (661_338, 667_188, 97.4),
    "resnet56": (855_770, 861_620, 125.8),
    "resnet110": (1_730_714, 1_736_564, 253.2),
    "resnet8x4": (1_210_410, 1_233_540, 177.1),
    "resnet32x4": (7_410_730, 7_433_860, 1083.0),
    "wrn_16_1": (175_066, 180_916, 26.7),
    "wrn_16_2": (691_674, 703_284, 101.1),
    "wrn_40_1": (563_930, 569_780, 83.3),
    "wrn_40_2": (2_243_546, 2_255_156, 327.6),
    "vgg8": (3_918_858, 3_965_028, 96.2),
    "vgg11": (9_231_114, 9_277_284, 209.4),
    "vgg13": (9_416_010, 9_462_180, 284.9),
    "vgg16": (14_728_266, 14_774_436, 398.2),
    "vgg19": (20_040_522, 20_086_692, 511.4),
    "mobilenetv2": (697_546, 812_836, 6.5),
    "shufflenetv1": (862_768, 949_258, 38.7),
    "shufflenetv2": (1_263_278, 1_355_528, 44.5),
    "resnet18": (11_173_962, 11_220_132, None),  # the source gives no multiply-adds for these two
    "resnet34": (21_282_122, 21_328_292, None),
    "resnet50": (23_520_842, 23_705_252, 1298.0),
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
# channels @ pixels of the stem and of each stage, at 32 pixels; then the embedding
PLAIN = "16@32 16@32 32@16 64@8 64"
TWICE = "16@32 32@32 64@16 128@8 128"
WIDE = "32@32 64@32 128@16 256@8 256"
VGG = "64@32 128@16 256@8 512@4 512@4 512"
MAPS = {
    **dict.fromkeys(("resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"), PLAIN),
    **dict.fromkeys(("resnet8x4", "resnet32x4"), WIDE),
    **dict.fromkeys(("wrn_16_1", "wrn_40_1"), PLAIN),
    **dict.fromkeys(("wrn_16_2", "wrn_40_2"), TWICE),
    **dict.fromkeys(("vgg8", "vgg11", "vgg13", "vgg16", "vgg19"), VGG),
    "mobilenetv2": "16@16 12@16 16@8 48@4 160@2 1280",
    "shufflenetv1": "24@32 240@16 480@8 960@4 960",
    "shufflenetv2": "24@32 116@16 232@8 464@4 1024",
    **dict.fromkeys(("resnet18", "resnet34"), "64@32 64@32 128@16 256@8 512@4 512"),
    "resnet50": "64@32 256@32 512@16 1024@8 2048@4 2048",
}
BLOCKS = {"resnet56": 27, "wrn_40_2": 18, "vgg13": 4, "mobilenetv2": 17, "shufflenetv1": 16, "shufflenetv2": 16, "resnet50": 16}
# names that published weights of the benchmark have
NAMES = {
    "resnet8x4": ("layer2.0.downsample.0.weight", "layer3.0.bn2.running_var", "fc.bias"),
    "wrn_40_2": ("block1.layer.0.convShortcut.weight", "block3.layer.5.bn2.bias", "bn1.running_mean", "fc.weight"),
    "vgg13": ("block0.0.bias", "block0.4.running_mean", "block4.3.weight", "classifier.weight"),
    "mobilenetv2": ("conv1.0.weight", "blocks.2.1.conv.7.running_var", "conv2.1.bias", "classifier.0.weight"),
    "shufflenetv1": ("layer1.0.bn3.weight", "layer3.3.conv2.weight", "linear.bias"),
    "shufflenetv2": ("layer1.0.conv5.weight", "layer2.7.bn3.running_mean", "conv2.weight", "linear.weight"),
    "resnet50": ("layer1.0.conv3.weight", "layer4.0.shortcut.1.running_var", "linear.weight"),
}
# what the benchmark's own code (RepDistiller; ResNet-18 with it) says with `closed_form` weights and images, in float64: the
# first three logits of the first image, and the deviation of all twenty
LOGITS = {
    "resnet8x4": (0.35697582, 0.20014489, 0.23365803, 0.32863932),
    "wrn_16_1": (-6.5233115, 9.4369919, 5.6927968, 9.4268365),
    "wrn_16_2": (-5.0418817, -0.096299946, 1.0353418, 3.2016045),
    "vgg8": (-0.94894838, 0.29306066, -0.25105426, 0.33629913),
    "vgg13": (-1.0666558, 0.96987074, -0.50238699, 0.49673474),
    "mobilenetv2": (-6396.0000, -2308.5266, 1205.0664, 2581.3048),
    "shufflenetv1": (21.493784, 2.7159501, 3.6082862, 11.848683),
    "shufflenetv2": (-40.416058, 8.6222647, -1.7223438, 21.302581),
    "resnet18": (16.161719, -1.8685401, -1.3043689, 7.4600866),
    "resnet50": (120.65414, 3.7814851, 8.4196652, 38.550308),
}


def closed_form(network: nn.Module) -> nn.Module:
    """Fill weights and statistics with waves whose phase is the length of their names."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            wave = torch.sin(0.37 * torch.arange(tensor.numel(), dtype=torch.float64) ** 1.1 + len(name)).reshape(tensor.shape)
            if tensor.dim() > 1:
                tensor.copy_(wave * (4 / tensor[0].numel()) ** 0.5)
            elif name.endswith("running_var"):
                tensor.copy_(1 + 0.3 * wave)
            else:
                tensor.copy_(1 + 0.2 * wave if name.endswith("weight") else 0.2 * wave)
    return network


@pytest.mark.slow
@pytest.mark.parametrize("key", LOGITS)
def test_logits_are_the_benchmarks(key: str) -> None:
    network = closed_form(models.build(key, 10).double().eval())
    images = torch.sin(0.1 * torch.arange(2 * 3 * 32 * 32, dtype=torch.float64) ** 1.2).reshape(2, 3, 32, 32)
    with torch.no_grad():
        logits = network(images).logits
    assert (*logits[0, :3].tolist(), logits.std().item()) == pytest.approx(LOGITS[key], rel=1e-7)


def test_every_network_is_in_the_tables() -> None:
    assert set(SIZES) == set(MAPS) == set(models.keys())


@pytest.mark.parametrize("key", SIZES)
def test_sizes(key: str) -> None:
    ten, hundred, mmacs = SIZES[key]
    assert models.info(key, 10).params == ten
    assert models.info(key, 100).params == hundred
    assert mmacs is None or round(models.info(key, 100).macs / 1e6, 1) == mmacs


@pytest.mark.parametrize("key", PAD)
def test_sizes_with_free_shortcuts(key: str) -> None:
    ten, hundred = PAD[key]
    assert models.info(key, 10, options={"shortcut": "pad"}).params == ten
    assert models.info(key, 100, options={"shortcut": "pad"}).params == hundred


@pytest.mark.parametrize("key", MAPS)
def test_maps(key: str) -> None:
    info = models.info(key, 100)
    maps = [info.stem, *info.stages]
    assert " ".join([*(f"{c}@{h}" for c, h, _ in maps), str(info.embedding)]) == MAPS[key]
    assert key not in BLOCKS or len(info.blocks) == BLOCKS[key]


def test_the_fourth_pooling_of_vgg_comes_with_larger_images() -> None:
    assert [h for _, h, _ in models.info("vgg8", 10, 63).stages] == [31, 15, 7, 7]
    assert [h for _, h, _ in models.info("vgg8", 10, 64).stages] == [32, 16, 8, 4]


@pytest.mark.parametrize("key", NAMES)
def test_parameters_have_the_published_names(key: str) -> None:
    with torch.device("meta"):
        names = models.card_of(key).build(100, 32, models.options_of(key)).state_dict()
    assert set(NAMES[key]) <= set(names)


@pytest.mark.parametrize("key", ["resnet20", "wrn_16_2", "vgg8", "mobilenetv2", "resnet18"])
def test_convolutions_start_normal_with_kaimings_spread(key: str) -> None:
    network = models.build(key, 10)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000]
    assert convolutions
    for conv in convolutions:
        expected = (2 / (conv.out_channels * conv.kernel_size[0] ** 2)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.06)
        assert conv.weight.abs().max() > 3 * expected  # a uniform distribution would end at 1.7
        assert conv.bias is None or not conv.bias.any()


@pytest.mark.parametrize("key", ["shufflenetv1", "shufflenetv2"])
def test_convolutions_of_shufflenets_start_as_pytorch_has_them(key: str) -> None:
    for conv in (m for m in models.build(key, 10).modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 4000):
        bound = conv.weight[0].numel() ** -0.5
        assert conv.weight.abs().max() <= bound and conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.06)


@pytest.mark.parametrize(("key", "zero_bias"), [("vgg8", True), ("mobilenetv2", True), ("wrn_16_2", True), ("resnet18", False)])
def test_linear_layers_start_as_in_the_benchmark(key: str, zero_bias: bool) -> None:
    linear = [m for m in models.build(key, 100).modules() if isinstance(m, nn.Linear)][-1]
    spread = 0.01 if key in ("vgg8", "mobilenetv2") else (3 * linear.in_features) ** -0.5
    assert linear.weight.std().item() == pytest.approx(spread, rel=0.05)
    assert linear.bias.any() != zero_bias
