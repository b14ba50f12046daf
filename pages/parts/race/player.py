"""The player of a race in the page: the numbers of every frame as the browser takes them, drawn there at once.

Reads: an order; the scripts and styles beside this file. Writes: nothing. Never: the store, pixels (``picture.js`` draws them).
"""

from __future__ import annotations

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from store.export.race.order import Order
from store.export.race.prepare import Prepared, prepare
from store.export.race.words import THEMES, axis_words, epoch_ticks

HERE = Path(__file__).parent
SCRIPTS = ("numbers.js", "picture.js", "player.js")
FINEST = 1000  # places are sent as whole thousandths of a row
TOLD = 3  # racers that the text for those who cannot see names
_player = st.components.v2.component(
    "race_player",
    html=(HERE / "player.html").read_text(encoding="utf-8"),
    css=(HERE / "player.css").read_text(encoding="utf-8"),
    js="\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
)


def draw(numbers: dict[str, Any]) -> None:
    """Draw the player of what ``packed`` returned."""
    _player(key="race-player", data=numbers)


@st.cache_resource(max_entries=60, show_spinner=False)
def _packed(key: str, follows: bool, _order: Order) -> dict[str, Any]:
    return packed(_order, follows=follows)


def numbers(order: Order, *, follows: bool) -> dict[str, Any]:
    """Return ``packed``, kept for the same order."""
    return _packed(order.key({}), follows, order)


def moving(order: Order) -> Order:
    """Return the order as it is played: a picture of the last frame is a still of the same race."""
    if order.options.format != "png" or len(order.epochs) < 2:
        return order
    return order.model_copy(update={"options": order.options.model_copy(update={"format": "mp4"})})


def packed(order: Order, *, follows: bool) -> dict[str, Any]:
    """Return a race as JSON: its words, and its numbers as base64 (``filled`` float64, ``places`` uint16, ``presence``
    uint8, rows first).

    ``follows``: it takes the page's own background and text, because it is drawn in the page's theme.
    """
    found = prepare(moving(order))
    options, racers = order.options, order.racers
    return _numbers(found) | {
        "stamp": f"{order.key({})}{follows}", "kind": "lines" if options.kind == "lines" else "bars",
        "names": [racer.name for racer in racers], "colours": [racer.colour for racer in racers],
        "lit": [not options.highlight or racer.name in options.highlight for racer in racers],
        "title": order.title, "subtitle": order.subtitle, "caption": order.caption if options.caption else "",
        "lower": order.lower_is_better, "width": options.width, "height": options.height, "fps": options.fps,
        "hold_s": options.hold_s, "rest": options.format == "png", "palette": asdict(THEMES[options.theme]), "follows": follows,
        "axis": _axis(found), "epochTicks": epoch_ticks(order.epochs), "about": about(order, found),
    }  # fmt: skip


def _numbers(found: Prepared) -> dict[str, Any]:
    epochs, late = found.order.epochs, bool((found.presence < 1).any())
    return {
        "epochs": list(epochs), "frames": found.frames, "steps": found.order.options.steps_for(len(epochs)),
        "filled": text_of(found.filled, "<f8"), "places": text_of(np.rint(found.places * FINEST), "<u2"),
        "presence": text_of(np.rint(found.presence * 255), "u1") if late else "",
        "starts": np.isnan(found.filled).sum(axis=0).tolist(), "shown": found.shown,
        "ended": [None if np.isnan(epoch) else float(epoch) for epoch in found.ended],
        "extremes": [float(np.nanmin(found.filled)), float(np.nanmax(found.filled))],
    }  # fmt: skip


def text_of(values: Any, kind: str) -> str:
    """Return numbers as base64 of their bytes, ``kind`` as numpy names it."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


def about(order: Order, found: Prepared) -> str:
    """Say in a sentence what races and who leads at the end."""
    best = np.lexsort((np.arange(len(order.racers)), found.places[-1]))[:TOLD]
    ends = [f"{order.racers[i].name} with {found.axis.value_text(float(found.filled[-1, i]))}" for i in best]
    what = f"{order.measure or 'Values'} of {len(order.racers)} over {len(order.epochs)} epochs"
    return f"{what}. At the end {ends[0]} leads" + (f", then {', '.join(ends[1:])}." if ends[1:] else ".")


def _axis(found: Prepared) -> dict[str, Any]:
    axis = found.axis
    return {
        "low": axis.low, "high": axis.high, "ticks": [[tick, axis.tick_text(tick)] for tick in axis.ticks],
        "decimals": axis.decimals, "unit": axis.unit, "broken": axis.broken, "words": axis_words(found),
    }  # fmt: skip
