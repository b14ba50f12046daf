"""The tab on networks: what teacher and student are for, and what depth buys at which price, from the catalogue and our runs.

Reads: the catalogue of networks, the store through ``fetch``, the last measurement of latency. Writes: nothing; starts the
measurement as an errand. Never: measures in the app's process.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from kdengine import errands, sizes
from kdengine import latency as measurement
from kdengine.spec import RunSpec
from pages.parts import actions_kept, blocks, demo, fetch, pulse, state, who, words
from pages.parts.learn import figures

ALONE = RunSpec.model_fields["teacher_method"].default  # the method of a network that learns from labels alone
BIG, SMALL = "resnet110", "resnet20"  # the worked example of the paper's notes


def draw() -> None:
    """Draw the tab."""
    networks, own, printed = catalogue(), own_results(), printed_results()
    measured = latency()
    networks = with_latency(networks, measured)
    roles()
    example(networks, printed)
    st.subheader("What depth buys, and what it costs", anchor=False)
    dataset = against(networks, own, printed)
    measuring(measured)
    st.subheader("All networks", anchor=False)
    listing(networks, own, printed, dataset)


# ---- what is known -----------------------------------------------------------------------------------------------------------


@st.cache_data(show_spinner="Looking at the networks")
def catalogue() -> pd.DataFrame:
    """Return our networks by family: key, title, family, depth, params, macs (10 classes, 32 x 32), blocks (channels of each)."""
    return pd.DataFrame([asdict(size) for size in (sizes.recorded() if demo.on() else sizes.of_catalogue())])


def latency() -> Any:
    """Return the last measurement on this machine; None where there is none."""
    return measurement.read(pulse.of().home)


def with_latency(networks: pd.DataFrame, measured: Any) -> pd.DataFrame:
    """Return the networks with ``latency`` (ms for one image) and ``speed`` (images/s, many at once); NaN = not measured."""
    found = measured.networks if measured else {}
    alone = {key: timings[min(timings)].ms for key, timings in found.items() if timings}
    speed = {key: 1e3 * max(timings) / timings[max(timings)].ms for key, timings in found.items() if timings}
    return networks.assign(latency=networks["key"].map(alone).astype(float), speed=networks["key"].map(speed).astype(float))


def own_results() -> pd.DataFrame:
    """Return what networks reached alone in finished runs of the store."""
    ids = tuple(fetch.runs(method=ALONE, status="finished")["run_id"])
    return figures.own_results(fetch.ask("results", ids))


def printed_results() -> pd.DataFrame:
    """Return what the literature says of networks alone."""
    published = fetch.ask("published")
    return figures.printed_results(published[published["method"] == ALONE])


# ---- teacher and student -----------------------------------------------------------------------------------------------------

TEACHER = (
    ("Trained first, then left alone.", "It is large and has seen all the images."),
    (
        "Says more than the label.",
        "For each image it gives every class a chance (soft targets): this cat looks a bit like a dog, not at all like a ship.",
    ),
    ("Can show how it sees.", "Many methods also compare what lies between image and answer (features)."),
)
STUDENT = (
    ("The one you keep.", "It is small, so it fits where memory, power and time are short."),
    ("Learns from two sources.", "The labels, and what the teacher makes of the same image."),
    ("Answers sooner.", "Fewer layers mean fewer multiply-adds for every image, on every machine."),
)


def roles() -> None:
    """Draw what the two networks of a distillation are for."""
    for column, (title, icon, lines) in zip(
        st.columns(2),
        (("Teacher", ":material/school:", TEACHER), ("Student", ":material/person:", STUDENT)),
        strict=True,
    ):
        with column.container(border=True, height="stretch", gap="small"):
            st.markdown(f"##### {icon} {title}")
            st.markdown("\n".join(f"- **{first}** {rest}" for first, rest in lines))
    st.caption("In some methods two students teach each other, or a network learns from an earlier copy of itself.")


def example(networks: pd.DataFrame, printed: pd.DataFrame) -> None:
    """Draw the worked example: a typical teacher beside a typical student, in blocks and in numbers."""
    big, small = rows = [networks[networks["key"] == key].iloc[0].to_dict() for key in (BIG, SMALL)]
    families = list(dict.fromkeys(networks["family"]))
    st.subheader(f"{big['title']} teaches {small['title']}", anchor=False)
    left, right = st.columns([5, 4], gap="large")
    with left:
        colour, _ = figures.family_style(big["family"], families)
        shapes = [figures.Shape(row["title"], row["blocks"], colour) for row in rows]
        blocks.chart(figures.blocks_of(shapes), "network-blocks", alt="One bar per block of each network", zoom=False)
        blocks.note("One bar per block of layers, as high as it has channels. Both see the image through the same three stages.")
    with right:
        st.table(figures.side_by_side(big, small, printed), border="horizontal")
        where = "where these runs were trained" if demo.on() else "on this machine"
        blocks.note(f"Accuracy as published, trained alone. The rest from the catalogue, latency as measured {where}.")


# ---- depth against accuracy and speed ----------------------------------------------------------------------------------------


def against(networks: pd.DataFrame, own: pd.DataFrame, printed: pd.DataFrame) -> str:
    """Draw accuracy over depth, size or speed; return the dataset that was chosen."""
    known = pd.concat([own, printed[printed["student"].isin(networks["key"])]])
    counts = known.groupby("dataset")["student"].nunique().sort_values(ascending=False, kind="stable")
    offered = {str(name): f"{name} ({words.count(int(n), 'network')})" for name, n in counts.items()}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = state.choice(st.selectbox, "Dataset", offered, name="on", default=next(iter(offered)), width=240)
        titles = {key: title for key, (title, _, _) in figures.AXES.items()}
        x = state.choice(st.segmented_control, "Against", titles, name="against", default="depth", required=True, wrap=True)
    frame = figures.joined(networks, own, printed, dataset).dropna(subset=["own_frac", "printed_frac"], how="all")
    if frame[x].isna().all():
        advice = " The button below does it." if who.may("measure") else ""
        st.markdown(f"Latency has not been measured on this machine yet.{advice}")
        return dataset
    families = list(dict.fromkeys(networks["family"]))
    blocks.chart(figures.accuracy_against(frame, x, families), "network-accuracy", alt=f"Test accuracy over {titles[x]}")
    blocks.note(
        figures.legend_of(frame), "Trained alone, on labels. A line joins networks of one construction that differ in depth."
    )
    return dataset


def measuring(measured: Any) -> None:
    """Draw when and on what latency was measured, and the button that measures it anew."""
    home = pulse.of().home
    busy = errands.is_going(home, measurement.ERRAND)

    def body() -> None:
        """The live part."""
        now = errands.standing(home, measurement.ERRAND)
        state.settle(busy, now.going)
        if now.going:
            left, right = st.columns([4, 1], vertical_alignment="bottom")
            left.progress(now.share, text=_how_far(now))
            if who.may("measure") and right.button("Stop", key="stop-latency", icon=":material/stop:", width="stretch"):
                actions_kept.stop_measuring()
            return
        if not who.may("measure"):
            return
        blocks.problems(now.problems, "The measurement did not end well")
        seconds = words.duration(measured.took_s if measured else measurement.ABOUT_S)
        word = "Try again" if now.problems else "Measure again" if measured else "Measure on this machine"
        if st.button(f"{word} (about {seconds})", key="measure-latency", icon=":material/timer:"):
            actions_kept.measure_networks()
            st.rerun(scope="app")

    state.live(body, busy=busy)
    if measured:
        blocks.note(f"Latency: {measured.summary()}.")


def _how_far(now: errands.Standing) -> str:
    left = "" if now.left_s is None else f", {words.roughly(now.left_s)} left"
    return f"Measuring: {now.done:.0f} of {now.total:.0f} networks{left}" if now.total else "Starting"


def listing(networks: pd.DataFrame, own: pd.DataFrame, printed: pd.DataFrame, dataset: str) -> None:
    """Draw the table of all networks, filtered by family and sorted."""
    titles = {family: figures.FAMILY_TITLES.get(family, family) for family in dict.fromkeys(networks["family"])}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = state.choice(
            st.multiselect, "Families", titles, name="family", default=[], placeholder="All families", width=420
        )
        sorts = {key: title for key, (title, _, _) in figures.SORTS.items()}
        sort = state.choice(st.selectbox, "Sort by", sorts, name="sort", default="params", width=200)
    shown = networks[networks["family"].isin(chosen)] if chosen else networks
    frame = figures.joined(shown, own, printed, dataset)
    blocks.table(figures.table(frame, sort), "network-table", height=35 * (len(frame) + 1) + 3)
    blocks.note(
        f"Accuracy on {dataset}, trained alone. Parameters and multiply-adds in millions, for 10 classes at 32 x 32 pixels.",
        "Torchvision's networks can be trained too, by name (torchvision:resnet18).",
    )
