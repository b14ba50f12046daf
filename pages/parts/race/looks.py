"""How a race looks: four choices in a row, the rest behind a button; all of them kept in the URL.

Reads: the URL. Writes: the URL. Never: what races.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import streamlit as st

from pages.parts import state, who
from store.export.race import options as known
from store.export.race.options import Format, Options
from store.export.race.order import Order

FORMATS = {"mp4": "MP4", "gif": "GIF", "png": "PNG"}
ABOUT_FORMATS = "MP4 for talks, GIF for pages, PNG: the last frame"
KINDS = {"bars": "Bars", "lines": "Lines"}
THEMES = {"light": "Light", "dark": "Dark", "print": "Print"}
SECONDS = (5, 10, 20, 40)
USUAL = "usual"
MOST_AT_ONCE = Options.model_fields["top"].default
FPS = {"mp4": (20, 25, 30, 50, 60), "gif": (10, 20, 25, 50)}  # the delays of a GIF are counted in 1/100 s
AXES = {"zoom": "Near the data", "zero": "At zero", "from": "At a value"}
EASINGS = {"smooth": "Smooth", "linear": "Even"}
LIT = 2  # names that can be highlighted


def page_theme() -> str:
    """Return the theme in which the reader sees the page."""
    return "dark" if st.context.theme.type == "dark" else "light"


def choose(order: Order) -> Order:
    """Draw the choices and return ``order`` with the look that is chosen.

    Raises:
        KdError: choices that do not fit this race, such as an axis that begins behind all values.
    """
    epochs = len(order.epochs)
    formats = FORMATS if epochs > 1 else {"png": "PNG"}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        format_ = cast(Format, next(iter(formats)))
        if who.may("export"):  # else there is no file that would have a format, a size, a speed
            format_ = cast(Format, _one("Format", formats, "format", format_, help=ABOUT_FORMATS))
        kind = _one("Drawn as", KINDS, "kind", "bars")
        theme = _one("Colours", THEMES, "theme", page_theme(), help="Print: black on white, for paper")
        length = st.empty()
        more = st.popover("More options", icon=":material/tune:", key="race-more")
    with more:
        values = _more(order, format_, kind)
    usual = Options.usual(format_, **values, theme=theme)
    if format_ != "png":
        with length:
            values["steps"] = _steps(usual, epochs)
    title = _typed("title", 200)
    look = Options.usual(format_, **values, theme=theme)
    return Order(**dict(order) | {"options": look} | ({"title": title} if title else {}))


def _more(order: Order, format_: str, kind: str) -> dict[str, Any]:
    """Draw what is chosen rarely, and return it as values of ``Options``."""
    moves = format_ != "png"
    st.text_input("Title", max_chars=200, key="title", bind="query-params", placeholder=order.title)
    names = {racer.name: racer.name for racer in order.racers}
    lit = state.choice(
        st.multiselect, "Highlight one or two; the others turn grey", names, name="highlight", default=[], placeholder="nobody"
    )
    usual = "{}x{}".format(*known.USUAL_SIZE[format_])
    sizes = {size: size.replace("x", " × ") for size in known.SIZES}
    size = state.choice(st.selectbox, "Size, pixels", sizes, name="size", default=usual) if who.may("export") else usual
    width, height = known.SIZES[size]
    values: dict[str, Any] = {"kind": kind, "width": width, "height": height, "highlight": tuple(lit[:LIT])}
    racers = len(order.racers)
    if racers > 1:
        # no slider: it would keep the number of another race, and hide who is the one more
        counts = {USUAL: f"{min(racers, MOST_AT_ONCE)} (usual)"} | {str(n): str(n) for n in range(1, min(20, racers) + 1)}
        top = state.choice(st.selectbox, "In view at a time", counts, name="top", default=USUAL)
        values["top"] = min(racers, MOST_AT_ONCE) if top == USUAL else int(top)
    values |= _axis(order)
    digits = {"auto": "As needed"} | {str(n): str(n) for n in range(5)}
    chosen = state.choice(st.selectbox, "Digits behind the point", digits, name="decimals", default="auto")
    values["decimals"] = None if chosen == "auto" else int(chosen)
    values["caption"] = st.toggle("Caption", True, key="caption", bind="query-params", help="What was averaged, and which runs")
    return values | (_motion(format_) if moves else {})


def _axis(order: Order) -> dict[str, Any]:
    where = _one("The axis starts", AXES, "axis", "zoom")
    if where != "from":
        return {"axis": where}
    least = min(value for racer in order.racers for value in racer.values if value is not None)
    start = st.number_input(f"From ({order.unit.strip() or 'value'})", value=round(least, 2), key="from", bind="query-params")
    return {"axis_from": float(start)}


def _motion(format_: str) -> dict[str, Any]:
    if not who.may("export"):
        return {}
    usual = str(known.USUAL_FPS[format_])
    rates = {str(fps): str(fps) for fps in FPS[format_]}
    fps = state.choice(st.selectbox, "Frames per second", rates, name="fps", default=usual)
    hold = st.slider("The last frame stays, seconds", 0.0, 10.0, 2.0, 0.5, key="hold", bind="query-params")
    easing = _one("Bars change places", EASINGS, "easing", "smooth")
    values = {"fps": int(fps), "hold_s": float(hold), "easing": easing}
    classic = st.toggle(
        "Drawn by the package bar_chart_race", key="classic", bind="query-params",
        help="The unchanged picture of the package that the paper used, to compare with; the preview shows ours",
    )  # fmt: skip
    return values | ({"kind": "classic"} if classic else {})


def _steps(usual: Options, epochs: int) -> int | None:
    """Draw the choice of a length and return the frames from epoch to epoch that it means; None = the usual ones."""
    reached = {seconds: _steps_for(usual, seconds, epochs) for seconds in SECONDS}
    near = {s: n for s, n in reached.items() if abs(usual.model_copy(update={"steps": n}).seconds(epochs) - s) < 0.25 * s}
    titles = {USUAL: f"{usual.seconds(epochs):.0f} s (usual)"} | {str(s): f"about {s} s" for s in near}
    chosen = state.choice(st.selectbox, "Length", titles, name="length", default=USUAL, width=150)
    return None if chosen == USUAL else near[int(chosen)]


def _steps_for(usual: Options, seconds: float, epochs: int) -> int:
    moving = seconds - sum(usual.held_frames) / usual.fps
    return min(60, max(1, round(usual.fps * moving / (epochs - 1))))


def _typed(name: str, most: int) -> str:
    """Return what was typed into a text field, tidy and not too long."""
    return " ".join(str(st.session_state.get(name) or "").split())[:most]


def _one(label: str, titles: Mapping[str, str], name: str, default: str, **more: Any) -> str:
    return str(state.choice(st.segmented_control, label, titles, name=name, default=default, required=True, **more))
