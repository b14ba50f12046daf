"""A replicated table in words: what stands in a cell, and how a claim fares.

Reads: what it is given. Writes: nothing. Never: Streamlit, the store, statistics (``store.compare.replicate`` does them).
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from kdengine import replications
from kdengine.replications import Replication, Scale
from pages.parts import tables, words
from store.compare import replicate
from store.compare.replicate import Progress, Verdict

HEAD = "How it learns"
MARKUP = re.compile(r"\*\*|:\w+\[")


def sentence(progress: Progress) -> str:
    """Say how many of the table's runs stand how."""
    total, done = len(progress.runs), progress.count("finished")
    parts = [f"**{done} of {words.count(total, 'run')} trained**"]
    for status in ("running", "queued", "waiting", "failed", "cancelled", "lost"):
        n = progress.count(status)
        parts += [f"{n} {words.STATUSES[status].word}"] if n else []
    active = int(progress.teachers["status"].isin(replicate.ACTIVE).sum())
    parts += [f"{words.count(active, 'teacher')} first"] if active else []
    return ", ".join(parts)


def as_text(table: Replication, scale: Scale, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the table as people read it: a line per row and network, a column per dataset or pair, Markdown in the cells."""
    trained = {column.key: column for column in replications.columns_of(table, scale)}
    titles = {column.key: f"{column.title}, printed" for column in table.columns}
    titles |= {key: column.title if column.printed else f"{column.title}, here" for key, column in trained.items()}
    teachers = [row.key for row in table.rows if row.role == "teacher"]
    shown: dict[str, dict[str, str]] = {}
    for key, part in cells.groupby("column", sort=False):
        here = key in trained
        best = part["mean_frac" if here else "printed_frac"].max()
        swapped = part[part["stand_in"] & ~part["row"].isin(teachers)]
        named = here and swapped["model"].nunique() > 1  # the rows are called by the printed networks
        shown[titles[str(key)]] = {
            cell["label"]: _cell(cell, best) + (f" :gray[{cell['model']}]" if named else "")
            if here
            else _printed(cell["printed_frac"], best)
            for cell in tables.rows(part)
        }
    return pd.DataFrame(shown).fillna("").rename_axis(HEAD).reset_index()


def as_plain(table: Replication, scale: Scale, cells: pd.DataFrame) -> pd.DataFrame:
    """Return ``as_text`` without Markdown, its first column the rows' names: to take away."""
    text = as_text(table, scale, cells)
    return text.map(lambda cell: MARKUP.sub("", cell).replace("  \n", "; ").replace("]", ""))


def about(table: Replication, scale: Scale) -> str:
    """Say what the numbers of the table are."""
    here = "Here: best test accuracy over the epochs (chosen on the test images), percent, mean ± standard deviation over "
    printed = f" Printed: as {table.source} has it." if table.page else ""
    return f"{here}{words.count(scale.seeds, 'seed')}.{printed}"


def _cell(cell: dict[str, Any], best: float) -> str:
    printed = words.missing(cell["printed_frac"])
    delta = "" if words.missing(cell["delta_frac"]) else f", {100 * cell['delta_frac']:+.1f}".replace("-", "−")
    below = "" if printed else f"  \n:gray[printed {_printed(cell['printed_frac'])}{delta}]"
    return _measured(cell, best) + below


def _measured(cell: dict[str, Any], best: float) -> str:
    """Return what a cell has reached, or how far its runs are."""
    if cell["n"]:
        few = f" (n = {cell['n']})" if cell["n"] < _seeds(cell) else ""
        text = words.spread(cell["mean_frac"], cell["std_frac"])
        return (f"**{text}**" if cell["mean_frac"] == best else text) + few
    if cell["running"]:
        epoch = 0 if words.missing(cell["epoch"]) else int(cell["epoch"])
        if not epoch:
            return ":blue[● starting]"
        return f":blue[● epoch {epoch} of {int(cell['epochs'])}]"
    for name, text in (("queued", ":gray[○ queued]"), ("stopped", ":orange[! stopped]")):
        if cell[name]:
            return text
    return ":gray[not yet]"


def _seeds(cell: dict[str, Any]) -> int:
    return sum(int(cell[name]) for name in replicate.COUNTED)


def _printed(frac: Any, best: float | None = None) -> str:
    text = "" if words.missing(frac) else f"{100 * frac:.2f}"
    return f"**{text}**" if text and frac == best else text


def told_of(told: Verdict) -> str:
    """Say how a claim fares in print and here."""
    printed = f" :gray[In print: {told.printed} of {told.printed_n} comparisons.]" if told.printed_n else ""
    judged = told.holds + told.ties + told.fails
    parts = [
        f"{told.holds} of {words.count(judged, 'comparison')} hold beyond seed noise, the means of {told.leans} point this way"
    ]
    parts = parts if judged else []
    parts += [f"{told.fails} the other way round"] if told.fails else []
    parts += [f"{told.few} with too few seeds to tell"] if told.few else []
    parts += [f"{told.pending} not trained yet"] if told.pending else []
    return f"{_mark(told)} :gray[Here: {', '.join(parts) or 'nothing to compare at this scale'}.]{printed}"


def _mark(told: Verdict) -> str:
    if told.n == 0 or told.pending + told.few == told.n:
        return ":gray[○ Not told yet.]"
    if told.holds == told.n:
        return ":green[✓ Holds here.]"
    if told.fails == told.n:
        return ":red[✕ The other way round here.]"
    return ":orange[~ Holds in part.]" if told.holds else ":orange[~ Not clear here.]"
