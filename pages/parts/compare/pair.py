"""The tab that holds a student against its teacher: the gap closed, who is right where, calibration, layers, classes, images.

Reads: what was chosen; the store and run folders through ``pair_sides``; the URL. Writes: the URL; new runs, where a missing
baseline is asked for. Never: SQL, statistics (``store.compare.pair`` does them), arrays in the session's state.
"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from kdengine.errors import KdError
from pages.parts import actions, blocks, charts, demo, fetch, state, who, words
from pages.parts.compare import pair_figures, pair_sides
from pages.parts.compare.pair_sides import ALONE, Side
from pages.parts.compare.selection import Chosen
from store.compare import pair, specdiff
from store.export.colours import REFERENCE, Style

EVERY = "all"
AT_ONCE = 24
COUNTED = {"best": "best on test", "last": "last epoch"}
SHOWN = {"equal": "fields in which all agree", "seeds": "seeds", "labels": "labels and device"}
ABOUT_GAP = (
    "(student - alone) / (teacher - alone), from the mean test accuracies over the seeds. Alone: the same student with the same "
    "recipe, data and seed, without a teacher."
)
ABOUT_CHANCE = (
    "By chance: what two networks share that have nothing in common but how often each says what about images of a class."
)


def draw(chosen: Chosen) -> None:
    """Draw the tab for the chosen runs."""
    offered = pair_sides.together(chosen.results)
    if not offered:
        st.markdown("Once one of these runs has finished, its student is held against its teacher here, image by image.")
        return
    name, beside, rows = _choose(offered, chosen.which)
    others = pair_sides.rows_beside(rows, beside, offered)
    try:
        ours = pair_sides.side(name, rows)
        other = pair_sides.beside(ours, beside, others)
        pair.check_same_images([*ours.answers, *(other.answers if other else ())])
        _pictures(chosen.which, ours, other)
    except KdError as error:
        blocks.problems(error.problems, "These runs cannot be held against one another")
    _specs(chosen, pd.concat([rows, others]))


def _choose(offered: dict[str, pd.DataFrame], which: str) -> tuple[str, str, pd.DataFrame]:
    """Draw the choice of student, of what stands beside it, and of seeds; return both names and the student's rows."""
    left, middle, right = st.columns([3, 3, 2], vertical_alignment="bottom")
    with left:
        default = pair_sides.default_of(offered, which)
        name = state.choice(st.selectbox, "Student", {n: n for n in offered}, name="student", default=default)
    rows = offered[name]
    with middle:
        others = {ALONE: f"{rows['student'].iloc[0]} alone"} | pair_sides.others(name, offered)
        beside = state.choice(st.selectbox, "Beside it", others, name="beside", default=ALONE)
    if len(rows) > 1:
        with right:
            seeds = {EVERY: f"all {len(rows)} seeds"} | {str(seed): f"seed {seed}" for seed in rows["seed"]}
            seed = state.choice(st.selectbox, "Seeds", seeds, name="of-seed", default=EVERY)
        rows = rows if seed == EVERY else rows[rows["seed"].astype(str) == seed]
    return name, beside, rows


def _pictures(which: str, ours: Side, other: Side | None) -> None:
    if not ours.answers:
        if demo.on():
            demo.lacks("The predictions of this student are not part of the demo; those of suite all-methods on digits are.")
        else:
            st.markdown("This student left no predictions, or their file was removed: train it again to see who is right where.")
        return
    _gap(which, ours, other)
    _numbers(ours, other)
    if ours.partner:
        left, right = st.columns(2, gap="large")
        with left:
            _fates(ours, other)
        with right:
            _calibration(ours, other)
        _likeness(ours, other)
    else:
        st.markdown("This student learnt alone: choose one that has a teacher to see who is right where.")
        _calibration(ours, other)
    names = fetch.class_names(str(ours.rows["dataset"].iloc[0]))
    _classes(ours, other, names)
    _images(ours, other, names)


