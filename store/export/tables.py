"""Tables to take away: CSV, Parquet and JSON for machines, LaTeX and Markdown for readers.

A pivot becomes a long table for machines (one row per cell, every number of it) and a grid for readers. A flat frame stays what
it is; for readers shares (``_frac``) become percent (``_pct``).

Reads: the frames and pivots it is given. Writes: nothing; callers decide where the bytes go. Never: the database.
"""

from __future__ import annotations

import io
import json as json_
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from store.compare import wording
from store.compare.groups import WHICH
from store.compare.pivot import Pivot

SHOWN = {
    "mean": "Top-1 accuracy in percent",
    "to_base": "Gain over the student alone in points of percent, with its 95 % interval",
    "to_published": "Distance from the published number in points of percent",
}
NOTHING = "–"
UP, DOWN = "▲", "▼"
_MARKS = {"better": f" {UP}", "worse": f" {DOWN}"}
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "±": r"$\pm$", "→": r"$\to$", "−": "$-$", "·": r"\textperiodcentered{}", "…": r"\ldots{}", "\N{NO-BREAK SPACE}": "~",
    UP: r"$\uparrow$", DOWN: r"$\downarrow$", "\n": " ",
}  # fmt: skip
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")
_WIDE = 6  # from so many columns on LaTeX takes a smaller type


def csv(table: pd.DataFrame | Pivot) -> bytes:
    """Return the table as CSV: UTF-8, a header line, lists joined by spaces, nothing for a missing value.

    A text that a spreadsheet would take for a formula gets a ``'`` in front (cells may hold what others wrote); \\r becomes \\n.
    """
    frame = _long(table, lambda items: " ".join(map(str, items)))
    for name in _texts(frame):
        frame[name] = pd.Series([_inert(value) for value in frame[name]], index=frame.index, dtype=object)
    return frame.rename(columns=_inert).to_csv(index=False, lineterminator="\n").encode()


def parquet(table: pd.DataFrame | Pivot) -> bytes:
    """Return the table as a Parquet file; lists stay lists, what Parquet has no form for becomes text."""
    frame, file = _long(table, list), io.BytesIO()
    for name in _texts(frame):
        try:
            pa.array(frame[name], from_pandas=True)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):  # values of several kinds in one column
            frame[name] = [None if value is None else text_of(value) for value in frame[name]]
    frame.to_parquet(file, index=False)
    return file.getvalue()


def json(frame: pd.DataFrame) -> bytes:
    """Return a flat table as JSON: UTF-8, a list of objects, null for a missing value or no number, times as ISO 8601."""
    rows = [plain(row) for row in frame.to_dict("records")]
    return json_.dumps(rows, default=str, ensure_ascii=False).encode(errors="replace")


def plain(value: Any) -> Any:
    """Return a value that JSON can hold: missing and not-a-number become None, NumPy numbers become Python's."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "isoformat"):
        return None if str(value) == "NaT" else value.isoformat()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if type(value).__name__ == "NAType" else value


def text_of(value: Any) -> str:
    """Return a value as text; lists and structs as JSON."""
    return value if isinstance(value, str) else json_.dumps(plain(value), default=str, ensure_ascii=False)


def _texts(frame: pd.DataFrame) -> list[Any]:
    return [name for name in frame if frame[name].dtype == object or isinstance(frame[name].dtype, pd.StringDtype)]


def _inert(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula; a text that reads as a number is none."""
    if isinstance(value, dict):
        return text_of(value)  # begins with a brace
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # a lone \r is not quoted, and would begin a line of its own
    return f"'{text}" if len(text) > 1 and text[0] in "=+-@\t\n" and not _NUMBER.fullmatch(text) else text


