"""The loader and its augmentation, against a naive reference image by image. Never: a file, a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as reference

from kdengine.data.augment import Loader, augment, draw, evaluation_batches, normalise
from kdengine.data.contract import Images
from kdengine.errors import SpecError

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def images(count: int = 50, size: int = 12) -> Images:
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return Images(x, torch.randint(0, 10, (count,), generator=generator))


def loader(data: Images, batch_size: int = 8, seed: int = 0, **changes: object) -> Loader:
    values: dict[str, object] = {
        "mean": MEAN, "std": STD, "crop_pad": 2, "crop_mode": "reflect", "flip": True, "device": "cpu", "channels_last": True,
        "generator": torch.Generator().manual_seed(seed),
    }  # fmt: skip
    return Loader(data, batch_size, **(values | changes))  # type: ignore[arg-type]


def epoch(source: Loader) -> list[tuple[torch.Tensor, ...]]:
    return [tuple(part.clone() for part in batch) for batch in source]


def same(a: list[tuple[torch.Tensor, ...]], b: list[tuple[torch.Tensor, ...]]) -> bool:
    return len(a) == len(b) and all(torch.equal(p, q) for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True))


def naive(x: np.ndarray, corner: list[int], mirrored: bool, pad: int, mode: str) -> np.ndarray:
    """One image, as the papers describe it: pad, cut, mirror."""
    height, width = x.shape[1:]
    widths = ((0, 0), (pad, pad), (pad, pad))
    padded = np.pad(x, widths, mode="reflect") if mode == "reflect" else np.pad(x, widths)
    cut = padded[:, corner[0] : corner[0] + height, corner[1] : corner[1] + width]
    return cut[:, :, ::-1] if mirrored else cut


@pytest.mark.parametrize("mode", ["reflect", "zero"])
@pytest.mark.parametrize("pad", [0, 1, 4, 11])
@pytest.mark.parametrize("flip", [True, False])
def test_crop_and_flip_equal_the_naive_way(mode: str, pad: int, flip: bool) -> None:
    x = images(64).x
    corners, mirrored = draw(64, pad, flip, torch.Generator().manual_seed(1))
    got = augment(x, corners, mirrored, pad, mode)
    assert got.dtype == torch.uint8 and got.shape == x.shape
    for i in range(64):
        expected = naive(x[i].numpy(), corners[i].tolist(), bool(mirrored[i]), pad, mode)
        assert np.array_equal(got[i].numpy(), expected)


def test_height_and_width_may_differ() -> None:
    x = images(8, 12).x[:, :, :7]
    corners, mirrored = draw(8, 3, True, torch.Generator().manual_seed(2))
    for mode in ("reflect", "zero"):
        got = augment(x, corners, mirrored, 3, mode)
        for i in range(8):
            assert np.array_equal(got[i].numpy(), naive(x[i].numpy(), corners[i].tolist(), bool(mirrored[i]), 3, mode))


def test_every_corner_and_both_sides_are_drawn_evenly() -> None:
    corners, mirrored = draw(9000, 1, True, torch.Generator().manual_seed(3))
    counts = (corners[:, 0] * 3 + corners[:, 1]).bincount(minlength=9)
    assert counts.min() > 850 and counts.max() < 1150
    assert 4300 < int(mirrored.sum()) < 4700
    assert not draw(100, 1, False, torch.Generator())[1].any()


def test_normalising_is_exact() -> None:
    x = images().x
    expected = torch.stack([reference.normalize(i.float() / 255, MEAN, STD) for i in x])
    assert torch.equal(normalise(x, MEAN, STD), expected)
    assert torch.equal(normalise(x, torch.tensor(MEAN), torch.tensor(STD)), expected)


def test_a_batch_is_what_it_says() -> None:
    data = images()
    for x, y, index in loader(data, crop_pad=0, flip=False):
        assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(x, normalise(data.x[index], MEAN, STD)) and torch.equal(y, data.y[index])
    assert all(x.is_contiguous() for x, _, _ in loader(data, channels_last=False))


def test_digits_are_never_mirrored() -> None:
    data = images(40)
    for x, _, index in loader(data, crop_pad=0, flip=False):
        assert torch.equal(x, normalise(data.x[index], MEAN, STD))
    flipped = torch.cat([x for x, _, _ in loader(data, crop_pad=0)])
    order = torch.cat([i for _, _, i in loader(data, crop_pad=0)])
    plain = normalise(data.x[order], MEAN, STD)
    mirrored = (flipped != plain).flatten(1).any(dim=1)
    assert 0 < int(mirrored.sum()) < 40 and torch.equal(flipped[mirrored], plain[mirrored].flip(3))


@pytest.mark.parametrize("drop_last", [True, False])
def test_every_image_comes_once(drop_last: bool) -> None:
    source = loader(images(50), drop_last=drop_last)
    batches = epoch(source)
    assert len(batches) == len(source) == (6 if drop_last else 7)
    index = torch.cat([i for _, _, i in batches])
    assert len(index.unique()) == len(index) == (48 if drop_last else 50)
    assert [len(y) for _, y, _ in batches] == [8] * 6 + ([] if drop_last else [2])


def test_order_and_augmentation_depend_on_the_generator_alone() -> None:
    data = images()
    torch.manual_seed(1)
    first = epoch(loader(data))
    torch.manual_seed(2)
    assert same(first, epoch(loader(data)))
    assert not same(first, epoch(loader(data, seed=1)))
    before = torch.get_rng_state()
    epoch(loader(data))
    assert torch.equal(before, torch.get_rng_state()), "the global generator is not touched"


def test_resume_from_the_generators_state_is_exact() -> None:
    data = images()
    whole = loader(data)
    epoch(whole)
    state = whole.generator.get_state()
    second, third = epoch(whole), epoch(whole)
    assert not same(second, third)
    resumed = loader(data, seed=99)
    resumed.generator.set_state(state)
    assert same(second, epoch(resumed)) and same(third, epoch(resumed))


@pytest.mark.parametrize("batch_size", [3, 8, 50])
def test_streaming_gives_the_same_batches(batch_size: int) -> None:
    data = images()
    resident, streamed = loader(data, batch_size), loader(data, batch_size, resident_limit_mib=0.001)
    assert resident.resident and not streamed.resident
    assert same(epoch(resident), epoch(streamed))


def test_the_blocks_that_batches_share_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    data = images()
    together = epoch(loader(data, drop_last=False))
    monkeypatch.setattr("kdengine.data.augment.BLOCK_BYTES", 1)
    assert same(together, epoch(loader(data, drop_last=False)))


def test_a_step_never_asks_the_device_for_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a host sync")

    source = loader(images())
    steps = iter(source)
    next(steps)
    for name in ("item", "tolist", "nonzero", "__bool__", "__int__", "__float__", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    rest = sum(1 for _ in steps)
    monkeypatch.undo()
    assert rest == len(source) - 1


def test_a_further_view_shows_the_same_images_otherwise_cropped() -> None:
    data = images()
    plain = loader(data, crop_pad=0, flip=False)
    index = torch.tensor([3, 1, 4])
    assert torch.equal(plain.again(index), normalise(data.x[index], MEAN, STD))
    source, twin = loader(data, batch_size=16), loader(data, batch_size=16, resident_limit_mib=0)
    x, _, index = next(iter(source))
    next(iter(twin))
    view = source.again(index)
    assert view.shape == x.shape and not torch.equal(view, x)
    assert torch.equal(view, twin.again(index)), "streamed or resident, the generator decides"


def test_too_few_images_and_too_much_padding_are_said_together() -> None:
    with pytest.raises(SpecError) as error:
        loader(images(5, 8), crop_pad=8)
    assert [p.field for p in error.value.problems] == ["batch_size", "crop_pad"]
    assert all(p.given and p.allowed and p.do for p in error.value.problems)
    assert len(loader(images(5, 8), crop_pad=8, crop_mode="zero", drop_last=False)) == 1


def test_evaluation_keeps_the_order_and_leaves_nothing_out() -> None:
    data = images(21)
    batches = list(evaluation_batches(data, 8, MEAN, STD, "cpu", True))
    assert [len(y) for _, y in batches] == [8, 8, 5]
    assert torch.equal(torch.cat([x for x, _ in batches]), normalise(data.x, MEAN, STD))
    assert torch.equal(torch.cat([y for _, y in batches]), data.y)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in batches)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("limit", [4096, 0.001])
def test_a_gpu_sees_the_same_images(limit: float) -> None:
    data = images()
    here = epoch(loader(data))
    there = epoch(loader(data, device="cuda", resident_limit_mib=limit))
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a[0], b[0].cpu())
        assert torch.equal(a[1], b[1].cpu()) and torch.equal(a[2], b[2].cpu())
