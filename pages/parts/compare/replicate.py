"""The tab that trains a table of the literature and fills it beside the printed numbers.

Reads: the store through ``fetch``, the URL. Writes: runs, when its buttons ask for them; the URL. Never: SQL, statistics
(``store.compare`` does them).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import pandas as pd
import streamlit as st

from kdengine import datasets, literature, replications, runner
from kdengine.replications import QUICK, Replication, Scale, Trial
from kdengine.slots import is_small
from kdengine.spec import RECIPES
from pages.parts import actions, blocks, buttons, charts, demo, fetch, launching, plan, pulse, state, tables, who, words
from pages.parts.compare import replication_words, selection
from store.compare import replicate
from store.compare.replicate import Progress, Verdict
from store.export import tables as export

SEEDS = {str(n): words.count(n, "seed") for n in (1, 2, 3, 5)}
LONG_S = 86_400.0  # from here on training is not what the page suggests first
VERBS = ("train", "resume", "stop")
NETWORKS = {"small": "Small stand-ins", "printed": "As printed"}


@dataclass(frozen=True, eq=False)
class Wanted:
    """What was chosen, one object per choice: the table, how it is trained, its trials, and teachers that no row shows."""

    table: Replication
    scale: Scale
    trials: tuple[Trial, ...]
    teachers: tuple[Trial, ...]

    @property
    def suite(self) -> str:
        """Name under which its runs are launched."""
        return replications.suite_of(self.table, self.scale)


@dataclass(frozen=True)
class Stand:
    """How the table stands: how far it is, its cells, and what of its claims holds."""

    progress: Progress
    cells: pd.DataFrame
    verdicts: list[Verdict]


def draw() -> None:
    """Draw the choice of a table and, live, how it stands. What is selected for the other tabs does not matter here."""
    table, scale = _choose()
    wanted = _wanted(table, scale)
    busy = _is_busy(wanted, _progress(wanted))

    def body() -> None:
        """The live part."""
        stand = _stand(wanted)
        state.settle(busy, _is_busy(wanted, stand.progress))
        _how_far(wanted, stand.progress)
        _race(wanted, stand)
        _table(wanted, stand)
        _claims(stand)
        _notes(wanted)

    state.live(body, busy=busy)


# ---- the choice -------------------------------------------------------------------------------------------------------------


def _choose() -> tuple[Replication, Scale]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        titles = {key: table.title for key, table in literature.TABLES.items()}
        key = state.choice(st.selectbox, "Table", titles, name="table", default=next(iter(titles)), width=360)
        table = literature.TABLES[key]
        recipe = state.choice(
            st.segmented_control, "Scale", replications.SCALES, name="scale", default=QUICK, required=True,
            help="Quick: does it work at all, in minutes and without a download. The others: as the literature trains on CIFAR",
        )  # fmt: skip
        seeds = int(state.choice(st.selectbox, "Seeds", SEEDS, name="seeds", default="3", width=110))
        data, printed = _stand_ins(table) if recipe == QUICK else ((replications.STAND_IN,), False)
    if replications.by_dataset(table):
        return table, Scale(recipe, seeds, data, printed)
    return table, Scale(recipe, seeds, data[:1], printed, _pairs(table))


def _stand_ins(table: Replication) -> tuple[tuple[str, ...], bool]:
    """Draw what only ``quick`` needs: which datasets and networks stand in for the printed ones."""
    home = pulse.of().home
    here = {key: card for key, card in datasets.cards(home).items() if datasets.is_here(home, key)}
    titles = {key: f"{key} ({card.classes} classes)" for key, card in here.items()}
    chosen = state.choice(
        st.multiselect, "In place of CIFAR", titles, name="data", default=[replications.STAND_IN], width=260,
        help="Datasets that are on this machine; a few hundred of their images are used",
    )  # fmt: skip
    first = replications.STAND_IN
    data = tuple(sorted(chosen, key=lambda key: (here[key].classes, key != first, key))) or (first,)
    if not table.smaller:
        return data, False
    networks = state.choice(
        st.segmented_control, "Networks", NETWORKS, name="networks", default="small", required=True,
        help="Small: " + words.listed([f"{small} for {large}" for large, small in table.smaller.items()]),
    )  # fmt: skip
    return data, networks == "printed"


def _pairs(table: Replication) -> tuple[str, ...]:
    titles = {column.key: column.title for column in table.columns}
    chosen = state.choice(st.multiselect, "Pairs", titles, name=f"{table.key}-pairs", default=list(table.first))
    return tuple(key for key in titles if key in chosen) or table.first


# ---- what is asked of the store ---------------------------------------------------------------------------------------------


def _wanted(table: Replication, scale: Scale) -> Wanted:
    home = pulse.of().home
    cards = datasets.cards(home)
    sizes = tuple(cards[key].train_images for key in scale.data)
    return _completed(table.key, scale, str(home.root), sizes)


@functools.lru_cache(maxsize=16)
def _completed(key: str, scale: Scale, root: str, sizes: tuple[int, ...]) -> Wanted:
    """Return the trials, complete: the methods' defaults are filled in once per choice, which loads torch the first time.

    ``root`` and ``sizes`` (training images of the stand-ins) only say when the answer is another one.
    """
    table = literature.TABLES[key]
    trials = tuple(replications.complete(replications.trials(table, scale, pulse.of().home)))
    return Wanted(table, scale, trials, tuple(replications.teachers(trials)))


def _standing(wanted: Wanted) -> pd.DataFrame:
    found: pd.DataFrame = fetch.ask("standing", replicate.settings((*wanted.trials, *wanted.teachers)))
    return found


def _progress(wanted: Wanted) -> Progress:
    return replicate.progress(wanted.trials, wanted.teachers, _standing(wanted))


def _stand(wanted: Wanted) -> Stand:
    standing = _standing(wanted)
    cells = replicate.cells(wanted.table, wanted.scale, wanted.trials, standing, fetch.ask("published"))
    cards = datasets.cards(pulse.of().home)
    columns = (*wanted.table.columns, *replications.columns_of(wanted.table, wanted.scale))
    classes = {column.key: cards[column.dataset].classes for column in columns}
    told = replicate.verdicts(wanted.table, cells, classes)
    return Stand(replicate.progress(wanted.trials, wanted.teachers, standing), cells, told)


def _is_busy(wanted: Wanted, progress: Progress) -> bool:
    return bool(progress.ids(replicate.ACTIVE)) or any(actions.pending(f"{verb}-{wanted.suite}") for verb in VERBS)


# ---- how far it is ----------------------------------------------------------------------------------------------------------


def _how_far(wanted: Wanted, progress: Progress) -> None:
    """Draw the bar, what is going on, and the buttons that fit."""
    table = wanted.table
    st.markdown(f"{table.shows} :gray[[{table.source}]({table.url}), {table.where}.]")
    with st.container(border=True):
        going = progress.ids(replicate.ACTIVE)
        st.progress(progress.share, text=replication_words.sentence(progress))
        if going and (left := _left_s(wanted, progress)) is not None:
            st.caption(f"{words.roughly(left)[:1].upper()}{words.roughly(left)[1:]} left. Runs go on when this page is closed.")
        with st.container(horizontal=True, vertical_alignment="center"):
            _train(wanted, progress)
            _resume(wanted, progress)
            _stop(wanted, progress)
            _curves(wanted, progress)
            _to_race(wanted, progress)
        if demo.on() and progress.missing:
            demo.lacks("Nothing is trained here.", "On a machine of your own one button trains what is missing.")
        for line in _what_it_means(wanted):
            st.caption(line)


def _train(wanted: Wanted, progress: Progress) -> None:
    key = f"train-{wanted.suite}"
    if actions.pending(key):
        st.button("Queueing runs …", key="replicate-train", disabled=True, icon=":material/hourglass_top:")
        return
    if not progress.missing or not who.may("launch"):
        return
    first = [trial for trial in wanted.teachers if _lacks(trial, progress)]
    what = words.count(len(progress.missing), "run") + (f" and {words.count(len(first), 'teacher')}" if first else "")
    seconds = _seconds(wanted, _keys(progress.missing), _keys(first), pulse.of().store.data_version)
    label = f"Train what is missing: {what} ({words.roughly(seconds)})"
    kind: Literal["primary", "secondary"] = "primary" if seconds < LONG_S else "secondary"
    if seconds >= LONG_S:
        st.caption("That is long for this machine; the same link works where there is a faster one.")
    if st.button(label, type=kind, icon=":material/play_arrow:", key="replicate-train"):
        actions.launch_missing(key, [trial.spec for trial in progress.missing])
        st.rerun()


def _lacks(teacher: Trial, progress: Progress) -> bool:
    behind = progress.teachers
    same = behind[behind["setting"].isin(replicate.settings([teacher])) & (behind["seed"] == teacher.seed)]
    return bool((~same["status"].isin(("finished", *replicate.ACTIVE))).any())


def _resume(wanted: Wanted, progress: Progress) -> None:
    key, ids = f"resume-{wanted.suite}", _own("resume", progress.ids(replicate.STOPPED))
    waits = actions.pending(key)
    label = f"Resume {words.count(len(ids), 'run')}" + (" …" if waits else "")
    if ids and st.button(label, icon=":material/resume:", key="replicate-resume", disabled=waits):
        actions.resume_all(key, ids)
        st.rerun()


def _stop(wanted: Wanted, progress: Progress) -> None:
    """Stop what was launched from here; what waits before what runs, so that no freed place is filled again."""
    key = f"stop-{wanted.suite}"
    ids = [*progress.ids(("waiting", "queued"), wanted.suite)[::-1], *progress.ids(("running",), wanted.suite)[::-1]]
    ids, waits = _own("stop", ids), actions.pending(key)
    label = f"Stop {words.count(len(ids), 'run')}" + (" …" if waits else "")
    if ids and st.button(label, icon=":material/stop:", key="replicate-stop", disabled=waits):
        actions.stop_all(key, ids)
        st.rerun()


def _own(action: str, ids: list[str]) -> list[str]:
    """Return the runs that who asks may do something to, in the same order."""
    allowed = set(buttons.own(fetch.runs(ids=tuple(ids)), action)["run_id"]) if ids else set()
    return [run_id for run_id in ids if run_id in allowed]


def _curves(wanted: Wanted, progress: Progress) -> None:
    """Lead to the curves of these runs: of the suite, or of single runs where some came from elsewhere."""
    ids = progress.ids(("finished", "running"))
    if ids and st.button(
        "Their curves", icon=":material/stacked_line_chart:", key="replicate-curves", type="tertiary",
        on_click=selection.reset, kwargs={"suite": selection.ALL, "ids": ids, "tab": "curves"},
    ):  # fmt: skip
        st.rerun(scope="app")


def _to_race(wanted: Wanted, progress: Progress) -> None:
    """Lead to the race of these runs, where the table is one: of the suite, or of single runs where some came from elsewhere."""
    done = progress.runs[progress.runs["status"] == "finished"]
    if not wanted.table.epochs or done.empty:
        return
    own = (done["suite"] == wanted.suite).all()
    query = {"suite": wanted.suite} if own else {"suite": selection.ALL, "ids": list(dict.fromkeys(done["run_id"]))}
    st.page_link("pages/race.py", label=f"Race of {wanted.table.where}", icon=":material/flag:", query_params=query)


def _keys(trials: Sequence[Trial]) -> tuple[tuple[str, str, int, str], ...]:
    return tuple((trial.row, trial.column, trial.seed, trial.spec.student) for trial in trials)


@functools.lru_cache(maxsize=64)
def _seconds(wanted: Wanted, missing: tuple[Any, ...], first: tuple[Any, ...], version: int) -> float:
    """Return how long these trials and first their teachers will take; ``version`` of the store: it knows the speed."""
    home = pulse.of().home
    specs = [trial.spec for key, trial in zip(_keys(wanted.trials), wanted.trials, strict=True) if key in missing]
    teachers = [trial.spec for key, trial in zip(_keys(wanted.teachers), wanted.teachers, strict=True) if key in first]
    images = {key: (card.train_images, card.test_images) for key, card in datasets.cards(home).items()}
    places = runner.slots(home)
    on_cpu = places.small if all(is_small(spec) for spec in (*specs, *teachers)) else places.cpu
    slots = len(places.gpus) * places.per_gpu or on_cpu
    measured = launching.with_macs(fetch.measured())
    device = "cuda" if places.gpus else "cpu"
    found = plan.plan(specs, teachers, cost=launching.cost, images=images, measured=measured, slots=slots, device=device)
    return found.seconds


def _left_s(wanted: Wanted, progress: Progress) -> float | None:
    """Return the seconds until all that is on its way has ended: what runs by its own guess, what waits by the forecast."""
    now = datetime.now(UTC)
    going = tables.rows(fetch.runs(ids=tuple(progress.ids(replicate.ACTIVE))))
    waiting = progress.runs.index[progress.runs["status"].isin(("queued", "waiting"))]
    keys = _keys([wanted.trials[place] for place in waiting])
    typical = _seconds(wanted, keys, (), pulse.of().store.data_version) * fetch.slots() / len(keys) if keys else 0.0
    return plan.left_s(going, lambda row: tables.eta_s(row, now), typical)


def _what_it_means(wanted: Wanted) -> list[str]:
    """Say what this scale can show and what it cannot, and what is downloaded."""
    table, scale = wanted.table, wanted.scale
    if scale.recipe == QUICK:
        images = min(trial.spec.train_images or 0 for trial in wanted.trials)
        swapped = [f"{small} stands for {large}" for large, small in table.smaller.items()] if not scale.printed_networks else []
        data = f"{images} images of {words.listed(list(scale.data))} stand for CIFAR"
        return [
            f"Quick asks whether it works at all: {words.listed([data, *swapped])}. Compare the order of the rows with the "
            "printed one, not the level of the numbers."
        ]
    home = pulse.of().home
    away = [
        datasets.get(home, key)
        for key in dict.fromkeys(trial.spec.dataset for trial in wanted.trials)
        if not datasets.is_here(home, key)
    ]
    lines = [f"{words.listed([card.title for card in away])} is downloaded first ({sum(c.download_mib for c in away):.0f} MiB)."]
    other = f"The source trained with the recipe {table.recipe} ({RECIPES[table.recipe].epochs} epochs), this is {scale.recipe}."
    return (lines if away else []) + ([other] if scale.recipe != table.recipe else [])


# ---- the table --------------------------------------------------------------------------------------------------------------


def _race(wanted: Wanted, stand: Stand) -> None:
    """Draw the curves beside their teacher, where the table is about how fast students come to it."""
    teachers = [row.key for row in wanted.table.rows if row.role == "teacher"]
    runs = stand.progress.runs
    ids = tuple(runs.loc[~runs["row"].isin(teachers) & runs["status"].isin(("finished", "running")), "run_id"])
    if not wanted.table.epochs or not ids:
        return
    data = fetch.mean_curves(ids, "test_top1_frac", "epoch")
    if data.empty:
        return
    cells = stand.cells[stand.cells["row"].isin(teachers) & (stand.cells["n"] > 0)]
    levels = [(f"teacher {cell['model']}", cell["mean_frac"]) for cell in tables.rows(cells)]
    figure = charts.mean_curves(data, metric="test_top1_frac", x="epoch", references=levels, epochs=wanted.table.epochs)
    blocks.chart(figure, "replicate-race", alt="Test accuracy per epoch, one line per way of teaching, and the teacher's level")


def _table(wanted: Wanted, stand: Stand) -> None:
    st.table(replication_words.as_text(wanted.table, wanted.scale, stand.cells), border="horizontal", hide_index=True)
    about = replication_words.about(wanted.table, wanted.scale)
    text, count = st.columns([5, 1], vertical_alignment="top")
    with text:
        blocks.note(about, "Bold: the highest of its column.")
    with count.popover("Take away", icon=":material/download:", key="replicate-take"):

        def plain() -> pd.DataFrame:
            return replication_words.as_plain(wanted.table, wanted.scale, stand.cells)

        made: dict[str, Callable[[], bytes | str]] = {
            "csv": lambda: export.csv(stand.cells.drop(columns="by_seed")),
            "md": lambda: export.markdown(plain(), caption=about),
            "tex": lambda: export.latex(plain(), caption=about, label=f"tab:{wanted.suite}"),
        }
        for ending, make in made.items():
            st.download_button(
                ENDINGS[ending], data=make, file_name=f"{wanted.suite}.{ending}", key=f"replicate-{ending}", on_click="ignore",
                width="stretch",
            )  # fmt: skip


ENDINGS = {"csv": "CSV, every number", "md": "Markdown", "tex": "LaTeX (booktabs)"}


# ---- the claims -------------------------------------------------------------------------------------------------------------


def _claims(stand: Stand) -> None:
    if stand.verdicts:
        st.subheader("What the source says, and what holds here", anchor=False)
        st.markdown("\n".join(f"- {told.claim.text}  \n{replication_words.told_of(told)}" for told in stand.verdicts))


def _notes(wanted: Wanted) -> None:
    blocks.note(*wanted.table.notes, "A comparison holds when the difference is more than seed noise (95 % interval).")
