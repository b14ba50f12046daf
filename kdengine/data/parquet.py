"""Your own images in parquet files, as Hugging Face writes them: a column of encoded images, a column of integer labels.

Reads: the folder that was registered. Writes: nothing. Never: a path in an error; a whole file in memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kdengine import datasets_inspect as inspect
from kdengine.data.contract import Allocate, Report, Split
from kdengine.data.imagefolder import stamp
from kdengine.data.pixels import CHUNK, decode_all, refuse_broken
from kdengine.datasets import DatasetCard, path_of
from kdengine.errors import KdError, Problem
from kdengine.home import Home


def fingerprint(home: Home, card: DatasetCard) -> str:
    """Return a hash of every file's name, size and time of change.

    Raises:
        KdError: the files are gone.
    """
    root = path_of(home, card.key)
    return stamp(root, [path for split in inspect.SPLITS for path in inspect.parquet_files(root, split)], card)


def read(
    home: Home, card: DatasetCard, split: Split, size: int, new: Allocate, report: Report | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the split's images ``(N, 3, size, size)`` and labels, in the order of the files and rows.

    Raises:
        KdError: broken images, each named by file and row; labels or classes that are not those of the card.
    """
    import pyarrow.parquet as pq  # not at the top: a tenth of a second at the start of every run

    root = path_of(home, card.key)
    found = inspect.parquet(root)
    refuse_broken(
        found.problems or inspect.different_names(card.class_names, found.class_names, "classes as when it was registered")
    )
    files = inspect.parquet_files(root, split)
    columns = inspect.parquet_columns(pq.read_schema(files[0]))
    assert isinstance(columns, inspect.Columns), "the inspection above found them"
    labels = inspect.parquet_labels(files, columns.label)
    x = new(len(labels))
    done, problems = 0, list[Problem]()
    for path in files:
        try:
            count, broken = _decode_file(path, columns, x, done, report)
        except (OSError, ValueError) as error:
            raise KdError(inspect.unreadable(path.name, error)) from error
        done += count
        problems += broken
    refuse_broken(problems)
    return x, labels


def _decode_file(
    path: Path, columns: inspect.Columns, x: np.ndarray, start: int, report: Report | None
) -> tuple[int, list[Problem]]:
    """Decode one file into ``x[start:]``; return the number of rows and the problems."""
    import pyarrow.parquet as pq

    done, problems = 0, list[Problem]()
    for batch in pq.ParquetFile(path).iter_batches(batch_size=CHUNK, columns=[columns.image]):
        column = batch.column(0)
        values = (column.field("bytes") if columns.struct else column).to_pylist()
        rows = [(f"{path.name}, row {done + i}", value or b"") for i, value in enumerate(values)]
        problems += decode_all(len(rows), rows.__getitem__, x, report, start + done, len(x))
        done += len(rows)
    return done, problems
