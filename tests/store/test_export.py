"""What is taken away reads back as it was, and LaTeX compiles. Never: a store."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from kdengine.catalogue import labels
from store.compare.pivot import Pivot, pivot
from store.export import tables
from tests.store.comparing import results, runs

NASTY = r"100 % of a_b & c <d> #1 {x} ~ ^ \ | $ ± → − · … ▲"


def every_method() -> Pivot:
    """A pivot of all methods on three columns, with gaps, variants, spreads and published numbers."""
    wide = {"dataset": "cifar10_mini", "student": "wrn_16_2", "teacher": "wrn_40_2"}
    groups = [runs(m, [0.70 + n / 100, 0.71 + n / 100, 0.705 + n / 100]) for n, m in enumerate(sorted(labels()))]
    groups += [runs("kd", [0.6, 0.61], **wide), runs("base", [0.5, 0.5], **wide | {"teacher": None}), runs("at", [0.62], **wide)]
    groups += [runs("kd", [0.8], params='{"T_max": 4}', dataset="cifar10_mini")]
    published = {
        "method": "kd", "dataset": "digits", "student": "resnet8", "teacher": "resnet20", "peers": None, "top1_frac": 0.75,
        "top1_std_frac": None, "which": "best", "seeds": 1, "epochs": 240, "source": "A & B_c", "page": "1", "url": "",
        "note": "",
    }  # fmt: skip
    return pivot(results(*groups), "best", published=pd.DataFrame([published]))


@pytest.fixture(scope="module")
def table() -> Pivot:
    return every_method()


@pytest.fixture
def flat() -> pd.DataFrame:
    return pd.DataFrame(
        {"run_id": ["a", "b|c"], "tags": [["x", "y"], []], "best_frac": [0.71234, None], "n": [1, 2], "done": [True, False],
         "note": [NASTY, "two\nlines"]}
    )  # fmt: skip


# ---- for machines ----------------------------------------------------------------------------------------------------------


def test_csv_reads_back(table: Pivot, flat: pd.DataFrame) -> None:
    back = pd.read_csv(io.BytesIO(tables.csv(table)))
    assert len(back) == len(table.cells) and set(back["which"]) == {"best"}
    assert back["mean_frac"].to_numpy() == pytest.approx(table.cells["mean_frac"].to_numpy(dtype=float), nan_ok=True)
    first = table.cells.loc[~table.cells.missing, "ids"].iloc[0]
    assert back.loc[~back.missing, "ids"].iloc[0] == " ".join(first)
    again = pd.read_csv(io.BytesIO(tables.csv(flat)))
    assert again.loc[0, "note"] == NASTY and again.loc[0, "tags"] == "x y" and again.loc[0, "best_frac"] == 0.71234


def test_parquet_reads_back(table: Pivot, flat: pd.DataFrame) -> None:
    back = pd.read_parquet(io.BytesIO(tables.parquet(table)))
    assert back["to_base_verdict"].tolist() == table.cells["to_base_verdict"].tolist()
    assert list(back.loc[~back.missing, "seeds"].iloc[0]) == [0, 1, 2]
    again = pd.read_parquet(io.BytesIO(tables.parquet(flat)))
    assert list(again.loc[0, "tags"]) == ["x", "y"] and again.loc[0, "note"] == NASTY
    assert flat.loc[0, "tags"] == ["x", "y"], "the frame that was given stays as it was"


def test_results_themselves_can_be_taken_away() -> None:
    frame = results(runs("kd", [0.7, 0.8]), runs("base", [0.6], milestones=[0.5, 0.75]))
    assert len(pd.read_parquet(io.BytesIO(tables.parquet(frame)))) == len(pd.read_csv(io.BytesIO(tables.csv(frame)))) == 3


def test_an_empty_table_is_a_heading() -> None:
    none = pivot(results(), "best")
    assert tables.csv(none).decode().startswith("name,method,variant")
    assert len(pd.read_parquet(io.BytesIO(tables.parquet(none)))) == 0
    assert r"\toprule" in tables.latex(none) and tables.markdown(none).startswith("| method |")


# ---- for readers -----------------------------------------------------------------------------------------------------------


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def test_markdown_is_a_table_with_a_line_that_explains_it(table: Pivot) -> None:
    lines = tables.markdown(table).splitlines()
    head, rule, *body = [cells_of(line) for line in lines if line.startswith("|")]
    assert head == ["method", *table.columns.column] and rule == ["---", *["---:"] * len(table.columns)]
    assert len(body) == len(table.rows) and {len(row) for row in body} == {len(head)}
    kd = next(row for row in body if row[0] == "kd T_max=4")
    assert kd[1:] == ["**80.0 (1)**", "–", "–"]
    assert "best on test" in lines[-1] and "n = 1 to 3, in brackets" in lines[-1] and "–: no finished run." in lines[-1]
    assert "▲" in "".join(body[0]), "the best is above the student alone by more than seed noise"


def test_the_bold_one_is_the_greatest_of_its_column(table: Pivot) -> None:
    body = [cells_of(line) for line in tables.markdown(table).splitlines() if line.startswith("|")][2:]
    for place, column in enumerate(table.columns.column, start=1):
        bold = [row[0] for row in body if row[place].startswith("**")]
        means = table.cells[table.cells.column == column].set_index("name").mean_frac
        assert bold == [means.idxmax()]


def test_equal_n_is_said_once() -> None:
    text = tables.markdown(pivot(results(runs("kd", [0.7, 0.8]), runs("at", [0.7, 0.7])), "last"))
    assert "; n = 2." in text and "(2)" not in text and "last epoch on test" in text and "no finished run" not in text


def body_of(text: str) -> dict[str, list[str]]:
    rows = [cells_of(line) for line in text.splitlines() if line.startswith("|")][2:]
    return {row[0]: row[1:] for row in rows}


def test_gains_with_their_intervals(table: Pivot) -> None:
    body = body_of(tables.markdown(table, "to_base"))
    order = sorted(labels())
    gain = order.index("kd") - order.index("base")
    where = list(table.columns.column).index("digits · resnet20 → resnet8")
    assert body["kd"][where] == f"+{gain}.0 [+{gain}.0, +{gain}.0] ▲ (3)"
    assert "base" not in body, "nothing is compared with itself, and rows that say nothing are left out"


def test_distances_from_the_literature(table: Pivot) -> None:
    text = tables.markdown(table, "to_published")
    assert set(body_of(text)) == {"kd"} and "Published: A & B_c." in text


def test_flat_frames_for_readers(flat: pd.DataFrame) -> None:
    lines = [cells_of(line) for line in tables.markdown(flat, caption="Two runs.").splitlines() if line.startswith("|")]
    assert lines[0] == ["run_id", "tags", "best_pct", "n", "done", "note"] and lines[1][2:4] == ["---:", "---:"]
    assert lines[2][:5] == ["a", "x, y", "71.23", "1", "yes"] and lines[3][:5] == [r"b\|c", "", "–", "2", "no"]


# ---- LaTeX -----------------------------------------------------------------------------------------------------------------


def test_latex_has_the_structure_of_a_booktabs_table(table: Pivot) -> None:
    text = tables.latex(table, label="tab:all")
    words = ("begin{table}", "caption", "label", "toprule", "cmidrule", "midrule", "bottomrule")
    order = [text.index(rf"\{word}") for word in words]
    assert order == sorted(order) and text.count(r"\begin{tabular}{lrrr}") == 1
    body = text.split(r"\midrule" + "\n")[1].split(r"\bottomrule")[0].splitlines()
    assert len(body) == len(table.rows) and all(line.endswith(r" \\") and line.count(" & ") == 3 for line in body)
    assert r"wrn\_16\_2" in text and r"$\pm$" in text and r"$\uparrow$" in text and r"\textbf{" in text
    assert not re.search(r"(?<!\\)[%#_](?! needs)", text.replace("tab:all", "")), "nothing that LaTeX would take as its own"
    assert text.isascii() or set(re.findall(r"[^\x00-\x7f]", text)) <= {"–"}


def test_letters_of_latex_are_escaped() -> None:
    assert tables.escape(r"a_b & 5 % \x") == r"a\_b \& 5 \% \textbackslash{}x"
    assert tables.latex(pd.DataFrame({"a_b": [1.5]}), caption="50 %").splitlines()[3] == r"\caption{50 \%}"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed (apt: texlive-latex-recommended)")
def test_latex_compiles(table: Pivot, flat: pd.DataFrame, tmp_path: Path) -> None:
    parts = [tables.latex(table, show, label=f"tab:{show}") for show in tables.SHOWN]
    parts += [tables.latex(flat, caption=NASTY), tables.latex(pivot(results(), "best"))]
    packages = r"\documentclass{article}\usepackage{booktabs}"
    (tmp_path / "all.tex").write_text(f"{packages}\\begin{{document}}\n{''.join(parts)}\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"],
        cwd=tmp_path, capture_output=True, text=True, timeout=50, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:]
    assert "Missing character" not in done.stdout and (tmp_path / "all.pdf").stat().st_size > 10_000


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://example.org")']
)
def test_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    frame = pd.DataFrame({"note": [text, "plain"], text: ["a", "b"]})
    back = pd.read_csv(io.BytesIO(tables.csv(frame)), dtype=str)
    shown = "'" + text.replace("\r", "\n")
    assert back["note"].tolist() == [shown, "plain"] and back.columns[1] == shown
    assert (
        pd.read_parquet(io.BytesIO(tables.parquet(frame)))["note"][0] == text
        and json.loads(tables.json(frame))[0]["note"] == text
    )


def test_numbers_in_a_csv_stay_numbers() -> None:
    frame = pd.DataFrame({"gain": [-0.25, 0.5], "text": ["-3.5e-2", "+7"], "dash": ["-", "–"]})
    assert tables.csv(frame).decode() == "gain,text,dash\n-0.25,-3.5e-2,-\n0.5,+7,–\n"


def test_what_an_answer_may_hold_can_be_taken_away() -> None:
    frame = pd.DataFrame({
        "struct": [{"a": [1, None]}, None], "mixed": [1, "x"], "lists": [[1, 2], None], "big": [2**70, None],
        "text": ["é<>", None], "n": pd.array([1, None], dtype="Int64"), "at": pd.to_datetime(["2026-01-01 10:00", None]),
        "x": [float("inf"), 0.5],
    })  # fmt: skip
    rows = json.loads(tables.json(frame))
    assert rows[0] == {"struct": {"a": [1, None]}, "mixed": 1, "lists": [1, 2], "big": 2**70, "text": "é<>", "n": 1,
                       "at": "2026-01-01T10:00:00", "x": None}  # fmt: skip
    assert set(rows[1].values()) == {None, "x", 0.5}
    back = pd.read_parquet(io.BytesIO(tables.parquet(frame)))
    assert list(back["mixed"]) == ["1", "x"] and list(back["lists"][0]) == [1, 2] and back["text"][0] == "é<>"
    assert pd.read_csv(io.BytesIO(tables.csv(frame)))["struct"][0] == '{"a": [1, null]}'
