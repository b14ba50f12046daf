"""Downloads: torchvision's own readers fed from a server on loopback with small files of the real formats."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle  # noqa: TID251 -- CIFAR's files are pickles; these are made here and checked by checksum before torchvision reads them
import struct
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets as tv

from kdengine import data, datasets
from kdengine.data import cifar
from kdengine.errors import KdError
from kdengine.home import Home

PER_BATCH = 20


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and counts what was asked for."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    root = tmp_path / "site"
    root.mkdir()
    Quiet.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield root, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def cifar_site(root: Path, url: str, key: str) -> type:
    """Put a small archive in CIFAR's format into ``root``; return a reader like torchvision's that expects it."""
    kind = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}[key]
    labels = "labels" if key == "cifar10" else "fine_labels"
    names = datasets.BUILTIN[key].class_names
    random, held, sums = np.random.RandomState(0), io.BytesIO(), {}
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        for name in [n for n, _ in kind.train_list + kind.test_list] + [kind.meta["filename"]]:
            pixels = random.randint(0, 256, (len(names) * 2, 3072)).astype(np.uint8)
            content: dict[str, object] = {"data": pixels, labels: [i % len(names) for i in range(len(pixels))]}
            if name == kind.meta["filename"]:
                content = {kind.meta["key"]: list(names)}
            blob = pickle.dumps(content)
            sums[name] = md5(blob)
            member = tarfile.TarInfo(f"{kind.base_folder}/{name}")
            member.size = len(blob)
            tar.addfile(member, io.BytesIO(blob))
    (root / kind.filename).write_bytes(held.getvalue())
    listed = {part: [[n, sums[n]] for n, _ in getattr(kind, part)] for part in ("train_list", "test_list")}
    meta = kind.meta | {"md5": sums[kind.meta["filename"]]}
    return type(kind.__name__, (kind,), listed | {"url": url + kind.filename, "tgz_md5": md5(held.getvalue()), "meta": meta})


def fashion_site(root: Path, url: str) -> type:
    """Put small idx files into ``root``; return a reader like torchvision's that expects them."""
    random, resources = np.random.RandomState(0), []
    for name, _ in tv.FashionMNIST.resources:
        images = "images" in name
        shape = (PER_BATCH, 28, 28) if images else (PER_BATCH,)
        values = random.randint(0, 256, shape) if images else np.arange(PER_BATCH) % 10
        head = struct.pack(">HBB", 0, 8, len(shape)) + struct.pack(f">{len(shape)}I", *shape)
        blob = gzip.compress(head + values.astype(np.uint8).tobytes())
        (root / name).write_bytes(blob)
        resources.append((name, md5(blob)))
    return type("FashionMNIST", (tv.FashionMNIST,), {"mirrors": [url + "gone/", url], "resources": resources})


