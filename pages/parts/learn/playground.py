"""The playground of one method: real images, the networks of finished runs, sliders for its knobs, its loss and what it compares.

Everything shown is computed by ``kdengine.playground``. A slider redraws the playground alone; every choice is in the URL.
Reads: finished runs through ``fetch`` and their folders. Writes: the session's widgets and the URL. Never: a training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st

from kdengine import catalogue
from kdengine.errors import KdError
from kdengine.rundir import RunDir
from pages.parts import actions, blocks, demo, fetch, pulse, state, tables, who, words
from pages.parts.learn import pictures, tiles

DRAWS = 6  # different sets of images offered
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)  # of a slider, within each power of ten
SPAN = 100  # a slider goes from a hundredth of the default to a hundred times it, as far as the bounds allow
WHOLE = 12  # up to so many whole numbers, each is a step
OWN = "own"  # the partner that the student learnt with
CHANGE = "Some weights of this method change while the student trains"
PART = {"0": "start", "0.25": "a quarter", "0.5": "half", "0.75": "three quarters", "0.99": "end"}


def draw(key: str) -> None:
    """Draw the whole playground of the method ``key``."""
    if demo.on():
        demo.lacks("Here one turns the knobs of a loss and sees what two trained networks make of it. That computes with their "
                   "weights, which are not part of this demo.")  # fmt: skip
        return
    st.fragment(_play)(key)


def _play(key: str) -> None:
    rows = _finished()
    if not rows:
        _nothing(key)
        return
    from kdengine import methods, playground  # load torch: not before somebody plays

    entry = methods.get(key)
    role = playground.partner_of(entry.card)
    if role and not _pairs(rows):
        _nothing(key)
        return
    try:
        which = _networks(key, rows, role)
        bench = _loaded(*which)
        place = _image(key, bench)
        chosen = _knobs(key, entry.params.model_json_schema())
        phase = _phase(key, *playground.phases(key, chosen))
        now, plain = _readings(key, which, chosen, phase)
    except KdError as error:
        blocks.problems(error.problems, "This cannot be computed")
        return
    scene = _scene(key, bench, place)
    _numbers(now, plain, scene)
    _pictures(now, scene)
    _gradients(now, plain, scene)
    images = f"{words.count(len(bench.batch.y), 'image')} of {bench.request.spec.dataset}"
    blocks.note(f"Computed on {images} with the best weights of each run.", *now.notices)


def _nothing(key: str) -> None:
    """Say what will be here, and what to press."""
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.markdown("Two trained networks will look at real images here, and you turn the knobs.", text_alignment="center")
        if not who.may("launch"):
            st.caption("A member of the lab has to train them first.")
            return
        if actions.pending("demo") or len(fetch.active()):
            st.caption("What trains now will be here when it has finished.")
        elif st.button("Run the demo (CPU is enough)", type="primary", icon=":material/play_arrow:", key="play-demo"):
            actions.run_demo()
            st.rerun()
        if st.button("Train a student this way", type="tertiary", icon=":material/arrow_forward:", key="play-train"):
            st.switch_page("pages/train.py", query_params={"method": key})


# ---- what is looked at -------------------------------------------------------------------------------------------------------


def _finished() -> list[dict[str, Any]]:
    """Return the finished runs that left weights, newest first."""
    folders = pulse.of().home.runs
    rows = tables.rows(fetch.runs(status="finished", limit=200))
    return [row for row in rows if RunDir(folders / row["run_id"]).best_weights("student").is_file()]


def _taught(row: Mapping[str, Any]) -> bool:
    return not words.missing(row["teacher"]) or catalogue.label_of(row["method"]).peers


def _pairs(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether two networks can be held against one another: one with what it learnt from, or two of one dataset."""
    datasets = [row["dataset"] for row in rows]
    return any(map(_taught, rows)) or len(set(datasets)) < len(datasets)


