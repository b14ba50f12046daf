"""From files to tensors: digits, image folders, parquet; odd images, broken files, the cache, subsets. Never: the network."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from kdengine import data, datasets
from kdengine.data import cache
from kdengine.data.pixels import decode
from kdengine.data.subsets import held_out, subset
from kdengine.errors import KdError, SpecError, UnknownKey
from kdengine.home import Home


def save(path: Path, image: Image.Image, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def folders(root: Path, per_class: int = 2, size: tuple[int, int] = (9, 9)) -> Path:
    for split in ("train", "test"):
        for k, name in enumerate(("a", "b")):
            for i in range(per_class):
                save(root / split / name / f"{i}.png", Image.new("RGB", size, (100 * k, i, 50)))
    return root


def png(array: np.ndarray) -> bytes:
    held = io.BytesIO()
    Image.fromarray(array).save(held, "PNG")
    return held.getvalue()


# ---- digits -----------------------------------------------------------------------------------------------------------------


def test_digits_are_the_real_scans(home: Home) -> None:
    from sklearn.datasets import load_digits

    loaded = data.load(home, "digits", image_size=8)
    scans, labels = load_digits(return_X_y=True)
    known = {np.rint(s * (255 / 16)).astype(np.uint8).tobytes(): int(y) for s, y in zip(scans, labels, strict=True)}
    both = [*zip(loaded.train.x, loaded.train.y, strict=True), *zip(loaded.test.x, loaded.test.y, strict=True)]
    assert len(both) == 1797
    for x, y in both:
        assert known[x[0].numpy().tobytes()] == int(y)
        assert torch.equal(x[0], x[1]) and torch.equal(x[0], x[2])
    assert loaded.train.x.max() == 255 and loaded.train.x.dtype == torch.uint8
    assert not loaded.flippable and loaded.val is None


def test_digits_are_resized_and_their_statistics_are_their_own(home: Home) -> None:
    loaded = data.load(home, "digits", image_size=32)
    assert loaded.train.x.shape == (1197, 3, 32, 32) and loaded.test.x.shape == (600, 3, 32, 32)
    scaled = loaded.train.x.double() / 255
    assert loaded.mean == pytest.approx(scaled.mean(dim=(0, 2, 3)).tolist(), rel=1e-9)
    assert loaded.std == pytest.approx(scaled.std(dim=(0, 2, 3), correction=0).tolist(), rel=1e-9)
    assert loaded.low == pytest.approx([-m / s for m, s in zip(loaded.mean, loaded.std, strict=True)])
    assert loaded.high == pytest.approx([(1 - m) / s for m, s in zip(loaded.mean, loaded.std, strict=True)])


def test_a_constant_channel_has_a_standard_deviation_of_one() -> None:
    assert cache.statistics(np.zeros((4, 3, 2, 2), dtype=np.uint8)) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


# ---- subsets ------------------------------------------------------------------------------------------------------------------


def test_a_subset_is_fixed_nested_and_stratified(home: Home) -> None:
    whole, small, large = (data.load(home, "digits", image_size=8, train_images=n) for n in (None, 200, 1100))
    again = data.load(home, "digits", image_size=8, train_images=200)
    assert torch.equal(small.train.x, again.train.x) and len(small.train) == 200
    keys = [{x.numpy().tobytes() + bytes([y]) for x, y in zip(d.train.x, d.train.y, strict=True)} for d in (small, large, whole)]
    assert keys[0] < keys[1] < keys[2]
    share = whole.train.y.bincount() / len(whole.train) * 200
    assert (small.train.y.bincount() - share).abs().max() <= 1
    assert small.mean == whole.mean and small.std == whole.std  # so that a teacher of another subset sees the same pixels
    assert torch.equal(small.test.x, whole.test.x)


def test_the_validation_split_is_taken_before_the_subset(home: Home) -> None:
    plain = data.load(home, "digits", image_size=8)
    loaded = data.load(home, "digits", image_size=8, val_frac=0.2, train_images=300)
    other = data.load(home, "digits", image_size=8, val_frac=0.2)
    assert loaded.val is not None and other.val is not None
    assert len(loaded.val) == round(0.2 * 1197) and torch.equal(loaded.val.x, other.val.x)
    assert len(other.train) + len(other.val) == len(plain.train)
    train, val = ({x.numpy().tobytes() for x in part.x} for part in (other.train, other.val))
    assert len(train & val) <= len(other.val) - len(val)  # no image stands in both, apart from scans that are equal
    assert (other.val.y.bincount(minlength=10) > 15).all()


def test_no_class_is_lost_where_one_is_rare() -> None:
    labels = np.array([0] * 50 + [1] * 2 + [2])
    val, rest = held_out(labels, 3, 0.5)
    assert set(labels[rest]) == {0, 1, 2} and len(val) == 26
    assert sorted([*val, *rest]) == list(range(53))
    assert set(labels[subset(labels, 3, np.arange(53), 3)]) == {0, 1, 2}
    assert np.array_equal(held_out(labels, 3, 0.0)[1], np.arange(53))


@pytest.mark.parametrize("count", [9, 1198])
def test_a_subset_that_does_not_fit_is_refused(home: Home, count: int) -> None:
    with pytest.raises(SpecError, match="train_images: given .*allowed: 10 .* to 1197"):
        data.load(home, "digits", image_size=8, train_images=count)


# ---- odd images ---------------------------------------------------------------------------------------------------------------


def test_the_centre_is_kept_of_images_of_any_shape(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = 200
    assert (decode(png(wide), 20) == 200).all()
    assert (decode(png(wide.transpose(1, 0, 2).copy()), 20) == 200).all()
    noise = Image.fromarray(np.random.RandomState(1).randint(0, 256, (60, 20, 3)).astype(np.uint8))
    expected = np.asarray(functional.center_crop(functional.resize(noise, 10), 10)).transpose(2, 0, 1)
    assert np.array_equal(decode(png(np.asarray(noise)), 10), expected)
    same = np.random.RandomState(0).randint(0, 256, (16, 16, 3)).astype(np.uint8)
    assert np.array_equal(decode(png(same), 16), same.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "I;16", "CMYK", "RGB"])
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (8, 8), (255, 255, 255))
    image = Image.fromarray(np.full((8, 8), 65535, dtype=np.uint16)) if mode == "I;16" else white.convert(mode)
    path = tmp_path / ("x.tiff" if mode == "CMYK" else "x.png")
    image.save(path)
    x = decode(path, 8)
    assert x.shape == (3, 8, 8) and x.dtype == np.uint8 and (x >= 254).all()


def test_grey_keeps_its_value_and_transparency_shows_white() -> None:
    assert (decode(png(np.full((4, 4), 90, dtype=np.uint8)), 4) == 90).all()
    clear = np.zeros((4, 4, 4), dtype=np.uint8)
    clear[:2, :, 3] = 255
    x = decode(png(clear), 4)
    assert (x[:, :2] == 0).all() and (x[:, 2:] == 255).all()


def test_a_palette_with_a_transparent_colour_shows_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "x.png", transparency=1)
    assert (decode(tmp_path / "x.png", 4) == 255).all()


def test_a_turned_photo_is_set_upright(tmp_path: Path) -> None:
    array = np.zeros((8, 8, 3), dtype=np.uint8)
    array[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(array).save(tmp_path / "x.png", exif=exif)
    x = decode(tmp_path / "x.png", 8)
    assert (x[:, :4] == 0).all() and (x[:, 4:] == 255).all()


# ---- your own -----------------------------------------------------------------------------------------------------------------


def test_image_folders_of_mixed_sizes(home: Home, tmp_path: Path) -> None:
    root = folders(tmp_path / "own")
    save(root / "train" / "b" / "wide.jpg", Image.new("RGB", (300, 40), (100, 0, 50)))
    save(root / "train" / "b" / "deep" / "grey.png", Image.new("L", (5, 31), 7))
    datasets.add(home, "own", imagefolder=root)
    seen: list[tuple[int, int]] = []
    loaded = data.load(home, "own", image_size=12, progress=lambda done, total: seen.append((done, total)))
    assert loaded.train.x.shape == (6, 3, 12, 12) and loaded.train.y.tolist() == [0, 0, 1, 1, 1, 1]
    assert loaded.train.x[0, :, 0, 0].tolist() == [0, 0, 50] and loaded.train.x[3, :, 5, 5].tolist() == [100, 1, 50]
    assert loaded.train.x[4].unique().tolist() == [7]
    assert seen == [(6, 6), (4, 4)] and loaded.flippable and loaded.class_names == ("a", "b")


def test_broken_images_are_named_without_the_path(home: Home, tmp_path: Path) -> None:
    root = folders(tmp_path / "own")
    datasets.add(home, "own", imagefolder=root)
    whole = (root / "train" / "a" / "0.png").read_bytes()
    (root / "train" / "a" / "x.png").write_bytes(b"not an image")
    (root / "train" / "b" / "y.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KdError) as error:
        data.load(home, "own", image_size=8)
    assert [p.field for p in error.value.problems] == ["train/a/x.png", "train/b/y.png"]
    assert str(tmp_path) not in str(error.value) and all(p.do for p in error.value.problems)
    assert not list((home.data / "cache").iterdir()), "nothing half done is left"


def test_classes_that_changed_after_registering_are_named(home: Home, tmp_path: Path) -> None:
    root = folders(tmp_path / "own")
    datasets.add(home, "own", imagefolder=root)
    (root / "test" / "b").rename(root / "test" / "c")
    with pytest.raises(KdError, match="only in train: b; only in test: c"):
        data.load(home, "own", image_size=8)


def test_a_folder_that_is_gone_is_explained(home: Home, tmp_path: Path) -> None:
    root = folders(tmp_path / "own")
    datasets.add(home, "own", imagefolder=root)
    root.rename(tmp_path / "moved")
    with pytest.raises(KdError, match="not where it was registered") as error:
        data.load(home, "own")
    assert str(tmp_path) not in str(error.value)
    with pytest.raises(UnknownKey):
        data.load(home, "nothing")


def write_parquet(root: Path, images: dict[str, list[bytes | None]], struct: bool = True) -> None:
    for split, items in images.items():
        rows = [{"bytes": item, "path": "x"} for item in items] if struct else items
        labels = pa.array([i % 2 for i in range(len(items))], pa.int8())
        pq.write_table(pa.table({"img": rows, "label": labels}), root / f"{split}.parquet", row_group_size=2)


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_images_come_in_order(home: Home, tmp_path: Path, struct: bool) -> None:
    pictures = [np.full((6, 6, 3), 10 * i, dtype=np.uint8) for i in range(5)]
    write_parquet(tmp_path, {"train": [png(p) for p in pictures], "test": [png(p) for p in pictures[:2]]}, struct)
    datasets.add(home, "own", parquet=tmp_path)
    loaded = data.load(home, "own", image_size=6)
    assert loaded.train.x[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40] and loaded.train.y.tolist() == [0, 1, 0, 1, 0]
    assert loaded.test.x.shape == (2, 3, 6, 6)


def test_broken_rows_are_named(home: Home, tmp_path: Path) -> None:
    good = png(np.zeros((4, 4), dtype=np.uint8))
    rows = [good] * 34  # the registration looks at the headers of the first 32 only
    write_parquet(tmp_path, {"train": [*rows, b"junk", None], "test": rows})
    datasets.add(home, "own", parquet=tmp_path)
    with pytest.raises(KdError) as error:
        data.load(home, "own", image_size=4)
    assert [p.field for p in error.value.problems] == ["train.parquet, row 34", "train.parquet, row 35"]


# ---- the cache ----------------------------------------------------------------------------------------------------------------


def test_the_second_load_decodes_nothing_and_a_change_is_seen(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folders(tmp_path / "own")
    datasets.add(home, "own", imagefolder=root)
    first = data.load(home, "own", image_size=8)
    monkeypatch.setattr("kdengine.data.pixels.decode", lambda *_: pytest.fail("decoded again"))
    second = data.load(home, "own", image_size=8)
    assert torch.equal(first.train.x, second.train.x) and first.mean == second.mean
    monkeypatch.undo()
    save(root / "train" / "a" / "0.png", Image.new("RGB", (9, 9), (1, 2, 3)))
    os.utime(root / "train" / "a" / "0.png", ns=(1, 1))
    third = data.load(home, "own", image_size=8)
    assert third.train.x[0, :, 0, 0].tolist() == [1, 2, 3]
    data.load(home, "own", image_size=9)
    sizes = sorted(p.name.rpartition("-")[0] for p in (home.data / "cache").iterdir())
    assert sizes == ["own-8", "own-9"], "one entry per size, the outdated one is gone"


def test_a_damaged_cache_is_made_again(home: Home) -> None:
    first = data.load(home, "digits", image_size=8)
    (entry,) = (home.data / "cache").iterdir()
    (entry / "train-x.npy").write_bytes((entry / "train-x.npy").read_bytes()[:1000])
    assert torch.equal(data.load(home, "digits", image_size=8).train.x, first.train.x)
    (entry / "statistics.json").write_text("[")
    assert data.load(home, "digits", image_size=8).mean == first.mean


def test_a_large_set_is_mapped_not_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data.load(home, "digits", image_size=8)
    monkeypatch.setattr(cache, "MAP_FROM", 1)
    assert torch.equal(data.load(home, "digits", image_size=8).train.x, first.train.x)