@pytest.fixture
def served(site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Readers whose addresses and checksums are those of small files on loopback."""
    root, url = site
    kinds = {key: cifar_site(root, url, key) for key in ("cifar10", "cifar100")} | {"fashion_mnist": fashion_site(root, url)}
    monkeypatch.setattr(cifar, "reader", kinds.__getitem__)
    return kinds


@pytest.mark.parametrize("key", ["cifar10", "cifar100"])
def test_cifar_is_fetched_checked_and_read(home: Home, served: dict[str, type], key: str) -> None:
    seen: list[tuple[int, int]] = []
    data.fetch(home, key, lambda done, total: seen.append((done, total)))
    assert seen and seen[-1][0] == seen[-1][1] > 0
    assert datasets.is_here(home, key)
    left = {p.name for p in (home.data / key).iterdir()}
    assert left == {served[key].base_folder}, "the archive is not kept"
    loaded = data.load(home, key)
    classes = datasets.BUILTIN[key].classes
    assert loaded.train.x.shape == ((5 if key == "cifar10" else 1) * classes * 2, 3, 32, 32) and loaded.classes == classes
    first = pickle.loads((home.data / key / served[key].base_folder / served[key].train_list[0][0]).read_bytes())
    assert torch.equal(loaded.train.x[0], torch.from_numpy(first["data"][0].reshape(3, 32, 32)))
    assert loaded.train.y[:3].tolist() == [0, 1, 2] and loaded.mean == cifar.STATISTICS[key][0]


def test_fashion_mnist_is_fetched_from_the_second_mirror_and_resized(home: Home, served: dict[str, type]) -> None:
    loaded = data.load(home, "fashion_mnist", image_size=28)
    assert loaded.train.x.shape == (PER_BATCH, 3, 28, 28)
    raw = gzip.decompress((home.root.parent / "site" / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    expected = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, 1, 28, 28).expand(-1, 3, -1, -1)
    assert torch.equal(loaded.train.x, expected) and loaded.class_names[9] == "Ankle boot"
    assert data.load(home, "fashion_mnist", image_size=32).test.x.shape == (PER_BATCH, 3, 32, 32)
    assert not list(home.data.rglob("*.gz"))


def test_a_wrong_checksum_leaves_nothing(home: Home, served: dict[str, type], site: tuple[Path, str]) -> None:
    archive = site[0] / served["cifar10"].filename
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(KdError) as error:
        data.fetch(home, "cifar10")
    (problem,) = error.value.problems
    assert served["cifar10"].tgz_md5 in problem.allowed and "MD5" in problem.given and "try again" in problem.do
    assert [p.name for p in home.data.iterdir()] == [] and not datasets.is_here(home, "cifar10")


@pytest.mark.parametrize("key", ["cifar10", "fashion_mnist"])
def test_a_missing_file_says_what_to_do(home: Home, served: dict[str, type], site: tuple[Path, str], key: str) -> None:
    for file in site[0].iterdir():
        file.unlink()
    with pytest.raises(KdError) as error:
        data.load(home, key)
    for problem in error.value.problems:
        assert "404" in problem.given and "connection" in problem.allowed and "try again" in problem.do
    assert not datasets.is_here(home, key) and not list(home.data.iterdir())


def test_a_connection_that_ends_early_is_said(home: Home, served: dict[str, type], monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(self: Quiet, source: object, outputfile: io.BufferedIOBase) -> None:
        outputfile.write(b"only this")

    monkeypatch.setattr(Quiet, "copyfile", cut)
    with pytest.raises(KdError, match="ended after 9 of"):
        data.fetch(home, "cifar10")


def test_nobody_listens(home: Home, served: dict[str, type], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served["cifar10"], "url", "http://127.0.0.1:1/cifar-10-python.tar.gz")
    with pytest.raises(KdError, match="check the network"):
        data.fetch(home, "cifar10")


def test_two_at_once_download_once(home: Home, served: dict[str, type]) -> None:
    failures: list[BaseException] = []

    def get() -> None:
        try:
            data.fetch(home, "cifar100")
        except BaseException as error:  # shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=get) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(Quiet.asked) == 1
    assert len(data.load(home, "cifar100").train) == 200


def test_what_a_killed_download_left_is_cleared(home: Home, served: dict[str, type]) -> None:
    left = home.data / ".new-cifar100"
    left.mkdir()
    (left / "cifar-100-python.tar.gz.part").write_bytes(b"half")
    data.fetch(home, "cifar100")
    assert not left.exists() and datasets.is_here(home, "cifar100")


def test_files_damaged_after_the_download_are_refused(home: Home, served: dict[str, type]) -> None:
    data.fetch(home, "cifar10")
    (home.data / "cifar10" / served["cifar10"].base_folder / "data_batch_2").write_bytes(b"x")
    with pytest.raises(KdError, match="delete data/cifar10"):
        data.load(home, "cifar10")


def test_the_real_addresses_and_checksums_are_torchvisions() -> None:
    for key, kind in (("cifar10", tv.CIFAR10), ("cifar100", tv.CIFAR100), ("fashion_mnist", tv.FashionMNIST)):
        assert cifar.reader(key) is kind
    assert tuple(tv.FashionMNIST.classes) == datasets.BUILTIN["fashion_mnist"].class_names


@pytest.mark.parametrize("inner", [False, True], ids=["parent", "itself"])
def test_what_lies_unpacked_elsewhere_is_copied_not_downloaded(
    home: Home, served: dict[str, type], tmp_path: Path, inner: bool
) -> None:
    mine, folder = tmp_path / "mine", served["cifar10"].base_folder
    assert not data.adopt(home, "cifar10", mine) and not data.adopt(home, "cifar10", tmp_path)
    with tarfile.open(tmp_path / "site" / served["cifar10"].filename) as archive:
        archive.extractall(mine, filter="data")
    assert data.adopt(home, "cifar10", mine / folder if inner else mine) and datasets.is_here(home, "cifar10")
    assert len(data.load(home, "cifar10").train) == 100 and Quiet.asked == [] and (mine / folder).is_dir()
    (mine / folder / "data_batch_1").write_bytes(b"x")
    assert data.adopt(home, "cifar10", mine), "it is here already"


def test_what_lies_elsewhere_and_is_broken_is_refused(home: Home, served: dict[str, type], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "site" / served["cifar100"].filename) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / served["cifar100"].base_folder / "train").write_bytes(b"x")
    with pytest.raises(KdError, match="leave the folder out"):
        data.adopt(home, "cifar100", tmp_path)
    assert list(home.data.iterdir()) == []