def _networks(key: str, rows: Sequence[Mapping[str, Any]], role: str | None) -> tuple[str, str, str, str | None, int]:
    """Draw the choice of runs and images behind a button that names them; return what ``_loaded`` needs."""
    line = st.container(horizontal=True, vertical_alignment="center")
    named = {row["run_id"]: row for row in rows}
    with line.popover("Networks and images", icon=":material/tune:"):
        own = [row for row in rows if row["method"] == key]
        first = own or [row for row in rows if role is None or _taught(row)] or rows
        titles = {run_id: _title(row) for run_id, row in named.items()}
        student = state.choice(st.selectbox, "Student", titles, name=f"{key}-student", default=first[0]["run_id"])
        partner = _partner(key, named, student, role) if role else None
        sets = {str(n): f"set {n + 1}" for n in range(DRAWS)}
        seed = state.choice(st.selectbox, "Images", sets, name=f"{key}-images", default="0", help="Another set of images")
    beside = f" · {role}: {'the one it learnt with' if partner is None else _title(named[partner])}" if role else ""
    line.caption(f"Student: {_title(named[student])}{beside}")
    return str(pulse.of().home.root), key, student, partner, int(seed)


def _partner(key: str, named: Mapping[str, Mapping[str, Any]], student: str, role: str) -> str | None:
    """Draw the choice of the teacher or peer; None is the one that the student learnt with."""
    request = fetch.folder(student).read_request()
    spec = request.spec
    known = [spec.teacher_run or request.teacher_run, spec.teacher_weights if role == "teacher" else spec.peers]
    same = [row for run_id, row in named.items() if run_id != student and row["dataset"] == spec.dataset]
    titles = {OWN: "the one it learnt with"} if any(known) else {}
    titles |= {row["run_id"]: _title(row) for row in sorted(same, key=lambda row: -(row["best_top1_frac"] or 0))}
    if not titles:
        return None
    chosen = state.choice(st.selectbox, role.capitalize(), titles, name=f"{key}-{role}", default=next(iter(titles)))
    return None if chosen == OWN else str(chosen)


def _title(row: Mapping[str, Any]) -> str:
    return f"{blocks.run_title(dict(row))}, {words.percent(row['best_top1_frac'])}"


@st.cache_resource(max_entries=6, show_spinner="Loading the networks")
def _loaded(root: str, key: str, student: str, partner: str | None, seed: int) -> Any:
    from kdengine import playground

    return playground.load(pulse.of().home, key, student, partner, seed=seed)


@st.cache_resource(max_entries=8, show_spinner=False)
def _read(which: tuple[Any, ...], knobs: tuple[tuple[str, Any], ...], phase: str, done: float) -> Any:
    from kdengine import playground

    return playground.read(_loaded(*which), dict(knobs), phase, done)


def _image(key: str, bench: Any) -> int:
    """Draw the images to choose from; return the place of the chosen one."""
    pixels = bench.pixels.permute(0, 2, 3, 1).numpy()
    names = [bench.class_names[int(y)] for y in bench.batch.y]
    titles = {str(i): f"![{name}]({tiles.thumbnail(x)}) {name}" for i, (name, x) in enumerate(zip(names, pixels, strict=True))}
    return int(state.choice(st.pills, "Image", titles, name=f"{key}-image", default="0") or 0)


def _scene(key: str, bench: Any, place: int) -> pictures.Scene:
    low, high = np.array(bench.data.low, dtype=np.float32), np.array(bench.data.high, dtype=np.float32)
    pixels = bench.pixels.permute(0, 2, 3, 1).numpy()
    return pictures.Scene(key, pixels, bench.batch.y.numpy(), tuple(bench.class_names), place, low, high)


# ---- knobs -------------------------------------------------------------------------------------------------------------------


