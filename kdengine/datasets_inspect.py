"""What a folder of images or parquet files holds: splits, classes, labels, and what is wrong with them.

Reads: file names, label columns, headers of a few images. Writes: nothing. Never: torch, a whole image, the register.
Every path in a problem is relative to the dataset's folder, so that none reaches a run's events.
"""

from __future__ import annotations

import io
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kdengine.errors import KdError, Problem

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

SPLITS = {"train": ("train", "training"), "test": ("test", "testing", "validation", "valid", "val")}
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label", "target", "class", "y")
NAME_COLUMNS = ("class", "class_name", "label_name", "label_text", "category")
SAMPLE = 32  # images whose headers say the typical size


@dataclass(slots=True)
class Found:
    """What is there. Where ``problems`` is not empty, the other fields may be too."""

    class_names: tuple[str, ...] = ()
    train_images: int = 0
    test_images: int = 0
    native_size: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a parquet file are used. ``struct``: the image is a struct with a field ``bytes``."""

    image: str
    struct: bool
    label: str
    name: str | None


def imagefolder(root: Path) -> Found:
    """Check a folder with ``train/<class>/`` and ``test/<class>/`` (or ``val/``); classes are in the order of their names."""
    train, test = (image_files(root, split) for split in SPLITS)
    found = Found(tuple(train))
    for split, files in (("train", train), ("test", test)):
        if not any(files.values()):
            found.problems.append(
                Problem(
                    split,
                    f"no images in {split}/<class>/",
                    "image files (png, jpg, webp, tif, ...), one folder per class",
                    f"put them in {split}/<class>/",
                )
            )
    if found.problems:
        return found
    found.problems += different_names(found.class_names, tuple(test), "class folders")
    if empty := [name for name, files in train.items() if not files]:
        found.problems.append(
            Problem(
                "train",
                f"classes without a training image: {_some(empty)}",
                "at least one image per class",
                "add images or remove these folders",
            )
        )
    found.problems += _too_few(len(train))
    found.train_images, found.test_images = (sum(map(len, split.values())) for split in (train, test))
    every = [path for files in train.values() for path in files]
    size, broken = _typical_size((str(path.relative_to(root)), path) for path in every[:: max(1, len(every) // SAMPLE)][:SAMPLE])
    found.native_size = size
    found.problems += broken
    return found


def image_files(root: Path, split: str) -> dict[str, list[Path]]:
    """Return class name -> image files below it, both sorted, hidden ones left out; empty where the split's folder is missing."""
    base = next((root / name for name in SPLITS[split] if (root / name).is_dir()), None)
    if base is None:
        return {}
    classes = sorted(p.name for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))
    return {name: sorted(p for p in (base / name).rglob("*") if _is_image(p)) for name in classes}


def parquet(root: Path) -> Found:
    """Check a folder of parquet files: splits, columns, labels 0 to K - 1, the same class names in train and test."""
    found = Found()
    files = {split: parquet_files(root, split) for split in SPLITS}
    for split, paths in files.items():
        if not paths:
            found.problems.append(
                Problem(
                    split,
                    f"no {split} parquet file",
                    f"{split}*.parquet in the folder or its data/",
                    "rename the files of this split",
                )
            )
    columns = None if found.problems else _common_columns(root, files, found.problems)
    if columns is None:
        return found
    labels = {split: parquet_labels(paths, columns.label) for split, paths in files.items()}
    found.train_images, found.test_images = len(labels["train"]), len(labels["test"])
    found.problems += label_faults(columns.label, labels)
    if found.problems:
        return found
    classes = int(labels["train"].max()) + 1
    names, test = (_class_names(paths, columns, labels[split], classes) for split, paths in files.items())
    if any(len(texts) > 1 for texts in names.values()) or len(set.union(set(), *names.values())) < len(names):
        names = {}  # the texts of that column are something else than names of the classes
    found.class_names = tuple("".join(names.get(i, {str(i)})) for i in range(classes))
    if names:
        said = tuple("/".join(sorted(test.get(i, names[i]))) for i in range(classes))
        found.problems += different_names(found.class_names, said, "class names")
    found.problems += _too_few(classes)
    found.native_size, broken = _typical_size(_first_images(files["train"][0], columns))
    found.problems += broken
    return found


