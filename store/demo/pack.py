"""From a home to the archive that the repository ships: ``python -m store.demo.pack HOME``, once per release of the demo.

Of each finished run: request, events, log, versions, and of some the predictions; also the saved views. What names the machine
or its people is left out or cut (host, process, paths of files), and the archive is refused where something of it is left.
Reads: the home, scikit-learn's scans. Writes: ``home.tar.xz``. Never: weights, images of datasets without a licence; the home.
"""

from __future__ import annotations

import argparse
import getpass
import io
import json
import lzma
import platform
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from kdengine import datasets, latency, views
from kdengine.errors import KdError, Problem
from kdengine.home import Home
from kdengine.rundir import RunDir, run_dirs
from kdengine.status import RunStatus, status_of
from store.demo.unpack import ARCHIVE, SCANS

# suite -> of how many seeds the predictions are packed, at most IMAGES of them: they are what makes the archive large
PREDICTIONS = {"all-methods": 2, "demo": 2}
IMAGES = 1000  # test images of those that are packed
# a dictionary larger than all of it, yet little memory to unpack; lp: most bytes are those of numbers of two bytes
PACKING = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 8 << 20, "lp": 1}
AWAY = "not-shipped"  # stands for the folder of a dataset that somebody registered
KEPT = ("versions", "threads", "python")  # of environment.json
FILES = ("student_init", "teacher_weights")
MACHINE = re.compile(rb"(?<![\w.:/<])/(?:home|Users|root|tmp|work|mnt|srv|opt|var|usr|content|data)/[\w.]")

Member = tuple[str, bytes]


def pack(home: Home, archive: Path = ARCHIVE, predictions: Mapping[str, int] = PREDICTIONS) -> dict[str, int]:
    """Write the finished runs of ``home`` to ``archive`` and return how many members of each kind it has.

    ``predictions``: suite -> of how many seeds, from 0, the predictions are packed too.

    Raises:
        KdError: a member names a path, the host or the user of this machine; all such members are listed.
    """
    runs = [run for run in run_dirs(home) if status_of(run, home) is RunStatus.FINISHED]
    members = [*_of_home(home), *_of_runs(runs, predictions)]
    _refuse_traces(members)
    aside = archive.with_name(f".{archive.name}")
    with lzma.open(aside, "wb", filters=[PACKING]) as file, tarfile.open(fileobj=file, mode="w") as packed:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    aside.replace(archive)  # whole, or the former one stands
    kinds = [PurePath(name).name for name, _ in members]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def traces(data: bytes) -> list[str]:
    """Return what in ``data`` names a machine or its people: paths, and host and user of the machine that this runs on."""
    names = (re.escape(name.encode()) for name in {platform.node(), getpass.getuser()} if len(name) > 2)
    own = re.compile(rb"\b(?:" + (b"|".join(names) or rb"(?!)") + rb")\b")
    return sorted({found[0].decode(errors="replace") for pattern in (MACHINE, own) for found in pattern.finditer(data)})


def _of_home(home: Home) -> Iterator[Member]:
    known = {key: card for key, card in datasets.cards(home).items() if key not in datasets.BUILTIN}
    register = {key: {"path": AWAY, "card": _plain(card)} for key, card in known.items()}
    yield "data/datasets.json", json.dumps(register, indent=1).encode()
    kept = [view.model_copy(update={"owner": None}).model_dump() for view in views.load(home)]
    yield "views.json", json.dumps({"views": kept}, ensure_ascii=False, indent=1).encode()
    yield SCANS, _scans()
    if latency.read(home) is not None:
        yield "latency.json", latency.path_of(home).read_bytes()


def _of_runs(runs: list[RunDir], predictions: Mapping[str, int]) -> Iterator[Member]:
    """Yield the runs' files, kind by kind: what is alike stands together and packs well."""
    for run in runs:
        yield f"runs/{run.run_id}/spec.json", _request(run)
    for run in runs:
        yield f"runs/{run.run_id}/environment.json", _environment(run)
    for name in ("labels.json", "worker.log", "events.jsonl"):
        for run in runs:
            if (run.path / name).is_file():
                yield f"runs/{run.run_id}/{name}", (run.path / name).read_bytes()
    for run in runs:
        spec = run.read_request().spec
        if spec.seed < predictions.get(spec.suite or "", 0) and (found := _predictions(run)) is not None:
            yield f"runs/{run.run_id}/{run.predictions_npz.name}", found


def _request(run: RunDir) -> bytes:
    values = json.loads(run.spec_json.read_bytes())
    spec = values["spec"]
    spec |= {name: PurePath(spec[name]).name for name in FILES if spec.get(name)}
    spec["peer_inits"] = [PurePath(file).name for file in spec.get("peer_inits", [])]
    return json.dumps(values, indent=1).encode()


def _environment(run: RunDir) -> bytes:
    values = json.loads(run.environment_json.read_bytes()) if run.environment_json.is_file() else {}
    return json.dumps({name: values[name] for name in KEPT if name in values}, indent=1).encode()


def _predictions(run: RunDir) -> bytes | None:
    """Return the predictions, not compressed: the archive does that, across the runs; None where there are none, or too many."""
    if not run.predictions_npz.is_file():
        return None
    with np.load(run.predictions_npz, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    if len(arrays["labels"]) > IMAGES:
        return None
    held = io.BytesIO()
    np.savez(held, **arrays)
    return held.getvalue()


def _scans() -> bytes:
    """Return the embedded dataset in the split that ``kdengine.data.digits`` makes."""
    from sklearn.datasets import load_digits

    scans, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(labels))
    test = datasets.BUILTIN["digits"].test_images
    held, arrays = io.BytesIO(), {}
    for split, places in (("train", order[:-test]), ("test", order[-test:])):
        arrays[f"{split}_x"] = scans[places].reshape(-1, 8, 8).astype(np.uint8)
        arrays[f"{split}_y"] = labels[places].astype(np.uint8)
    np.savez(held, **arrays)
    return held.getvalue()


def _plain(card: datasets.DatasetCard) -> dict[str, Any]:
    return {name: getattr(card, name) for name in card.__dataclass_fields__}


def _refuse_traces(members: Iterable[Member]) -> None:
    found = [
        Problem(name, ", ".join(known), "nothing that names a machine or its people", "take the run out, or mend its file")
        for name, data in members
        if not name.endswith(".npz") and (known := traces(data))
    ]
    if found:
        raise KdError(*found)


def main() -> int:
    """Pack the home that is named."""
    parser = argparse.ArgumentParser(prog="python -m store.demo.pack", description="Pack finished runs for the demo.")
    parser.add_argument("home", type=Path, help="a KD_HOME with nothing but the runs that the demo shall show")
    parser.add_argument("--to", type=Path, default=ARCHIVE, help="the archive; default: the one that the repository ships")
    given = parser.parse_args()
    try:
        found = pack(Home(given.home.absolute()), given.to)
    except KdError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{given.to}: {given.to.stat().st_size / 2**10:.0f} KiB, {found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
