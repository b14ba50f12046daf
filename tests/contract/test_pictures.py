"""Pixels for looking at: the cache that the engine writes, read without torch."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kdengine import pictures
from kdengine.errors import KdError
from kdengine.home import Home


@pytest.fixture
def cached(home: Home) -> tuple[np.ndarray, np.ndarray]:
    """Training pixels and labels of a small dataset ``toy-32`` as the cache keeps them; the test split is its first half."""
    x = np.random.RandomState(0).randint(0, 256, (12, 3, 8, 8)).astype(np.uint8)
    y = np.array([2, 0, 1, 2, 0, 0, 0, 1, 0, 2, 2, 0])
    folder = home.data / "cache" / "toy-32-8-0123456789abcdef"
    folder.mkdir(parents=True)
    for split, part in (("train", slice(None)), ("test", slice(6))):
        np.save(folder / f"{split}-x.npy", x[part])
        np.save(folder / f"{split}-y.npy", y[part])
    (folder / "statistics.json").write_text("[[0, 0, 0], [1, 1, 1]]")
    return x, y


def test_test_images_come_in_the_order_asked_for(home: Home, cached: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cached
    found = pictures.test_images(home, "toy-32", [4, 0, 4], size=8)
    assert found is not None and found.dtype == np.uint8
    assert np.array_equal(found, x[[4, 0, 4]].transpose(0, 2, 3, 1))
    found[:] = 0  # a copy: nobody can write into the cache
    again = pictures.test_images(home, "toy-32", np.array([4]), size=8)
    assert again is not None and again.any()
    labels = pictures.test_labels(home, "toy-32", size=8)
    assert labels is not None and labels.tolist() == y[:6].tolist()


def test_samples_are_the_first_of_each_class(home: Home, cached: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = cached
    found = pictures.train_samples(home, "toy-32", per_class=3, size=8)
    assert found is not None and list(found) == [0, 1, 2]
    for label, images in found.items():
        own = np.flatnonzero(y == label)[:3]
        assert np.array_equal(images, x[own].transpose(0, 2, 3, 1))
    assert len(found[1]) == 2, "a class with fewer images shows what it has"


def test_what_is_not_decoded_is_none(home: Home) -> None:
    assert pictures.test_images(home, "cifar10", [0]) is None
    assert pictures.train_samples(home, "cifar10", 3) is None
    assert pictures.decoded(home, "../cifar10") is None


def test_another_dataset_size_or_half_written_folder_is_not_taken(home: Home, cached: tuple[np.ndarray, np.ndarray]) -> None:
    assert pictures.test_images(home, "toy", [0], size=32) is None, "toy-32 at 8 is not toy at 32"
    assert pictures.test_images(home, "toy-32", [0], size=16) is None
    folder = pictures.decoded(home, "toy-32", 8)
    assert folder is not None
    folder.rename(folder.with_name(f".new-{folder.name}"))
    assert pictures.test_images(home, "toy-32", [0], size=8) is None


def test_damaged_files_are_none(home: Home, cached: tuple[np.ndarray, np.ndarray]) -> None:
    folder = pictures.decoded(home, "toy-32", 8)
    assert folder is not None
    (folder / "test-x.npy").write_bytes(b"\x93NUMPY")
    assert pictures.test_images(home, "toy-32", [0], size=8) is None
    np.save(folder / "test-x.npy", np.zeros((3, 3, 8, 8), np.uint8))
    assert pictures.test_images(home, "toy-32", [0], size=8) is None, "fewer images than labels"


@pytest.mark.parametrize("place", [-1, 6])
def test_a_place_outside_the_split_is_said(home: Home, cached: tuple[np.ndarray, np.ndarray], place: int) -> None:
    with pytest.raises(KdError, match="0 to 5"):
        pictures.test_images(home, "toy-32", [0, place], size=8)


def test_png_keeps_every_pixel(cached: tuple[np.ndarray, np.ndarray]) -> None:
    image = np.ascontiguousarray(cached[0][0].transpose(1, 2, 0))
    shown = np.asarray(Image.open(io.BytesIO(pictures.as_png(image, scale=3))))
    assert shown.shape == (24, 24, 3)
    assert np.array_equal(shown, image.repeat(3, axis=0).repeat(3, axis=1))


def test_mosaic_lays_images_in_rows(cached: tuple[np.ndarray, np.ndarray]) -> None:
    images = cached[0][:5].transpose(0, 2, 3, 1)
    sheet = pictures.mosaic(images, columns=3, gap=2)
    assert sheet.shape == (8 * 2 + 2, 8 * 3 + 2 * 2, 4)
    assert np.array_equal(sheet[10:18, 10:18, :3], images[4])
    assert sheet[:, 8:10, 3].max() == 0 and sheet[10:, 20:, 3].max() == 0, "gaps and the empty place are transparent"
    assert sheet[:8, :8, 3].min() == 255


@pytest.mark.slow
def test_the_engine_writes_what_is_read_here(home: Home) -> None:
    """The real cache, written in another process: this one must stay without torch."""
    script = (
        "from kdengine import data; from kdengine.home import Home; import numpy as np\n"
        "d = data.load(Home.find(), 'digits', image_size=16)\n"
        "np.save('first.npy', d.test.x[:3].numpy()); np.save('labels.npy', d.test.y.numpy())"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=home.root, timeout=60)
    found = pictures.test_images(home, "digits", range(3), size=16)
    assert found is not None and np.array_equal(found.transpose(0, 3, 1, 2), np.load(home.root / "first.npy"))
    labels = pictures.test_labels(home, "digits", size=16)
    assert labels is not None and np.array_equal(labels, np.load(home.root / "labels.npy"))
    samples = pictures.train_samples(home, "digits", 2, size=16)
    assert samples is not None and list(samples) == list(range(10)) and all(v.shape == (2, 16, 16, 3) for v in samples.values())
