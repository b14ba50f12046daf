"""What is compared: one choice of runs for every tab, kept in the URL, with a message for each value that means nothing here.

Reads: the store through ``fetch``, the URL. Writes: the URL. Never: SQL, statistics (``store.compare`` does them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from kdengine import errors
from kdengine.errors import Problem
from pages.parts import blocks, fetch, state, tables, words

ALL = "*"  # instead of a suite: every run
COUNTED = {"best": "Best epoch", "last": "Last epoch"}
IN_VIEW = {"method": "Methods", "pair": "Pairs", "dataset": "Datasets"}
MORE = {"recipe": "Recipe", "tag": "Tags", "seed": "Seeds", "status": "Status", "ids": "Single runs"}
FILTERS = IN_VIEW | MORE


@dataclass(frozen=True)
class Chosen:
    """What was chosen: ``rows`` as ``queries.runs`` returns them, the teachers of the students included; ``students``, the rows
    to compare, newest first; ``results``, a row per student with at least one epoch, see ``queries.results``; ``ids``, the
    students' run ids; ``which`` accuracy counts, ``best`` or ``last``; ``suite``, None where it is all runs."""

    rows: pd.DataFrame
    students: pd.DataFrame
    results: pd.DataFrame
    ids: tuple[str, ...]
    which: str
    suite: str | None = None

    @property
    def busy(self) -> bool:
        """Whether some of these runs still train or wait."""
        return bool(self.rows["status"].isin(words.ACTIVE).any())


def choose(*, counts: bool = True) -> Chosen:
    """Draw the choice and return what it selects; ``counts``: whether best or last makes a difference to what is shown.

    A selection that fits no run comes back with empty frames, after a sentence and a button that clears the filters.
    """
    suites = fetch.suites()["suite"].tolist()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        suite = _suite(suites)
        students = _students(fetch.runs(suite=None if suite == ALL else suite))
        offered = options(students)
        chosen = _filters(offered, students)
        which = _which() if counts else next(iter(_given("which", COUNTED)), "best")
    known = {name: list(titles) for name, titles in offered.items()}
    name_unknown({"suite": [*suites, ALL], "which": list(COUNTED)} | known)
    picked = narrowed(students, chosen)
    if picked.empty:
        _nothing(chosen)
    return _chosen(picked, which, None if suite == ALL else suite)


def refreshed(chosen: Chosen) -> Chosen:
    """Return the same runs as the store has them now."""
    rows = fetch.runs(ids=tuple(chosen.rows["run_id"]))
    students = rows[rows["run_id"].isin(chosen.ids)]
    return replace(chosen, rows=rows, students=students, results=fetch.ask("results", chosen.ids))


def reset(**query: str | list[str]) -> None:
    """Forget every choice of this page and put ``query`` into the URL instead: for a button's ``on_click``."""
    for name in [*FILTERS, "suite", "which", "tab"]:
        st.session_state.pop(f"{name}-choice", None)
        st.query_params.pop(name, None)
    for name, value in query.items():
        st.query_params[name] = value


def name_unknown(known: Mapping[str, Sequence[str]]) -> None:
    """Say which values the URL gives to the parameters of ``known`` (name -> what it may be) that they cannot have."""
    found = [
        Problem(name, value, "the runs of this suite", "choose the suite, or open the link of another selection")
        if name == "ids"
        else errors.unknown(name, value, allowed)
        for name, allowed in known.items()
        for value in state.chosen_all(name)
        if value not in allowed
    ]
    blocks.problems(found, "Part of this link means nothing here; the rest of it is shown")


def focus(columns: pd.DataFrame, **more: Any) -> str:
    """Draw the choice of one column of (dataset, pair), where there are several, and return its name.

    ``columns``: a row per group with dataset, student, against, column, n (seeds); the column of most groups comes first, of
    as many that of most seeds.
    """
    size = (
        columns.groupby(["dataset", "against", "student", "column"], sort=False)["n"]
        .agg(["size", "sum"])
        .sort_values(["size", "sum"], ascending=False, kind="stable")
    )
    titles = {"-".join(key[:3]): str(key[3]) for key in size.index}
    if len(titles) == 1:
        return next(iter(titles.values()))
    return titles[state.choice(st.selectbox, "On", titles, name="on", default=next(iter(titles)), **more)]


