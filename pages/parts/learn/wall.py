"""The wall of methods: a card each, filtered and sorted by what the URL says; a card opens the method's page.

Reads: the light catalogue, measured costs and results through ``fetch``. Writes: the URL. Never: torch, the store itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import streamlit as st

from kdengine import catalogue
from kdengine.catalogue import Label
from pages.parts import fetch, state, words
from pages.parts.learn import evidence
from store.export.colours import SYMBOLS, style_of

HERE = "pages/methods.py"
GLYPHS = {
    "circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "x": "✕", "circle-open": "○",
}  # fmt: skip
SORTS = {"family": "Family", "year": "Year, oldest first", "cost": "Cost, cheapest first"}
NAMES = ("family", "needs", "sort")  # what the URL keeps of the wall while a method's page is open
SOUGHT = "wall-sought"  # in the session: the URL's q goes with the field that is bound to it, which costs a step of the way back
# the whole card is its link: the link's area covers the card, and what is hovered or focused shows
STYLE = """<style>
[class*="st-key-method-card-"] {position: relative; border-left-width: 4px;}
[class*="st-key-method-card-"] > div:has(a) {position: static;}
[class*="st-key-method-card-"] a {background: none; padding: 0; margin: 0;}
[class*="st-key-method-card-"] a span {white-space: normal;}
[class*="st-key-method-card-"] a::after {content: ""; position: absolute; inset: 0; border-radius: 6px;}
[class*="st-key-method-card-"] a:hover::after {background: rgba(128, 136, 150, 0.08);}
[class*="st-key-method-card-"] a:focus-visible::after {outline: 2px solid currentColor;}
[class*="st-key-method-card-"] abbr {position: relative; z-index: 1;}
%s
</style>"""


@dataclass(frozen=True)
class Filters:
    """What the wall shows: families and needs (any method if empty), words to be found, and the order."""

    family: Sequence[str] = ()
    needs: Sequence[str] = ()
    q: str = ""
    sort: str = "family"

    def query(self) -> dict[str, Any]:
        """Return them, but what is sought, as parameters of a URL; what is as by default is left out."""
        values = {"family": list(self.family), "needs": list(self.needs), "sort": self.sort}
        return {name: value for name, value in values.items() if value and value != "family"}


@dataclass(frozen=True)
class Measured:
    """What was measured here: method -> (times labels only, runs), method -> best result."""

    costs: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    bests: Mapping[str, evidence.Best] = field(default_factory=dict)


def draw() -> None:
    """Draw filters and cards."""
    labels = catalogue.labels()
    filters = _choose(labels)
    known = measured()
    shown = chosen(labels.values(), filters, known)
    edges = "".join(f".st-key-method-card-{m.key} {{border-left-color: {style_of(m.key).colour};}}\n" for m in shown)
    st.html(STYLE % edges)
    if not shown:
        st.markdown("No method fits these filters. Take one of them away.")
    with st.grid(min_column_width=300, gap="small", key="method-wall"):
        for label in shown:
            with st.container(border=True, height="stretch", gap="xsmall", key=f"method-card-{label.key}"):
                title = f"**{label.title}**&ensp;:gray[{label.key}]"
                st.page_link(HERE, label=title, query_params={"method": label.key} | filters.query())
                st.html(body(label, known))
    st.caption(f"{len(shown)} of {words.count(len(labels), 'method')}. {_legend()}")


def kept() -> dict[str, list[str]]:
    """Return what was chosen on the wall, while a method's page is open, so that the way back leads to the same cards."""
    sought = st.session_state.get(SOUGHT)
    return {name: values for name in NAMES if (values := state.chosen_all(name))} | ({"q": [sought]} if sought else {})


def measured() -> Measured:
    """Return costs and best results of all methods, as the store knows them."""
    costs = {row.method: (float(row.cost_x), int(row.n)) for row in fetch.ask("method_costs").itertuples()}
    return Measured(costs, evidence.bests(fetch.ask("leaderboard")))


def chosen(labels: Any, filters: Filters, known: Measured) -> list[Label]:
    """Return the labels that fit all filters, in the order that they ask for."""
    wanted = filters.q.casefold().split()
    fitting = [
        label
        for label in labels
        if (not filters.family or label.family in filters.family)
        and set(filters.needs) <= wants(label)
        and all(word in f"{label.key} {label.title} {label.one_line}".casefold() for word in wanted)
    ]
    place = list(words.FAMILIES).index
    orders = {
        "family": lambda m: (place(m.family) if m.family in words.FAMILIES else 99, m.year, m.key),
        "year": lambda m: (m.year, m.key),
        "cost": lambda m: (known.costs.get(m.key, (float("inf"), 0))[0], m.key),
    }
    return sorted(fitting, key=orders[filters.sort])


