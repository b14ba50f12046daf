"""The register of datasets: what there is to learn from, built in or your own, and where it lies.

Reads: ``data/datasets.json``; names, labels and image headers of the folder that is being added.
Writes: ``data/datasets.json``, the only file that knows the paths of your own datasets. Never: torch, a pixel.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from kdengine.errors import KdError, Problem, UnknownKey, unknown
from kdengine.home import Home

Kind = Literal["digits", "cifar", "imagefolder", "parquet"]
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """One dataset, described without opening it.

    ``class_names`` in the order of the labels 0 to ``classes - 1``; ``native_size``: pixels of the shorter side (of a
    typical image where sizes differ); ``channels``: always 3, grey images are repeated; ``flippable``: a mirrored image
    still belongs to its class; ``kind``: how it is read; ``download_mib``: 0 = nothing to download. ``source`` never
    holds a path of this machine.
    """

    key: str
    title: str
    classes: int
    train_images: int
    test_images: int
    native_size: int
    channels: int
    flippable: bool
    source: str
    kind: Kind
    download_mib: float
    class_names: tuple[str, ...]


class _Entry(BaseModel):
    """What ``datasets.json`` says of one of your own datasets."""

    model_config = ConfigDict(frozen=True)
    path: str
    card: DatasetCard


_REGISTER: TypeAdapter[dict[str, _Entry]] = TypeAdapter(dict[str, _Entry])
_DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
    forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
    mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
    willow_tree wolf woman worm""".split()  # noqa: SIM905 -- a list of a hundred lines would hide the file
)
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")

BUILTIN: dict[str, DatasetCard] = {
    card.key: card
    for card in (
        DatasetCard("digits", "Handwritten digits", 10, 1197, 600, 8, 3, False,
                    "scikit-learn's copy of the UCI optical digits, 1,797 scans", "digits", 0.0, _DIGITS),
        DatasetCard("cifar10", "CIFAR-10", 10, 50_000, 10_000, 32, 3, True,
                    "Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html", "cifar", 162.6, _CIFAR10),
        DatasetCard("cifar100", "CIFAR-100", 100, 50_000, 10_000, 32, 3, True,
                    "Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html", "cifar", 161.2, _CIFAR100),
        DatasetCard("fashion_mnist", "Fashion-MNIST", 10, 60_000, 10_000, 28, 3, True,
                    "Xiao et al. 2017, https://github.com/zalandoresearch/fashion-mnist", "cifar", 29.4, _FASHION),
    )
}  # fmt: skip

# CIFAR-100's own grouping, as its page lists it: superclass -> its five classes
_CIFAR100_GROUPS = """
aquatic mammals: beaver dolphin otter seal whale
fish: aquarium_fish flatfish ray shark trout
flowers: orchid poppy rose sunflower tulip
food containers: bottle bowl can cup plate
fruit and vegetables: apple mushroom orange pear sweet_pepper
household electrical devices: clock keyboard lamp telephone television
household furniture: bed chair couch table wardrobe
insects: bee beetle butterfly caterpillar cockroach
large carnivores: bear leopard lion tiger wolf
large man-made outdoor things: bridge castle house road skyscraper
large natural outdoor scenes: cloud forest mountain plain sea
large omnivores and herbivores: camel cattle chimpanzee elephant kangaroo
medium-sized mammals: fox porcupine possum raccoon skunk
non-insect invertebrates: crab lobster snail spider worm
people: baby boy girl man woman
reptiles: crocodile dinosaur lizard snake turtle
small mammals: hamster mouse rabbit shrew squirrel
trees: maple_tree oak_tree palm_tree pine_tree willow_tree
vehicles 1: bicycle bus motorcycle pickup_truck train
vehicles 2: lawn_mower rocket streetcar tank tractor
"""
_GROUPS = {"cifar100": dict(line.split(": ") for line in _CIFAR100_GROUPS.strip().split("\n"))}
_LICENCES = {
    "digits": "CC BY 4.0 (UCI repository)",
    "cifar10": "none stated; the authors ask to be cited",
    "cifar100": "none stated; the authors ask to be cited",
    "fashion_mnist": "MIT",
}


def superclasses(key: str) -> dict[str, tuple[str, ...]]:
    """Return superclass -> its classes, in the published order; empty for a dataset whose classes stand alone."""
    return {name: tuple(classes.split()) for name, classes in _GROUPS.get(key, {}).items()}


def licence(key: str) -> str:
    """Return under which terms the images of a dataset may be used."""
    return _LICENCES.get(key, "yours to know")


def cards(home: Home) -> dict[str, DatasetCard]:
    """Return every dataset by key: the built-in ones, then your own by name.

    Raises:
        KdError: ``datasets.json`` cannot be read.
    """
    return BUILTIN | {name: entry.card for name, entry in sorted(_register(home).items())}