def parquet_files(root: Path, split: str) -> list[Path]:
    """Return the parquet files of a split, sorted: ``train*.parquet`` in the folder or its ``data/``, or ``train/*.parquet``."""
    for name in SPLITS[split]:
        found = [p for base in (root, root / "data") for p in sorted(base.glob(f"{name}*.parquet")) if _of_split(p, name)]
        found += [p for base in (root, root / "data") for p in sorted((base / name).glob("*.parquet"))]
        if found:
            return found
    return []


def parquet_columns(schema: pa.Schema) -> Columns | list[Problem]:
    """Choose the image, label and class-name columns of a file, or say why there are none."""
    import pyarrow as pa

    def holds_images(kind: pa.DataType) -> bool:
        return _is_bytes(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)

    image = _choose(schema, IMAGE_COLUMNS, holds_images)
    label = _choose(schema, LABEL_COLUMNS, pa.types.is_integer)
    shown = ", ".join(f"{f.name} ({f.type})" for f in schema)[:300]
    problems = []
    if image is None:
        problems.append(
            Problem(
                "image column",
                f"columns {shown}",
                "a column img or image: bytes, or a struct with bytes",
                "rename the column that holds the encoded images",
            )
        )
    if label is None:
        problems.append(
            Problem(
                "label column",
                f"columns {shown}",
                "an integer column: " + ", ".join(LABEL_COLUMNS),
                "rename the label column; write classes as integers 0 to K - 1",
            )
        )
    if image is None or label is None:
        return problems
    texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    name = next((n for n in (f"{label}_name", f"{label}_text", *NAME_COLUMNS) if n in texts), None)
    return Columns(image, pa.types.is_struct(schema.field(image).type), label, name)


