"""Datasets that a page brings here: a real download from loopback in a process of its own, watched, stopped, tried again."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from kdengine import datasets, errands, fetching, pictures
from kdengine.errors import UnknownKey
from kdengine.home import Home
from tests.engine.test_data_download import Quiet, cifar_site, md5

Kinds = dict[str, dict[str, object]]


class Slow(Quiet):
    """Serves a little more than half of the file in small pieces, then waits until it is allowed to go on."""

    go = threading.Event()

    def copyfile(self, source: io.BufferedIOBase, outputfile: io.BufferedIOBase) -> None:
        blob = source.read()
        piece = len(blob) // 10 + 1
        for place in range(10):
            if place < 6:
                time.sleep(0 if self.go.is_set() else 0.1)
            else:
                self.go.wait(timeout=30)
            outputfile.write(blob[place * piece : (place + 1) * piece])
            outputfile.flush()


@pytest.fixture
def site(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kinds]:
    """CIFAR archives of about 2 MB on loopback, known to the commands that are started; readers' fields by key."""
    root = tmp_path / "site"
    root.mkdir()
    Slow.go.set()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url, kinds = f"http://127.0.0.1:{server.server_port}/", {}
        for key in ("cifar10", "cifar100"):
            kind = cifar_site(root, url, key)
            _pad(root / kind.filename)
            fields = ("url", "train_list", "test_list", "meta")
            kinds[key] = {n: getattr(kind, n) for n in fields} | {"tgz_md5": md5((root / kind.filename).read_bytes())}
        monkeypatch.setenv("KD_TEST_SITE", json.dumps(kinds))
        monkeypatch.setenv(errands.MODULE, "fetch_from_loopback")
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield kinds
        Slow.go.set()
        for key in kinds:
            errands.cancel(home, fetching.errand(key), grace_s=1)
        for process in errands._started:
            process.wait(timeout=5)
        errands._reap()
        server.shutdown()
        thread.join()


def _pad(archive: Path) -> None:
    """Add a file that nobody asks for, so that the download has pieces."""
    held = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=held, mode="w:gz", compresslevel=1) as new:
        for member in old.getmembers():
            new.addfile(member, old.extractfile(member))
        filler = tarfile.TarInfo("filler")
        filler.size = 2 << 20
        new.addfile(filler, io.BytesIO(os.urandom(filler.size)))
    archive.write_bytes(held.getvalue())


def test_a_dataset_that_is_here_or_not(home: Home) -> None:
    assert fetching.view(home, "digits") == fetching.View("here")
    assert fetching.view(home, "cifar10") == fetching.View("absent")
    with pytest.raises(UnknownKey, match="cifar10"):
        fetching.view(home, "cifar")
    with pytest.raises(UnknownKey):
        fetching.start(home, "../cifar10")


@pytest.mark.slow
def test_it_is_fetched_decoded_and_shown(home: Home, site: Kinds, until: Callable[..., None]) -> None:
    Slow.go.clear()
    assert fetching.start(home, "cifar10") and not fetching.start(home, "cifar10")
    assert fetching.view(home, "cifar10").state == "fetching"
    until(lambda: fetching.view(home, "cifar10").done > 500_000, 40)
    half = fetching.view(home, "cifar10")
    assert half.step == fetching.DOWNLOAD and half.total >= half.done and not half.decoded
    Slow.go.set()
    until(lambda: fetching.view(home, "cifar10").state != "fetching", 40)
    assert fetching.view(home, "cifar10") == fetching.View("here", decoded=True)
    assert datasets.disk_bytes(home, "cifar10") > 2 << 20
    shown = pictures.train_samples(home, "cifar10", 4)
    assert shown is not None and len(shown) == 10 and shown[0].shape == (4, 32, 32, 3)
    assert len(Quiet.asked) >= 1 and not list(home.data.glob(".new-*"))


@pytest.mark.slow
def test_a_wrong_checksum_is_said_and_tried_again(
    home: Home, site: Kinds, until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = json.dumps(site)
    monkeypatch.setenv("KD_TEST_SITE", json.dumps(site | {"cifar100": site["cifar100"] | {"tgz_md5": "0" * 32}}))
    fetching.start(home, "cifar100")
    until(lambda: fetching.view(home, "cifar100").state != "fetching", 40)
    failed = fetching.view(home, "cifar100")
    assert failed.state == "failed" and "MD5" in failed.problems[0].given and "try again" in failed.problems[0].do
    monkeypatch.setenv("KD_TEST_SITE", right)
    assert fetching.start(home, "cifar100")
    until(lambda: fetching.view(home, "cifar100").state != "fetching", 40)
    assert fetching.view(home, "cifar100") == fetching.View("here", decoded=True)


@pytest.mark.slow
def test_stopping_leaves_nothing_behind(home: Home, site: Kinds, until: Callable[..., None]) -> None:
    Slow.go.clear()
    fetching.start(home, "cifar10")
    until(lambda: list(home.data.glob(".new-cifar10/*.part")), 40)
    start = time.monotonic()
    fetching.cancel(home, "cifar10")
    assert time.monotonic() - start < 5, "it did not wait for the network"
    assert fetching.view(home, "cifar10") == fetching.View("absent")
    assert not list(home.data.glob(".new-*")) and not (home.data / "cifar10").exists()


def test_the_files_of_one_download_are_one_number() -> None:
    seen: list[tuple[float, float]] = []
    each = fetching.whole(lambda done, total: seen.append((done, total)), 100)
    for done, total in ((30, 30), (20, 40), (5, 40), (40, 40), (50, 50)):  # the second file begins anew at another mirror
        each(done, total)
    assert seen == [(30, 100), (50, 100), (35, 100), (70, 100), (120, 120)]


def test_superclasses_are_the_published_ones() -> None:
    """Against the coarse label of each class as other projects print it: superclasses in alphabetical order, 0 to 19."""
    coarse = [
        4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12,
        14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1,
        9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
    ]  # fmt: skip
    groups = datasets.superclasses("cifar100")
    names, ours = datasets.BUILTIN["cifar100"].class_names, {name: i for i, own in enumerate(groups.values()) for name in own}
    assert [ours[name] for name in names] == coarse
    assert len(groups) == 20 and all(len(own) == 5 for own in groups.values())
    assert datasets.superclasses("cifar10") == {}


def test_every_built_in_dataset_names_its_licence() -> None:
    assert all(datasets.licence(key) != datasets.licence("mine") for key in datasets.BUILTIN)