def wants(label: Label) -> set[str]:
    """Return what a method compares or needs besides, as keys of ``words.NEEDS``."""
    return set(label.matched) | (label.needs - {"logits", "embedding", "stages", "preacts", "stem", "blocks"})


def in_words(label: Label) -> str:
    """Return what a method compares and what it needs besides, in plain words."""
    if not label.matched:
        return "needs nothing but labels"
    more = [words.NEEDS[need] for need in words.NEEDS if need in wants(label) - label.matched]
    through = label.teacher_mode == "graph" and "input_gradients" not in label.needs
    more += ["gradients through the teacher"] if through else []
    more += ["its earlier self as the teacher"] if label.chain else ["peers, no teacher"] if label.peers else []
    compared = words.listed([words.NEEDS[need] for need in words.NEEDS if need in label.matched])
    return f"compares {compared}" + (f"; needs {words.listed(more)}" if more else "")


def body(label: Label, known: Measured) -> str:
    """Return what stands below the title of a card, as one line of HTML."""
    quiet = '<div style="opacity:0.75;font-size:0.85rem;line-height:1.45">{}</div>'
    lines = [
        f'<div style="font-size:0.95rem;line-height:1.45;margin-bottom:0.4rem">{escape(label.one_line)}</div>',
        quiet.format(escape(in_words(label))),
        f'<div style="font-size:0.85rem;line-height:1.6">{_marks(label)}</div>',
        quiet.format(f"{cost_html(label, known)}<br>{best_html(label.key, known)}"),
    ]
    return "".join(lines)


def summary(label: Label, known: Measured) -> str:
    """Return family, year, fidelity, what it compares, cost and best result of a method, as HTML for its page."""
    facts = [_marks(label), escape(in_words(label)), cost_html(label, known), best_html(label.key, known)]
    phases = " → ".join(label.phases)
    facts += [escape(f"trains in phases: {phases}")] if len(label.phases) > 1 else []
    return f'<div style="font-size:0.9rem;line-height:1.7">{" &nbsp;·&nbsp; ".join(facts)}</div>'


def cost_html(label: Label, known: Measured) -> str:
    """Return the measured cost of a method, with how it was measured in its hint."""
    if label.key not in known.costs:
        return _hint("cost –", "Not measured here yet: needs a finished run, and one of the same student from labels only")
    times, n = known.costs[label.key]
    before = [phase for phase in label.phases if phase != "main"]
    more = f" after phase {words.listed(before)}" if before else ""
    how = "Time per training image of its main phase, median of the runs"
    return _hint(f"{times:.1f} × the time of labels only{more}, {words.count(n, 'run')} here", how)


def best_html(key: str, known: Measured) -> str:
    """Return the best result of a method here."""
    if key not in known.bests:
        return "no result here yet"
    best = known.bests[key]
    how = f"Best epoch on test, mean over {words.count(best.n, 'seed')}, {best.networks}"
    return _hint(f"best here: {words.percent(best.frac)} ({best.dataset}, n = {best.n})", how)


def _marks(label: Label) -> str:
    style = style_of(label.key)
    plain, meaning = words.FIDELITY.get(label.fidelity, (label.fidelity, ""))
    glyph = f'<span style="color:{style.colour}">{GLYPHS[SYMBOLS.get(label.family, "circle")]}</span>'
    return f"{glyph} {words.FAMILIES.get(label.family, label.family)} · {label.year} · {_hint(plain, meaning)}"


def _hint(text: str, meaning: str) -> str:
    style = "text-decoration:none;cursor:help"
    return f'<abbr title="{escape(meaning)}" style="{style}">{escape(text)}</abbr>' if meaning else escape(text)


def _choose(labels: Mapping[str, Label]) -> Filters:
    present = {label.family for label in labels.values()}
    families = {name: title for name, title in words.FAMILIES.items() if name in present}
    wanted = set().union(*(wants(label) for label in labels.values()))
    needs = {name: title for name, title in words.NEEDS.items() if name in wanted}
    search, need, order = st.columns([3, 3, 2])
    with search:
        q = st.text_input(
            "Search", key="q", bind="query-params", type="search", live="300ms", placeholder="a word of its title or idea"
        )
        st.session_state[SOUGHT] = q
    with need:
        chosen_needs = state.choice(st.multiselect, "Compares or needs", needs, name="needs", default=[], placeholder="anything")
    with order:
        sort = state.choice(st.selectbox, "Sorted by", SORTS, name="sort", default="family")
    family = state.choice(
        st.pills, "Family", families, name="family", default=[], selection_mode="multi", label_visibility="collapsed"
    )
    return Filters(tuple(family), tuple(chosen_needs), q or "", sort)


def _legend() -> str:
    kinds = [f"{plain}: {meaning}" for plain, meaning in words.FIDELITY.values()]
    return "Cost is time per training image, measured on the runs here. " + ". ".join(k[0].upper() + k[1:] for k in kinds) + "."