def parquet_labels(paths: Sequence[Path], column: str) -> np.ndarray:
    """Return the labels of these files in their order, int64; a missing label is -1.

    Raises:
        KdError: a file is damaged; it is named.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = []
    for path in paths:
        try:
            values = pq.ParquetFile(path).read(columns=[column]).column(column).cast(pa.int64(), safe=False)
        except (OSError, ValueError) as error:
            raise KdError(unreadable(path.name, error)) from error
        parts.append(values.fill_null(-1).to_numpy())
    return np.concatenate(parts)


def unreadable(where: str, error: Exception) -> Problem:
    """Describe a parquet file that cannot be read."""
    return Problem(where, f"a file that cannot be read ({type(error).__name__})", "a parquet file", "write it again")


def label_faults(column: str, labels: dict[str, np.ndarray]) -> list[Problem]:
    """Say what is wrong with labels by split: missing, negative, not 0 to K - 1 in train, unknown in test."""
    import numpy as np

    problems = []
    seen = {split: np.unique(values) for split, values in labels.items()}
    for split, values in seen.items():
        if not len(values) or values[0] < 0:
            given = f"{split}: no rows" if not len(values) else f"{split}: missing or negative labels ({values[0]})"
            problems.append(Problem(column, given, "labels 0 to K - 1 in every row", "leave out rows without a label"))
    if problems:
        return problems
    train, test = seen["train"], seen["test"]
    if len(train) != train[-1] + 1:
        absent = np.setdiff1d(np.arange(min(int(train[-1]), 100_000)), train)
        problems.append(
            Problem(
                column,
                f"train: labels up to {train[-1]}, but none is {_some(absent)}",
                "labels 0 to K - 1, each used",
                "number the classes from 0 without gaps",
            )
        )
    elif len(extra := np.setdiff1d(test, train)):
        problems.append(
            Problem(
                column,
                f"test: labels {_some(extra)}, which train has not",
                f"labels 0 to {len(train) - 1}",
                "use the same classes in train and test",
            )
        )
    return problems


def different_names(train: Sequence[str], test: Sequence[str], what: str) -> list[Problem]:
    """Compare the classes of both splits, order included, and name those that differ."""
    if tuple(train) == tuple(test):
        return []
    given = "; ".join(
        part
        for part in (
            f"only in train: {_some(sorted(set(train) - set(test)))}" if set(train) - set(test) else "",
            f"only in test: {_some(sorted(set(test) - set(train)))}" if set(test) - set(train) else "",
            ""
            if set(train) != set(test)
            else "another order: " + _some(f"{a}/{b}" for a, b in zip(train, test, strict=True) if a != b),
        )
        if part
    )
    return [Problem("classes", given, f"the same {what} in the same order in train and test", "make them equal in both splits")]


def _too_few(classes: int) -> list[Problem]:
    return [] if classes > 1 else [Problem("classes", f"{classes} class", "at least two classes", "add images of another class")]


def _some(values: Iterable[Any], most: int = 10) -> str:
    shown = [str(v) for v in values]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".") and path.is_file()


def _of_split(path: Path, name: str) -> bool:
    rest = path.stem.removeprefix(name)
    return not rest or not rest[0].isalpha()


def _is_bytes(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _choose(schema: pa.Schema, names: Sequence[str], fits: Any) -> str | None:
    """Return the first of ``names`` whose type fits, else the only column that fits."""
    fitting = [f.name for f in schema if fits(f.type)]
    known = [name for name in names if name in fitting]
    return known[0] if known else (fitting[0] if len(fitting) == 1 else None)


def _common_columns(root: Path, files: dict[str, list[Path]], problems: list[Problem]) -> Columns | None:
    """Return the columns that all files share; otherwise add what is wrong to ``problems`` and return None."""
    import pyarrow.parquet as pq

    chosen: Columns | None = None
    for path in (p for paths in files.values() for p in paths):
        where = str(path.relative_to(root))
        try:
            columns = parquet_columns(pq.read_schema(path))
        except (OSError, ValueError) as error:
            problems.append(
                Problem(where, f"a file that cannot be read ({type(error).__name__})", "a parquet file", "write it again")
            )
            continue
        if isinstance(columns, list):
            problems += [Problem(f"{where}, {p.field}", p.given, p.allowed, p.do) for p in columns]
        elif chosen is not None and columns != chosen:
            problems.append(
                Problem(
                    where,
                    f"columns {columns.image}, {columns.label}, {columns.name}",
                    f"those of the first file: {chosen.image}, {chosen.label}, {chosen.name}",
                    "write it again",
                )
            )
        else:
            chosen = columns
    return None if problems else chosen


def _class_names(paths: Sequence[Path], columns: Columns, labels: np.ndarray, classes: int) -> dict[int, set[str]]:
    """Return label -> its names, from Hugging Face's metadata or a column of names; empty where there is neither."""
    import pyarrow.parquet as pq

    stored = json.loads((pq.read_schema(paths[0]).metadata or {}).get(b"huggingface", b"{}"))
    names = ((stored.get("info") or {}).get("features") or {}).get(columns.label, {}).get("names")
    if names and len(names) >= classes:
        return {i: {str(name)} for i, name in enumerate(names[:classes])}
    if columns.name is None:
        return {}
    texts = [t for path in paths for t in pq.ParquetFile(path).read(columns=[columns.name]).column(columns.name).to_pylist()]
    found: dict[int, set[str]] = {}
    for label, text in set(zip(labels.tolist(), texts, strict=True)):
        found.setdefault(label, set()).add(str(text))
    return found


def _first_images(path: Path, columns: Columns) -> list[tuple[str, IO[bytes]]]:
    import pyarrow.parquet as pq

    batch = next(pq.ParquetFile(path).iter_batches(batch_size=SAMPLE, columns=[columns.image]), None)
    rows = [] if batch is None else batch.column(0).to_pylist()
    return [
        (f"{path.name}, row {i}", io.BytesIO((row["bytes"] if columns.struct and row else row) or b""))
        for i, row in enumerate(rows)
    ]


def _typical_size(images: Iterable[tuple[str, Path | IO[bytes]]]) -> tuple[int, list[Problem]]:
    """Return the median of the shorter sides, and a problem for each image without a readable header."""
    from PIL import Image

    sizes, problems = [], []
    for name, source in images:
        try:
            with Image.open(source) as image:
                sizes.append(min(image.size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            problems.append(Problem(name, "a file that is no readable image", "PNG, JPEG, ...", "replace or remove it"))
    return (int(statistics.median(sizes)) if sizes else 0), problems
