"""Results from the literature: ``published.csv`` into the table ``published``.

One row per number of one source, in the order of the sources' names; what two sources say of the same pair stays two rows.
A network that is not one of ours never carries the key of one of ours (``torchvision:resnet18``, ``resnet20:pad``). Only what
was read in the source itself stands there.

Reads: ``published.csv`` beside this file. Writes: the table, when the file has changed. Never: results of our own.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

FILE = Path(__file__).with_name("published.csv")
WHOLE_NUMBERS = ("seeds", "epochs", "batch_size")


def read(file: Path = FILE) -> list[dict[str, Any]]:
    """Return the rows as the table ``published`` has them: percent as fractions, empty fields as None."""
    with file.open(newline="", encoding="utf-8") as text:
        rows: list[dict[str, Any]] = [{key: value or None for key, value in row.items()} for row in csv.DictReader(text)]
    for row in rows:
        for name in ("top1", "top1_std"):
            percent = row.pop(f"{name}_pct")
            row[f"{name}_frac"] = None if percent is None else round(float(percent) / 100, 6)
        row.update({name: int(row[name]) for name in WHOLE_NUMBERS if row[name] is not None})
    return rows


def load(con: duckdb.DuckDBPyConnection, file: Path = FILE) -> bool:
    """Replace the table's rows when the file differs from what was loaded last; return whether it did."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    before = con.execute("SELECT value FROM intake.state WHERE key = 'published'").fetchone()
    if before and before[0] == digest:
        return False
    con.register("literature", pa.Table.from_pylist(read(file)))
    con.execute("BEGIN")
    try:
        con.execute("DELETE FROM published")
        con.execute("INSERT INTO published BY NAME SELECT * FROM literature")
        con.execute("INSERT OR REPLACE INTO intake.state VALUES ('published', ?)", [digest])
        con.execute("COMMIT")
    except duckdb.Error:
        con.execute("ROLLBACK")
        raise
    finally:
        con.unregister("literature")
    return True
