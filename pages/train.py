"""Launch one run or a suite: choose, see what it will cost and what is wrong, start. Reads: catalogues, the store. Writes: new
run folders, through the runner."""

from __future__ import annotations

import streamlit as st

from kdengine import datasets, methods, models
from kdengine.errors import KdError
from kdengine.spec import RunSpec
from pages.parts import actions, blocks, fetch, forms, launching, plan, pulse, quotas, state, words


def forecast(specs: list[RunSpec], teachers: list[RunSpec]) -> plan.Plan:
    """Return what the launch will take, from the speed of earlier runs here or from the size of the networks."""
    images = {key: (card.train_images, card.test_images) for key, card in datasets.cards(pulse.of().home).items()}
    measured = launching.with_macs(fetch.measured())
    return plan.plan(specs, teachers, cost=launching.cost, images=images, measured=measured, slots=fetch.slots())


def kept(expected: plan.Plan) -> str:
    """Say how much of the memory the method's banks take, where that is worth a word."""
    return f", {words.size(expected.kept_mib)} of it for what the method keeps" if expected.kept_mib >= 1 else ""


def what_it_does(specs: list[RunSpec], teachers: list[RunSpec]) -> plan.Plan:
    """Draw the forecast."""
    expected = forecast(specs, teachers)
    blocks.pairs(
        {
            "Runs": words.count(expected.runs, "run"),
            "Teacher": launching.teacher_line(specs, teachers),
            "Time": f"{words.roughly(expected.seconds)} ({expected.basis})",
            "Memory": f"about {words.size(expected.memory_mib)} per run" + kept(expected),
            "Disk": f"about {words.size(expected.disk_mib)} of {words.size(fetch.free_disk_mib())} free",
        }
    )
    ahead = len(fetch.active())
    if ahead:
        st.caption(f"{words.count(ahead, 'run')} before it in the queue.")
    return expected


def launch(specs: list[RunSpec]) -> None:
    """Queue the runs and go where they can be watched."""
    try:
        ids = actions.launch(specs)
    except KdError as error:
        blocks.problems(error.problems, "Nothing was launched")
        return
    state.say_later(f"{words.count(len(ids), 'run')} launched")
    if len(ids) == 1:
        st.switch_page("pages/run.py", query_params={"run": ids[0]})
    st.switch_page("pages/compare.py", query_params={"suite": str(specs[0].suite)})


blocks.say(
    "Train", "Choose how a student learns and from whom. What that will take is said before anything starts.", needs="launch"
)
left, right = st.columns([5, 3], gap="large")
with left:
    wish = forms.choose(
        {key: entry.card for key, entry in methods.entries().items()},
        {key: entry.params.model_json_schema() for key, entry in methods.entries().items()},
        sorted(models.keys(), key=lambda key: models.info(key, 10).macs),
        models.torchvision_names(),
        datasets.cards(pulse.of().home),
    )
with right, st.container(border=True):
    specs, problems = launching.specs_of(wish)
    st.subheader("What this will do", anchor=False)
    if specs:
        teachers = launching.missing_teachers(specs)
        expected = what_it_does(specs, teachers)
        label = f"Train {words.count(len(specs), 'run')} ({words.roughly(expected.seconds)})"
    else:
        label = "Train"
    blocks.problems(problems, words.count(len(problems), "thing") + " to put right first")
    if st.button(
        label, type="primary", icon=":material/play_arrow:", disabled=bool(problems) or not specs, key="launch", width="stretch"
    ):
        launch(specs)
    st.caption("Runs go on when this page is closed, and when the app is stopped.")
    if room := quotas.line():
        st.caption(room)
