"""The register of datasets: built-in cards, adding your own, every fault said in three parts. Never: the network."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kdengine import datasets
from kdengine.errors import KdError, UnknownKey
from kdengine.home import Home


def picture(value: int = 100, size: tuple[int, int] = (12, 10)) -> Image.Image:
    return Image.new("RGB", size, (value, 255 - value, 7))


def encoded(value: int = 100) -> bytes:
    held = io.BytesIO()
    picture(value).save(held, "PNG")
    return held.getvalue()


def folder(root: Path, train: dict[str, int], test: dict[str, int]) -> Path:
    for split, classes in (("train", train), ("test", test)):
        for name, count in classes.items():
            place = root / split / name
            place.mkdir(parents=True)
            for i in range(count):
                picture(i).save(place / f"{i}.png")
    return root


def parquet_file(path: Path, labels: list, image: str = "img", label: str = "label", **more: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": encoded(i % 256), "path": f"{i}.png"} for i in range(len(labels))]
    pq.write_table(pa.table({image: rows, label: labels} | more), path)


def fault(error: pytest.ExceptionInfo[KdError]) -> str:
    assert error.value.problems
    for problem in error.value.problems:
        assert problem.given and problem.allowed and problem.do
    return str(error.value)


def test_built_in_cards_are_complete(home: Home) -> None:
    assert list(datasets.cards(home)) == ["digits", "cifar10", "cifar100", "fashion_mnist"]
    for key, card in datasets.cards(home).items():
        assert card.key == key and card.channels == 3
        assert len(set(card.class_names)) == card.classes
    assert not datasets.get(home, "digits").flippable and datasets.get(home, "cifar10").flippable


def test_only_the_digits_are_here_at_first(home: Home) -> None:
    assert {key: datasets.is_here(home, key) for key in datasets.cards(home)} == {
        "digits": True, "cifar10": False, "cifar100": False, "fashion_mnist": False,
    }  # fmt: skip
    assert datasets.path_of(home, "cifar10") == home.data / "cifar10"


def test_an_unknown_dataset_suggests_the_nearest(home: Home) -> None:
    with pytest.raises(UnknownKey, match="did you mean 'cifar10'"):
        datasets.get(home, "cifar1O")


def test_image_folders_are_described_and_their_path_stays_in_the_register(home: Home, tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"dog": 3, "cat": 2}, {"cat": 1, "dog": 1})
    card = datasets.add(home, "pets", imagefolder=root)
    assert (card.class_names, card.train_images, card.test_images, card.native_size) == (("cat", "dog"), 5, 2, 10)
    assert datasets.get(home, "pets") == card and datasets.is_here(home, "pets")
    assert datasets.path_of(home, "pets") == root
    assert str(tmp_path) not in repr(card)
    assert json.loads((home.data / "datasets.json").read_text())["pets"]["path"] == str(root)
    (root / "train").parent.rename(tmp_path / "elsewhere")
    assert not datasets.is_here(home, "pets")


def test_val_serves_as_test_and_hidden_files_do_not_count(home: Home, tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"a": 2, "b": 2}, {"a": 1, "b": 1})
    (root / "test").rename(root / "val")
    (root / "train" / "a" / "._0.png").write_bytes(b"x")
    (root / "train" / "a" / "notes.txt").write_text("x")
    (root / "train" / ".cache").mkdir()
    assert datasets.add(home, "pets", imagefolder=root, flippable=False).train_images == 4
    assert not datasets.get(home, "pets").flippable


def test_differing_class_folders_are_named(home: Home, tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"cat": 1, "dog": 1, "emu": 1}, {"cat": 1, "dog": 1, "fox": 1})
    with pytest.raises(KdError) as error:
        datasets.add(home, "pets", imagefolder=root)
    assert "only in train: emu; only in test: fox" in fault(error)
    assert "pets" not in datasets.cards(home)


def test_every_fault_of_image_folders_is_said_at_once(home: Home, tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"cat": 1, "dog": 0}, {"cat": 1})
    (root / "train" / "cat" / "1.png").write_bytes(b"no image")
    with pytest.raises(KdError) as error:
        datasets.add(home, "bad name/", imagefolder=root)
    said = fault(error)
    for part in ("name: given 'bad name/'", "only in train: dog", "without a training image: dog", "train/cat/1.png"):
        assert part in said
    assert str(tmp_path) not in said


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 41, "a/b", "ä", "x.json", "cifar10"])
def test_a_bad_name_is_refused(home: Home, tmp_path: Path, name: str) -> None:
    root = folder(tmp_path / "pets", {"a": 1, "b": 1}, {"a": 1, "b": 1})
    with pytest.raises(KdError, match="name"):
        datasets.add(home, name, imagefolder=root)


def test_a_name_is_given_once_but_may_be_renewed(home: Home, tmp_path: Path) -> None:
    first = folder(tmp_path / "one", {"a": 1, "b": 1}, {"a": 1, "b": 1})
    second = folder(tmp_path / "two", {"a": 1, "b": 1}, {"a": 1, "b": 1})
    datasets.add(home, "x", imagefolder=first)
    picture(9).save(first / "train" / "a" / "new.png")
    assert datasets.add(home, "x", imagefolder=first).train_images == 3
    with pytest.raises(KdError, match="another dataset already"):
        datasets.add(home, "x", imagefolder=second)


@pytest.mark.parametrize(
    "given", [{}, {"imagefolder": "a", "parquet": "b"}, {"imagefolder": "/no/such/folder"}, {"parquet": "/no"}]
)
def test_exactly_one_existing_folder_is_wanted(home: Home, given: dict[str, str]) -> None:
    with pytest.raises(KdError) as error:
        datasets.add(home, "x", **given)
    fault(error)


def test_parquet_with_names_in_a_column(home: Home, tmp_path: Path) -> None:
    names = ["cat", "dog"]
    for split in ("train", "test"):
        parquet_file(
            tmp_path / f"{split}-00000-of-00001.parquet", [0, 1, 1], label="fine_label", fine_label_name=["cat", "dog", "dog"]
        )
    card = datasets.add(home, "own", parquet=tmp_path)
    assert (card.kind, card.class_names, card.train_images, card.native_size) == ("parquet", tuple(names), 3, 10)


def test_parquet_with_names_in_the_metadata_and_shards_in_data(home: Home, tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}}}
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation"):
        rows = [{"bytes": encoded(), "path": None}] * 2
        table = pa.table({"image": rows, "label": [0, 1]})
        (tmp_path / "data").mkdir(exist_ok=True)
        pq.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "data" / f"{name}.parquet"
        )
    card = datasets.add(home, "own", parquet=tmp_path)
    assert (card.class_names, card.train_images, card.test_images) == (("ant", "bee"), 4, 2)


def test_parquet_of_plain_bytes_without_names(home: Home, tmp_path: Path) -> None:
    for split in ("train", "test"):
        table = {"picture": [encoded(), encoded()], "kind": pa.array([0, 1], pa.uint8())}
        (tmp_path / split).mkdir()
        pq.write_table(pa.table(table), tmp_path / split / "0.parquet")
    assert datasets.add(home, "own", parquet=tmp_path).class_names == ("0", "1")


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ([0, 1, -1], [0, 1], "negative"),
        ([0, 1, None], [0, 1], "missing or negative"),
        ([0, 2, 3], [0, 2], "none is 1"),
        ([1, 2], [1, 2], "none is 0"),
        ([0, 1], [0, 1, 2], "labels 2, which train has not"),
        ([0, 0], [0, 0], "at least two classes"),
        ([], [0, 1], "no rows"),
    ],
)
def test_wrong_labels_are_refused(home: Home, tmp_path: Path, train: list, test: list, said: str) -> None:
    for split, labels in (("train", train), ("test", test)):
        rows = [{"bytes": encoded(), "path": ""} for _ in labels]
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        pq.write_table(
            pa.table({"img": pa.array(rows, kind), "label": pa.array(labels, pa.int64())}), tmp_path / f"{split}.parquet"
        )
    with pytest.raises(KdError) as error:
        datasets.add(home, "own", parquet=tmp_path)
    assert said in fault(error)


def test_another_class_order_in_test_is_refused(home: Home, tmp_path: Path) -> None:
    parquet_file(tmp_path / "train.parquet", [0, 1], **{"class": ["cat", "dog"]})
    parquet_file(tmp_path / "test.parquet", [0, 1], **{"class": ["dog", "cat"]})
    with pytest.raises(KdError) as error:
        datasets.add(home, "own", parquet=tmp_path)
    assert "another order: cat/dog, dog/cat" in fault(error)


def test_a_label_with_two_names_in_test_is_refused(home: Home, tmp_path: Path) -> None:
    parquet_file(tmp_path / "train.parquet", [0, 1], **{"class": ["cat", "dog"]})
    parquet_file(tmp_path / "test.parquet", [0, 1, 1], **{"class": ["cat", "dog", "fox"]})
    with pytest.raises(KdError, match="dog/fox"):
        datasets.add(home, "own", parquet=tmp_path)


def test_parquet_without_fitting_columns_or_splits(home: Home, tmp_path: Path) -> None:
    with pytest.raises(KdError) as error:
        datasets.add(home, "own", parquet=tmp_path)
    assert "no train parquet file" in fault(error) and "no test parquet file" in fault(error)
    for split in ("train", "test"):
        pq.write_table(pa.table({"words": ["a"], "label": [0.5]}), tmp_path / f"{split}.parquet")
    with pytest.raises(KdError) as error:
        datasets.add(home, "own", parquet=tmp_path)
    assert "image column" in fault(error) and "label column" in fault(error) and "words (string)" in fault(error)


def test_a_damaged_parquet_file_is_named(home: Home, tmp_path: Path) -> None:
    parquet_file(tmp_path / "train.parquet", [0, 1])
    (tmp_path / "test.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(KdError) as error:
        datasets.add(home, "own", parquet=tmp_path)
    assert "test.parquet" in fault(error) and str(tmp_path) not in fault(error)


def test_an_unreadable_register_says_what_to_do(home: Home) -> None:
    (home.data / "datasets.json").write_text("{")
    with pytest.raises(KdError) as error:
        datasets.cards(home)
    assert "datasets.json" in fault(error)


def test_two_at_once_lose_nothing(home: Home, tmp_path: Path) -> None:
    root = folder(tmp_path / "pets", {"a": 1, "b": 1}, {"a": 1, "b": 1})
    code = (
        "import sys; from pathlib import Path; from kdengine.home import Home; from kdengine import datasets\n"
        "for i in range(5): datasets.add(Home(Path(sys.argv[1])), f'{sys.argv[2]}{i}', imagefolder=sys.argv[3])"
    )
    start = [subprocess.Popen([sys.executable, "-c", code, str(home.root), name, str(root)]) for name in ("x", "y")]
    assert [process.wait(timeout=50) for process in start] == [0, 0]
    assert len(datasets.cards(home)) == len(datasets.BUILTIN) + 10


def test_the_register_is_light() -> None:
    code = "import sys, kdengine.datasets; print(sorted({'torch', 'pandas', 'pyarrow', 'PIL', 'numpy'} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, env=dict(os.environ), check=True
    )
    assert answer.stdout.strip() == "[]"


def test_numbers_of_images_match_the_arrays(home: Home) -> None:
    from kdengine import data

    loaded = data.load(home, "digits", image_size=8)
    card = datasets.get(home, "digits")
    assert (len(loaded.train), len(loaded.test)) == (card.train_images, card.test_images)
    assert np.array_equal(np.unique(loaded.train.y), np.arange(10))