def get(home: Home, key: str) -> DatasetCard:
    """Return the dataset called ``key``.

    Raises:
        UnknownKey: there is none of that name; the nearest one is suggested.
    """
    known = cards(home)
    if key not in known:
        raise UnknownKey(unknown("dataset", key, list(known), do="or add your own: python -m kdengine datasets add"))
    return known[key]


def path_of(home: Home, key: str) -> Path:
    """Return the folder of a dataset: under ``home.data`` for the built-in ones, where you said for your own.

    Raises:
        UnknownKey: there is none of that name.
    """
    get(home, key)
    return home.data / key if key in BUILTIN else Path(_register(home)[key].path)


def is_here(home: Home, key: str) -> bool:
    """Say whether the dataset can be loaded without a download; for your own: whether its folder is still there.

    Raises:
        UnknownKey: there is none of that name.
    """
    return get(home, key).kind == "digits" or path_of(home, key).is_dir()


def disk_bytes(home: Home, key: str) -> int:
    """Return what the dataset takes in KD_HOME: downloaded files and decoded images; the folder of your own is not counted.

    Raises:
        UnknownKey: there is none of that name.
    """
    cache = home.data / "cache"
    decoded = [p for p in cache.glob(f"{get(home, key).key}-*") if p.name.rsplit("-", 2)[0] == key]
    folders = [*decoded, *([home.data / key] if key in BUILTIN else [])]
    return sum(p.stat().st_size for folder in folders for p in folder.rglob("*") if p.is_file())


def add(
    home: Home,
    name: str,
    *,
    imagefolder: str | Path | None = None,
    parquet: str | Path | None = None,
    flippable: bool = True,
) -> DatasetCard:
    """Register a dataset of your own under ``name``, after checking it; adding it again from the same path renews it.

    ``imagefolder``: a folder with ``train/<class>/*.png`` and ``test/<class>/*.png``. ``parquet``: a folder with train and
    test parquet files of an image column (``img``, ``image``: bytes) and an integer label column, as Hugging Face writes
    them. ``flippable=False``: never mirror these images.

    Raises:
        KdError: with every fault of the name, the folder, the classes and the labels.
    """
    from kdengine import datasets_inspect

    given = [(kind, path) for kind, path in (("imagefolder", imagefolder), ("parquet", parquet)) if path is not None]
    faults = _name_faults(name)
    if len(given) != 1:
        faults.append(
            Problem("path", f"{len(given)} sources", "one of --imagefolder PATH and --parquet PATH", "give one of the two")
        )
        raise KdError(*faults)
    kind, where = given[0]
    root = Path(where).expanduser().resolve()
    if not root.is_dir():
        faults.append(Problem(kind, str(where), "a folder that exists", "check the path"))
        raise KdError(*faults)
    found = datasets_inspect.imagefolder(root) if kind == "imagefolder" else datasets_inspect.parquet(root)
    faults.extend(found.problems)
    if faults:
        raise KdError(*faults)
    title = "your own, image folders" if kind == "imagefolder" else "your own, parquet"
    card = DatasetCard(name, name, len(found.class_names), found.train_images, found.test_images, found.native_size, 3,
                       flippable, title, "imagefolder" if kind == "imagefolder" else "parquet", 0.0,
                       found.class_names)  # fmt: skip
    _store(home, _Entry(path=str(root), card=card))
    return card


def _name_faults(name: str) -> list[Problem]:
    if name in BUILTIN:
        return [
            Problem("name", repr(name), "a name that no built-in dataset has: not " + ", ".join(BUILTIN), "choose another name")
        ]
    if not NAME.match(name):
        allowed = "letters, digits, _ and -, at most 40 long, beginning with a letter or digit"
        return [Problem("name", repr(name), allowed, "choose another name")]
    return []


def _register(home: Home) -> dict[str, _Entry]:
    try:
        return _REGISTER.validate_json((home.data / "datasets.json").read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise KdError.of(
            f"data/datasets.json ({type(error).__name__})",
            "the register that `datasets add` writes",
            "move the file away and add your datasets again",
            "datasets",
        ) from error


def _store(home: Home, entry: _Entry) -> None:
    name = entry.card.key
    with FileLock(home.locks / "datasets.lock"):
        entries = _register(home)
        if name in entries and entries[name].path != entry.path:
            raise KdError.of(f"{name!r}, which is another dataset already", "a name that is free", "choose another name", "name")
        entries[name] = entry
        aside = home.data / f".datasets-{os.getpid()}.json"
        aside.write_text(json.dumps(_REGISTER.dump_python(entries, mode="json"), indent=1) + "\n", encoding="utf-8")
        aside.replace(home.data / "datasets.json")