def _gap(which: str, ours: Side, other: Side | None) -> None:
    """Draw how much of the gap is closed, or say what must be trained first."""
    ways = [way for side in (ours, other) if side and (way := pair_sides.way(side, which))]
    if ways:
        figure = pair_figures.gap(ways, which=COUNTED[which])
        blocks.chart(figure, "pair-gap", alt="The student, between itself trained alone and its teacher", zoom=False)
        st.markdown(pair_sides.gap_sentence(ways[0], ours.rows["student"].iloc[0], COUNTED[which]), help=ABOUT_GAP)
    if ours.partner == pair.TEACHER and (specs := pair_sides.missing_alone(ours)):
        student, seeds = specs[0].student, words.listed([str(spec.seed) for spec in specs])
        with st.container(border=True, gap="small"):
            st.markdown(
                f"How much of the gap to its teacher is closed is known once {student} has been trained alone, with the same "
                f"recipe and data (seed {seeds})."
            )
            label = f"Train {student} alone ({words.count(len(specs), 'run')})"
            if who.may("launch") and st.button(label, key="train-alone", icon=":material/play_arrow:"):
                state.say_later(f"{words.count(len(actions.launch(specs)), 'run')} launched")
                st.switch_page("pages/runs.py")


def _numbers(ours: Side, other: Side | None) -> None:
    """Draw the numbers of agreement, copied mistakes and calibration."""
    told, partner = ours.told, ours.partner_title
    places = st.columns(3 if ours.partner else 1, gap="large")
    tail = [f"{other.name} {words.percent(other.told['ece_frac'].mean())}"] if other else []
    if ours.partner:
        tail.insert(0, f"{partner} {words.percent(told['partner_ece_frac'].mean())}")
        with places[0], st.container(gap=None):
            st.metric(f"Says what its {partner} says", words.percent(told["agreement_frac"].mean()), help=ABOUT_CHANCE)
            st.caption(f"of the test images; by chance {words.percent(told['chance_frac'].mean())}")
        with places[1], st.container(gap=None):
            copied, wrong = (f"{int(told[name].sum()):,}" for name in ("copied", "wrong"))
            st.metric(f"Copies its {partner}'s mistakes", f"{copied} of {wrong}", help=ABOUT_CHANCE)
            st.caption(pair_sides.copied_by_chance(ours, other))
    with places[-1], st.container(gap=None):
        st.metric("Calibration error", words.percent(told["ece_frac"].mean()), help=words.MEASURES["test_ece_frac"].note)
        st.caption(words.listed(tail))


def _fates(ours: Side, other: Side | None) -> None:
    st.subheader(f"Where {ours.name} and its {ours.partner_title} part", anchor=False)
    sides = {side.name: (side.style, pair_sides.fates(side, ours)) for side in (ours, other) if side}
    figure = pair_figures.fates(sides, partner=f"the {ours.partner_title}")
    blocks.chart(figure, "pair-fates", alt="Images that only one of them gets, and mistakes they share", zoom=False)
    both = words.listed([f"{counted['both right']:,.4g} ({name})" for name, (_, counted) in sides.items()])
    blocks.note(
        f"Not drawn: of {len(ours.labels):,} test images both get {both}.",
        ours.seeds,
    )


def _calibration(ours: Side, other: Side | None) -> None:
    st.subheader("Is it as often right as it is sure?", anchor=False)
    first, sides = ours.answers[0], [side for side in (ours, other) if side]
    drawn = {side.name: (side.style, side.reliability()) for side in sides}
    if ours.partner:
        drawn |= {ours.partner_title: (Style(REFERENCE, "dash", "circle-open"), pair.reliability(first, ours.partner))}
    blocks.chart(pair_figures.calibration(drawn), "pair-calibration", alt="How often right, by how sure", zoom=False)
    logged = zip(ours.answers, ours.rows["ece_frac"], strict=True)
    odd = [found.run_id for found, ece in logged if not words.missing(ece) and not pair.fits_log(found, ece)]
    blocks.note(
        "Below the dotted diagonal a network is too sure. Larger dots hold more images; the strip below shows their "
        "share (15 bins; of fewer than 5 images only there).",
        f"The predictions of {words.listed(odd)} do not have the calibration error that was logged." if odd else "",
    )


def _likeness(ours: Side, other: Side | None) -> None:
    """Draw the heat maps of CKA: the student's, and beside it that of what stands beside it."""
    st.subheader("Do they see alike, layer by layer?", anchor=False)
    partner = ours.partner_title
    with st.spinner("Comparing layers", show_time=True):
        drawn = [(side, frame) for side in (ours, other) if side and (frame := pair_sides.likeness(side, ours)) is not None]
    if not drawn:
        if demo.on():
            demo.lacks("This is computed from the features of both networks, which are too large for the demo.")
        else:
            st.markdown(f"The features of the student or of its {partner} are not here any more: repeat the run to see this.")
        return
    for place, (side, frame) in zip(st.columns(2, gap="large"), drawn, strict=False):
        figure = pair_figures.likeness(frame, rows=side.name, columns=f"the {partner}")
        with place:
            blocks.chart(figure, f"pair-cka-{side.name}", alt=f"Likeness of layers: {side.name}, {partner}", zoom=False)
    blocks.note(
        "Likeness of what two layers tell apart (linear CKA, unbiased; up to 512 test images): 1 = the same up to rotation and "
        "scale, 0 = nothing in common.",
        ours.seeds,
        "The teacher's features are those of its last epoch." if ours.rows["teacher_run"].notna().any() else "",
    )