def markdown(table: pd.DataFrame | Pivot, show: str = "mean", caption: str = "") -> str:
    """Return the table as a Markdown pipe table with a line below it that says what the numbers are.

    ``show`` (of a pivot): mean, to_base or to_published. ``caption``: replaces that line.
    """
    head, body, bold, right = _grid(table, show)
    titles = ["method", *table.columns["column"]] if isinstance(table, Pivot) else head[0]
    rows = _marked(_escaped(body, _for_pipes), bold, "**{}**")
    lines = [titles, ["---:" if side else "---" for side in right], *rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    below = caption or (about(table, show) if isinstance(table, Pivot) else "")
    return f"{text}\n\n{below}\n" if below else f"{text}\n"


def latex(table: pd.DataFrame | Pivot, show: str = "mean", caption: str = "", label: str = "") -> str:
    """Return the table as a LaTeX ``table``; the document needs ``\\usepackage{booktabs}`` and nothing else.

    ``show`` (of a pivot): mean, to_base or to_published. ``caption`` (plain text, is escaped): replaces the one that says
    selection, n and marks. ``label``: for ``\\ref``.
    """
    head, body, bold, right = _grid(table, show)
    rows = _marked(_escaped(body, escape), bold, r"\textbf{{{}}}")
    below = caption or (about(table, show) if isinstance(table, Pivot) else "")
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering",
        *([rf"\caption{{{escape(below)}}}"] if below else []),
        *([rf"\label{{{label}}}"] if label else []),
        *([r"\footnotesize\setlength{\tabcolsep}{3pt}"] if len(right) > _WIDE else []),
        rf"\begin{{tabular}}{{{''.join('r' if side else 'l' for side in right)}}}",
        r"\toprule",
        *_latex_head(head, right),
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def about(table: Pivot, show: str = "mean") -> str:
    """Say what the numbers of a grid are: measure, selection, n, what bold and marks mean, whose the published ones are."""
    cells = table.cells[~table.cells["missing"]]
    low, high = (int(cells["n"].min()), int(cells["n"].max())) if len(cells) else (0, 0)
    n = f"n = {low}" if low == high else f"n = {low} to {high}, in brackets"
    spread = ", mean ± standard deviation over seeds" if show == "mean" else ""
    parts = [f"{SHOWN[show]} ({WHICH[table.which]}){spread}; {n}."]
    if show == "mean" and len(cells):
        parts.append("Bold: greatest mean of the column.")
    if show != "to_published" and cells["coloured"].any():
        parts.append(f"{UP} {DOWN}: above or below the student alone by more than seed noise (95 % interval).")
    if show == "to_published" and table.source:
        parts.append(f"Published: {table.source}.")
    if table.cells["missing"].any():
        parts.append(f"{NOTHING}: no finished run.")
    return " ".join(parts)


# ---- grids -----------------------------------------------------------------------------------------------------------------

Grid = tuple[list[list[str]], list[list[str]], set[tuple[int, int]], list[bool]]  # heads, rows, bold places, right-aligned


def _grid(table: pd.DataFrame | Pivot, show: str) -> Grid:
    return _pivot_grid(table, show) if isinstance(table, Pivot) else _flat_grid(table)


def _pivot_grid(table: Pivot, show: str) -> Grid:
    columns, width = table.columns, len(table.columns)
    head = [["", *columns["dataset"]]]
    if columns["against"].astype(bool).any():
        head.append(["Teacher", *(name or NOTHING for name in columns["against"])])
    head.append(["Student", *columns["student"]])
    n_differs = table.cells.loc[~table.cells["missing"], "n"].nunique() > 1
    texts = [_with_n(_WRITERS[show](cell), cell["n"] if n_differs else 0) for cell in table.cells.to_dict("records")]
    rows = [[name, *texts[i * width : (i + 1) * width]] for i, name in enumerate(table.rows["name"])]
    if show != "mean":  # rows without any of these numbers say nothing
        return head, [row for row in rows if set(row[1:]) != {NOTHING}], set(), [False] + [True] * width
    leads = {(i // width, i % width + 1) for i, first in enumerate(table.cells["leads"]) if first}
    return head, rows, leads, [False] + [True] * width


def _with_n(text: str, n: int) -> str:
    return f"{text} ({n})" if n and text != NOTHING else text


def _mean(cell: dict[Any, Any]) -> str:
    if cell["missing"]:
        return NOTHING
    spread = "" if pd.isna(cell["std_frac"]) else f" ± {100 * cell['std_frac']:.1f}"
    return f"{100 * cell['mean_frac']:.1f}{spread}" + (_MARKS[cell["to_base_verdict"]] if cell["coloured"] else "")


def _to_base(cell: dict[Any, Any]) -> str:
    if pd.isna(cell["to_base_frac"]):
        return NOTHING
    low, high = cell["to_base_low_frac"], cell["to_base_high_frac"]
    span = "" if pd.isna(low) else f" [{_signed(low)}, {_signed(high)}]"
    return _signed(cell["to_base_frac"]) + span + (_MARKS[cell["to_base_verdict"]] if cell["coloured"] else "")


def _to_published(cell: dict[Any, Any]) -> str:
    return NOTHING if pd.isna(cell["to_published_frac"]) else _signed(cell["to_published_frac"])


_WRITERS: dict[str, Callable[[dict[Any, Any]], str]] = {"mean": _mean, "to_base": _to_base, "to_published": _to_published}


def _signed(frac: float) -> str:
    return wording.points(frac, sign=True)


def _flat_grid(frame: pd.DataFrame) -> Grid:
    right = [pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name]) for name in frame]
    columns = [[_plain(str(name), value) for value in frame[name]] for name in frame]
    head = [[re.sub("_frac$", "_pct", str(name)) for name in frame]]
    return head, [list(row) for row in zip(*columns, strict=True)], set(), right


def _plain(name: str, value: Any) -> str:
    if not _is_list(value) and pd.isna(value):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{100 * value:.2f}" if name.endswith("_frac") else f"{value:.4g}"
    return ", ".join(map(str, value)) if _is_list(value) else str(value)


def _latex_head(head: Sequence[list[str]], right: Sequence[bool]) -> list[str]:
    """Return the heading: equal neighbours of the first of several lines joined under a rule, the others one by one."""
    lines: list[str] = []
    if len(head) > 1:
        spans = _spans(head[0][1:])
        lines.append(" & ".join(["", *(rf"\multicolumn{{{n}}}{{c}}{{{escape(text)}}}" for text, _, n in spans)]) + r" \\")
        lines.append(" ".join(rf"\cmidrule(lr){{{start + 2}-{start + n + 1}}}" for _, start, n in spans))
    for row in head[1:] or head:
        titles = [escape(text) for text in row]
        if len(head) > 1:
            titles = [rf"\multicolumn{{1}}{{c}}{{{t}}}" if side else t for t, side in zip(titles, right, strict=True)]
        lines.append(" & ".join(titles) + r" \\")
    return lines


def _spans(texts: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return each run of equal neighbours: text, where it starts, how long it is."""
    spans: list[tuple[str, int, int]] = []
    for place, text in enumerate(texts):
        if spans and spans[-1][0] == text:
            spans[-1] = (text, spans[-1][1], spans[-1][2] + 1)
        else:
            spans.append((text, place, 1))
    return spans


def _long(table: pd.DataFrame | Pivot, write_list: Callable[[Any], Any]) -> pd.DataFrame:
    """Return the flat frame of a table, with ``write_list`` of every list in it."""
    frame = (table.cells.assign(which=table.which) if isinstance(table, Pivot) else table).copy(deep=False)
    for name in frame:
        if frame[name].dtype == object and any(_is_list(value) for value in frame[name]):
            frame[name] = pd.Series([write_list(v) if _is_list(v) else v for v in frame[name]], index=frame.index, dtype=object)
    return frame


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1


def _marked(body: list[list[str]], bold: set[tuple[int, int]], form: str) -> list[list[str]]:
    return [[form.format(text) if (i, j) in bold else text for j, text in enumerate(row)] for i, row in enumerate(body)]


def _escaped(body: Sequence[Sequence[str]], by: Callable[[str], str]) -> list[list[str]]:
    return [[by(text) for text in row] for row in body]


def _for_pipes(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