def _knobs(key: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Draw a slider or a choice for every knob but those that count epochs; return their values."""
    found = {name: knob for name, knob in schema.get("properties", {}).items() if not name.endswith("_epochs")}
    if not found:
        st.markdown("This method has nothing to set.")
        return {}
    drawn: dict[str, str] = {}
    with st.grid(4, min_column_width=210, gap="medium", key=f"{key}-knobs"):
        for name, knob in sorted(found.items(), key=lambda item: "enum" not in item[1]):
            drawn[name] = _knob(key, name, knob, _default(knob, drawn))
    with st.container(horizontal=True, vertical_alignment="center"):
        defaults = {f"{key}-{name}": _key(_default(knob, drawn)) for name, knob in found.items()}
        st.button("Back to the defaults", icon=":material/restart_alt:", key=f"{key}-reset", on_click=_reset, args=(defaults,))
        st.caption(_advice(found))
    return {name: _value(found[name], text) for name, text in drawn.items()}


def _knob(key: str, name: str, knob: Mapping[str, Any], default: Any) -> str:
    """Draw one knob and return its value as text."""
    titles = steps(knob, default)
    slides = knob.get("type") in ("number", "integer")
    text = f"{knob.get('description', '')}. Default {titles[_key(default)]}: {knob.get('source', '')}."
    more: dict[str, Any] = {} if slides else {"required": True}
    widget = st.select_slider if slides else st.segmented_control
    with st.container():
        return str(state.choice(widget, name, titles, name=f"{key}-{name}", default=_key(default),
                                help=text[:1].upper() + text[1:], **more))  # fmt: skip


def _advice(knobs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one sentence of what to try: the first number that is no mere weight, if there is one."""
    numbers = [(name, str(knob.get("description", ""))) for name, knob in knobs.items() if knob.get("type") == "number"]
    name, text = next((pair for pair in numbers if "weight" not in pair[1] and pair[0] != "eps"), (numbers or [("", "")])[0])
    return f"Try {name}: {text}." if name else ""


def _default(knob: Mapping[str, Any], drawn: Mapping[str, str]) -> Any:
    """Return the default of a knob; some have another one that goes with a choice drawn before."""
    for choice, other in knob.get("per", {}).items():
        name, _, value = choice.partition("=")
        if drawn.get(name) == value:
            return other
    return knob.get("default")


def steps(knob: Mapping[str, Any], default: Any) -> dict[str, str]:
    """Return what a knob offers, as text -> title: each choice, or numbers that rise evenly in proportion around the default."""
    if "enum" in knob:
        return {str(option): str(option) for option in knob["enum"]}
    if knob.get("type") == "boolean":
        return {"False": "off", "True": "on"}
    low, high = knob.get("minimum", default / SPAN), knob.get("maximum", default * SPAN)
    if knob["type"] == "integer" and high - low <= WHOLE:
        return {str(n): str(n) for n in range(int(low), int(high) + 1)}
    if low == 0 and high <= 1:  # a share: even steps
        return {_key(v): f"{v:g}" for v in sorted({n / 10 for n in range(11) if n / 10 <= high} | {default, high})}
    centre = default or 1
    powers = range(int(np.floor(np.log10(centre / SPAN))), int(np.ceil(np.log10(centre * SPAN))) + 1)
    found = {float(f"{step * 10.0**power:.3g}") for power in powers for step in STEPS}
    kept = {v for v in found if max(low, centre / SPAN) <= v <= min(high, centre * SPAN)} | {
        default,
        *([low] if low == 0 else []),
    }
    if knob["type"] == "integer":
        kept = {round(v) for v in kept if v >= 1} | {default, *([0] if low == 0 else [])}
    return {_key(v): f"{v:,g}" if abs(v) < 1e6 else f"{v:,.0f}" for v in sorted(kept)}


def _key(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _value(knob: Mapping[str, Any], text: str) -> Any:
    kind = knob.get("type")
    if kind == "boolean":
        return text == "True"
    return int(text) if kind == "integer" else float(text) if kind == "number" else text


def _reset(defaults: Mapping[str, str]) -> None:
    for name, default in defaults.items():
        state.put_back(name, default)


def _phase(key: str, names: tuple[str, ...], first: str) -> str:
    if len(names) == 1:
        return first
    titles = {name: name for name in names}
    advice = "This method trains in several phases, each with a loss of its own"
    return str(
        state.choice(st.segmented_control, "Phase", titles, name=f"{key}-phase", default=first, help=advice, required=True)
    )


def _readings(key: str, which: tuple[Any, ...], chosen: dict[str, Any], phase: str) -> tuple[Any, Any]:
    """Return the method read at the chosen knobs, and at the defaults that go with the choices among them."""
    choices = tuple((name, value) for name, value in chosen.items() if isinstance(value, str | bool))
    now = _read(which, tuple(chosen.items()), phase, 0.0)
    done = 0.0
    if now.follows:
        with st.container(width=260):
            done = float(
                state.choice(st.select_slider, "How far the training is", PART, name=f"{key}-done", default="0", help=CHANGE)
            )
        now = _read(which, tuple(chosen.items()), phase, done)
    return now, _read(which, choices, phase, done)


# ---- what is shown -----------------------------------------------------------------------------------------------------------


def _numbers(now: Any, plain: Any, scene: pictures.Scene) -> None:
    """Draw the chosen image, and the value of every term beside its default."""
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        with st.container(width=84):
            st.html(tiles.grid({"": [(scene.name(scene.place), scene.images[scene.place])]}, 84))
        for name, value in {"whole loss": now.total, **now.terms}.items():
            default = plain.total if name == "whole loss" else plain.terms.get(name)
            label = f"{name}: labels" if name.rpartition("/")[2] == pictures.LABELS else name
            beside = None if default is None else f"default {default:.3g}"
            st.metric(label, f"{value:.3g}", beside, delta_color="off", delta_arrow="off", width="content")


def _pictures(now: Any, scene: pictures.Scene) -> None:
    """Draw everything that the method compares: tables over the whole width, the rest two by two."""
    st.subheader("What it compares", anchor=False)
    found = [(p, pictures.draw(p, scene)) for p in map(_arrays, now.pictures)]
    narrow = [(n, *pair) for n, pair in enumerate(found) if len(pair[1].figures) < 2]
    wide = [(n, *pair) for n, pair in enumerate(found) if len(pair[1].figures) >= 2]
    for n, picture, drawing in wide:
        _picture(n, picture, drawing)
    if narrow:
        with st.grid(
            2 if len(narrow) > 1 or not narrow[0][2].figures else 1, min_column_width=330, gap="large", key="play-narrow"
        ):
            for n, picture, drawing in narrow:
                with st.container():
                    _picture(n, picture, drawing)


def _picture(n: int, picture: pictures.Picture, drawing: pictures.Drawing) -> None:
    st.markdown(f"**{picture.title}**  \n:gray[{picture.note}]")
    if drawing.html:
        st.html(drawing.html)
    if len(drawing.figures) == 1:
        blocks.chart(drawing.figures[0], f"play-{n}", alt=picture.title, zoom=False)
    elif drawing.figures:
        with st.grid(len(drawing.figures), min_column_width=250, gap="small", key=f"play-grid-{n}"):
            for i, figure in enumerate(drawing.figures):
                blocks.chart(figure, f"play-{n}-{i}", alt=f"{picture.title}, {i + 1} of {len(drawing.figures)}", zoom=False)
    if drawing.said:
        st.caption(drawing.said)


def _arrays(found: Any) -> pictures.Picture:
    """Return a comparison of tensors as one of arrays."""
    own, theirs, of = (None if x is None else x.numpy() for x in (found.student, found.teacher, found.of))
    return pictures.Picture(found.title, found.kind, own, theirs, found.note, found.sides, found.axes, of, found.joint)


def _gradients(now: Any, plain: Any, scene: pictures.Scene) -> None:
    """Draw how the terms pull at the student, place by place and class by class."""
    if not now.pulls:
        st.caption("The student does not run in this phase, so nothing pulls at it.")
        return
    st.subheader("Where it pulls the student", anchor=False)
    with st.grid(2, min_column_width=330, gap="large", key="play-gradients"):
        with st.container():
            st.markdown("**Place by place**  \n:gray[The share of each term in the gradient; at the right its whole length.]")
            own = {place: {t: v for t, v in by.items() if "/" not in t} for place, by in now.pulls.items()}
            blocks.chart(pictures.pulls(own, plain.pulls, scene.method), "play-pulls", alt="Share of each term", zoom=False)
        if now.push:
            with st.container():
                st.markdown(
                    f"**Class by class**, image of class {scene.name(scene.place)}  \n:gray[Upwards: the step raises this score.]"
                )
                push = {name: values.numpy() for name, values in now.push.items() if "/" not in name}
                blocks.chart(pictures.pushes(push, scene), "play-push", alt="Push on the score of each class", zoom=False)