def options(students: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return what each filter offers: key in the URL -> title, of what occurs in ``students``."""
    pairs = students[["teacher", "student"]].drop_duplicates().itertuples(index=False)
    taught = {f"{t}-{s}": words.pair_of(t, s) for t, s in pairs if not words.missing(t) and t != s}
    return {
        "method": _same(sorted(set(students["method"]))),
        "pair": dict(sorted(taught.items())),
        "dataset": _same(sorted(set(students["dataset"]))),
        "recipe": _same(sorted(set(students["recipe"]))),
        "tag": _same(sorted({tag for tags in students["tags"] for tag in tags})),
        "seed": _same([str(seed) for seed in sorted(set(students["seed"]))]),
        "status": {s: known.word for s, known in words.STATUSES.items() if (students["status"] == s).any()},
        "ids": _same(students["run_id"]),
    }


def narrowed(students: pd.DataFrame, chosen: Mapping[str, list[str]]) -> pd.DataFrame:
    """Return the rows that fit every filter; an empty filter lets all pass.

    A pair also keeps its student alone and the methods that need no teacher: what the pair is compared with.
    """
    fits = pd.Series(True, index=students.index)
    for name, values in chosen.items():
        if values:
            fits &= _fits(students, name, values)
    return students[fits]


def summary(students: pd.DataFrame) -> str:
    """Say what is compared: ``24 methods, resnet20 → resnet8, digits, 2 seeds, 48 runs``."""
    found = options(students)
    parts = [_counted(found["method"].values(), "method")]
    parts += [_counted(found["pair"].values(), "pair")] if found["pair"] else sorted(set(students["student"]))
    parts += [_counted(found["dataset"].values(), "dataset")]
    return ", ".join([*parts, words.count(len(found["seed"]), "seed"), words.count(len(students), "run")])


def _suite(suites: list[str]) -> str:
    newest = suites[0] if suites else ALL
    if "suite-choice" not in st.session_state and state.chosen_all("ids") and not state.chosen("suite"):
        st.query_params["suite"] = ALL  # single runs may come from anywhere
    titles = {suite: suite for suite in suites} | {ALL: "all runs"}
    return str(state.choice(st.selectbox, "Suite", titles, name="suite", default=newest))


def _students(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs to choose from: students, and what the link names itself."""
    named = rows["run_id"].isin([*fetch.students(rows)["run_id"], *state.chosen_all("ids")])
    return rows[named]


def _filters(offered: Mapping[str, Mapping[str, str]], students: pd.DataFrame) -> dict[str, list[str]]:
    chosen = {name: _several(name, title, offered[name]) for name, title in IN_VIEW.items() if len(offered[name]) > 1}
    used = sum(bool(_given(name, offered[name])) for name in MORE)
    label = f"More filters ({used})" if used else "More filters"
    box = st.popover(label, icon=":material/tune:", key="more-filters", on_change="rerun")
    for name, title in MORE.items():
        chosen[name] = _given(name, offered[name])
        if box.open and (len(offered[name]) > 1 or chosen[name]):  # while it is closed, the URL holds what was chosen there
            titles = {row["run_id"]: blocks.run_title(row) for row in tables.rows(students)} if name == "ids" else offered[name]
            with box:
                chosen[name] = _several(name, title, titles)
    return chosen


def _several(name: str, title: str, titles: Mapping[str, str]) -> list[str]:
    found: list[str] = state.choice(st.multiselect, title, titles, name=name, default=[], placeholder=f"all {len(titles)}")
    return found


def _which() -> str:
    return str(state.choice(st.segmented_control, "Accuracy of the", COUNTED, name="which", default="best", required=True))


def _given(name: str, titles: Mapping[str, str]) -> list[str]:
    return [value for value in state.chosen_all(name) if value in titles]


def _nothing(chosen: Mapping[str, list[str]]) -> None:
    asked = [f"{FILTERS[name].lower()} {words.listed(values)}" for name, values in chosen.items() if values]
    with st.container(border=True, horizontal_alignment="center", gap="medium"):
        st.markdown(f"No run fits {words.listed(asked)} together." if asked else "There is no run to compare here yet.")
        st.button("Clear the filters", on_click=reset, type="primary", icon=":material/filter_alt_off:", key="clear-filters")


def _chosen(picked: pd.DataFrame, which: str, suite: str | None) -> Chosen:
    ids = tuple(picked["run_id"])
    teachers = sorted(set(picked["teacher_run"].dropna()) - set(ids))
    rows = fetch.runs(ids=(*ids, *teachers)) if teachers else picked
    return Chosen(rows, picked, fetch.ask("results", ids), ids, which, suite)


def _fits(students: pd.DataFrame, name: str, values: list[str]) -> pd.Series:
    if name == "tag":
        return students["tags"].map(lambda tags: bool(set(tags) & set(values)))
    if name == "pair":
        own = students["teacher"].fillna("") + "-" + students["student"]
        alone = students["teacher"].isna() | (students["teacher"] == students["student"])
        return own.isin(values) | alone & students["student"].isin(students.loc[own.isin(values), "student"])
    column = "run_id" if name == "ids" else name
    return students[column].astype(str).isin(values)


def _counted(names: Iterable[str], noun: str) -> str:
    """Name one thing, count several."""
    found = list(names)
    return found[0] if len(found) == 1 else words.count(len(found), noun)


def _same(values: Iterable[str]) -> dict[str, str]:
    return {value: value for value in values}