def _classes(ours: Side, other: Side | None, names: tuple[str, ...]) -> None:
    """Draw by class: the gain over what stands beside it, and the agreement with the partner."""
    classes = ours.answers[0].classes
    every = classes <= pair_figures.CLASSES_SHOWN
    if not every and (other or ours.partner):
        every = st.toggle(f"All {classes} classes", key="every-class", bind="query-params")
    left, right = st.columns(2, gap="large")
    if other:
        with left:
            st.subheader(f"Gain over {other.name}, by class", anchor=False)
            figure = pair_figures.gains(pair_sides.gains(ours, other), names, ours.style, every=every)
            blocks.chart(figure, "pair-gains", alt="Gain in points, by class", zoom=False)
            blocks.note(
                "Points of test accuracy. Light bar: what chance alone may do (exact sign test over the images, 5 % over all "
                "classes together); only what leaves it is coloured."
            )
    if ours.partner:
        with right:
            st.subheader(f"Agreement with the {ours.partner_title}, by class", anchor=False)
            figure = pair_figures.agreement(pair.agreement_by_class(ours.answers), names, ours.style, every=every)
            blocks.chart(figure, "pair-agreement", alt="Share of images with the same answer, by true class", zoom=False)
            blocks.note("Share of the images of a class for which both give the same answer, right or wrong.")


def _images(ours: Side, other: Side | None, names: tuple[str, ...]) -> None:
    found = pair_sides.split(ours, other)
    if not found:
        return
    st.subheader("Images that only one of them gets", anchor=False)
    titles = {key: title for key, (title, _) in found.items()}
    default = next((key for key, (_, places) in found.items() if len(places)), next(iter(found)))
    group = state.choice(st.pills, "Who is right", titles, name="images", default=default, required=True,
                         label_visibility="collapsed")  # fmt: skip
    places, page = found[group][1], 1
    if not len(places):
        st.markdown("None.")
        return
    if len(places) > AT_ONCE:
        page = st.pagination(-(-len(places) // AT_ONCE), key=f"page-{group}", bind="query-params")
    part = places[(page - 1) * AT_ONCE : page * AT_ONCE]
    st.html(pair_figures.sheet(pair_sides.pictures(ours, other, part, names)))
    tied = ours.answers[0].tied[pair.STUDENT]
    blocks.note(
        f"Test images, seed {ours.rows['seed'].iloc[0]}, surest mistakes first; the student after its last epoch, the teacher as "
        "it taught (its best epoch).",
        f"For {words.count(tied, 'image')} two classes are level in the half-precision record; the first counts." if tied else "",
    )


def _specs(chosen: Chosen, rows: pd.DataFrame) -> None:
    """Draw what tells the specs apart: of the students on this tab, or of all chosen runs."""
    st.subheader("What differs in their specs", anchor=False)
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        scopes = {"these": "These students", "chosen": f"All {words.count(len(chosen.results), 'chosen run')}"}
        scope = state.choice(st.segmented_control, "Runs", scopes, name="specs", default="these", required=True)
    with right:
        also = state.choice(st.pills, "Show also", SHOWN, name="also", default=[], selection_mode="multi")
    runs = chosen.results if scope == "chosen" else rows
    requests = {run_id: fetch.folder(run_id).request_or_none() for run_id in runs["run_id"]}
    specs = {run_id: request.spec.model_dump(mode="json") for run_id, request in requests.items() if request}
    known = runs[runs["run_id"].isin(list(specs))]
    if known.empty:
        return
    found = specdiff.diff(
        list(specs.values()), charts.line_names(known), labels="labels" in also, seeds="seeds" in also, everything="equal" in also
    )
    seeds = words.listed([str(seed) for seed in found.seeds])
    if found.same:
        st.markdown(f"Nothing differs but the seed ({seeds})." if len(found.seeds) > 1 else "Nothing differs.")
    if len(found.frame):
        st.dataframe(found.frame, key="pair-specs", placeholder="–")
    blocks.note(f"{found.equal} more fields are the same in all of them." if found.equal else "", f"Seeds: {seeds}.")
