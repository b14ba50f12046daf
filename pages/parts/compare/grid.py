"""The table of methods by dataset and pair as people read it: a cell says mean, spread and difference, in signs and colour.

Reads: a ``store.compare.pivot.Pivot``. Writes: nothing. Never: Streamlit, statistics.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from pages.parts import tables, words
from pages.parts.tables import Column, Table
from store.compare import wording
from store.compare.pivot import Pivot

DELTAS = {"to_base": "Student alone", "to_published": "Published", "none": "Nothing"}
MARKS = {"better": "▲", "worse": "▼"}
SHADES = {"better": "rgba(47,128,237,0.20)", "worse": "rgba(199,125,10,0.24)"}  # blue and orange: told apart by everyone
NOTHING = "–"
DETAILS: dict[str, Column] = {
    "Method": Column("text", "key of the method, and what sets it apart from its other settings"),
    "Column": Column("text", "dataset and networks"),
    "Best": Column("wide", "mean ± standard deviation over seeds, best epoch, chosen on the test images, percent"),
    "Last": Column("wide", "mean over seeds after the last epoch, percent"),
    "Seeds": Column("text", "seeds of the finished runs that count"),
    "Gain": Column("wide", "points of percent above the student alone, 95 % interval in brackets"),
    "Trained unlike it": Column("text", "in which fields the student alone was trained otherwise"),
    "Published": Column("wide", "what the literature reports, percent"),
    "Distance": Column("wide", "points of percent above the published number"),
    "Source": Column("text", "who reports it, and where"),
    "Link": Column("text", "opens the source"),
    "Protocol there": Column("text", "what the source says of its training"),
}


def grid(pivot: Pivot, delta: str) -> Table:
    """Return the table with a row per method and a column per (dataset, pair); ``delta``: a key of ``DELTAS``.

    A cell has a colour, and an arrow, only where it differs from the student alone by more than seed noise.
    """
    cells = pivot.cells.to_dict("records")
    n_differs = pivot.cells.loc[~pivot.cells["missing"], "n"].nunique() > 1
    titles = columns(pivot)
    texts = _shaped([_cell(cell, delta, n_differs) for cell in cells], pivot, titles)
    styles = _shaped([_style(cell, delta) for cell in cells], pivot, titles)
    texts.insert(0, "Method", pivot.rows["name"].tolist())
    styles.insert(0, "Method", "")
    shown: Styler = texts.style.apply(lambda _: styles, axis=None)
    described = {"Method": Column("text", "key of the method, and what sets it apart from its other settings")} | {
        title: Column("wide", title) for title in titles
    }
    return Table(shown, described)


def columns(pivot: Pivot) -> list[str]:
    """Return titles of the columns: only what differs between them, dataset or pair or both."""
    found = pivot.columns
    pairs = [words.pair_of(teacher, student) for teacher, student in zip(found["against"], found["student"], strict=True)]
    if len(set(pairs)) == 1 and len(found) > 1:
        return found["dataset"].tolist()
    return pairs if found["dataset"].nunique() == 1 else found["column"].tolist()


def details(pivot: Pivot) -> Table:
    """Return every filled cell as a row with all its numbers, the published one with source and link."""
    rows = [_detail(cell) for cell in pivot.cells[~pivot.cells["missing"]].to_dict("records")]
    return Table(pd.DataFrame(rows, columns=list(DETAILS)), DETAILS)


def gaps(pivot: Pivot) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the cells that can be trained, and those whose runs are under way or broke off."""
    empty = pivot.cells[pivot.cells["missing"] & pivot.cells["launchable"]]
    return empty[empty["unfinished"] == 0], empty[empty["unfinished"] > 0]


def _cell(cell: dict[Hashable, Any], delta: str, n_differs: bool) -> str:
    if cell["missing"]:
        return "…" if cell["unfinished"] else NOTHING
    n = f" ({cell['n']})" if n_differs else ""
    return f"{words.spread(cell['mean_frac'], cell['std_frac'])}{n}{_difference(cell, delta)}"


def _difference(cell: dict[Hashable, Any], delta: str) -> str:
    value: Any = cell.get(f"{delta}_frac")
    if delta == "none" or words.missing(value) or delta == "to_base" and not cell["to_base_verdict"]:
        return f" {MARKS[cell['to_base_verdict']]}" if delta == "none" and cell["coloured"] else ""
    mark = MARKS[cell["to_base_verdict"]] if delta == "to_base" and cell["coloured"] else ""
    return f"  {mark}{wording.points(value, sign=True)}"


def _style(cell: dict[Hashable, Any], delta: str) -> str:
    shade = f"background-color: {SHADES[cell['to_base_verdict']]};" if cell["coloured"] and delta != "to_published" else ""
    return shade + ("font-weight: 700" if cell["leads"] else "")


def _shaped(values: list[str], pivot: Pivot, titles: list[str]) -> pd.DataFrame:
    width = len(titles)
    return pd.DataFrame([values[i : i + width] for i in range(0, len(values), width)], columns=titles)


def _detail(cell: dict[Hashable, Any]) -> dict[str, Any]:
    low, high = cell["to_base_low_frac"], cell["to_base_high_frac"]
    span = "" if words.missing(low) else f" ({wording.points(low, sign=True)} to {wording.points(high, sign=True)})"
    printed = not words.missing(cell["published_frac"])
    return {
        "Method": cell["name"],
        "Column": cell["column"],
        "Best": words.spread(cell["best_mean_frac"], cell["std_frac"] if cell["mean_frac"] == cell["best_mean_frac"] else None),
        "Last": words.spread(cell["last_mean_frac"], cell["std_frac"] if cell["mean_frac"] == cell["last_mean_frac"] else None),
        "Seeds": ", ".join(map(str, cell["seeds"])),
        "Gain": f"{wording.points(cell['to_base_frac'], sign=True)}{span}" if cell["to_base_verdict"] else NOTHING,
        "Trained unlike it": ", ".join(cell["base_differs"]) if isinstance(cell["base_differs"], tuple) else "",
        "Published": words.spread(cell["published_frac"], cell["published_std_frac"]) if printed else NOTHING,
        "Distance": wording.points(cell["to_published_frac"], sign=True) if printed else NOTHING,
        "Source": f"{cell['published_source']}, {cell['published_page']}" if printed else "",
        "Link": cell["published_url"] if printed else None,
        "Protocol there": _protocol(cell) if printed else "",
    }


def _protocol(cell: dict[Hashable, Any]) -> str:
    known = tables.facts(
        {str(name): value for name, value in cell.items()},
        {"published_which": "counts", "published_seeds": "seeds", "published_epochs": "epochs", "published_note": "note"},
    )
    return ", ".join(f"{title} {value}" for title, value in known.items())
