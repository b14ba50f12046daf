"""The launch form: widgets drawn from the catalogues and from each method's ``Params``; plain values come out, no logic.

Reads: cards, JSON schemas. Writes: the session's widgets and their values in the URL. Never: torch itself, run folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from kdengine.spec import RECIPE_FIELDS, RECIPES, RunSpec
from pages.parts import state, words

SPEC = RunSpec.model_json_schema()
SHOWN = ("epochs", "batch_size", "lr")  # fields of the recipe that are in view; the others are one click away
COLUMNS = 3
USUAL = 224  # pixels per side that networks for large images were designed for
LARGE = 64  # pixels per side from which images are large enough for the networks made for them


@dataclass
class Wish:
    """What the form asks for, as plain values: ``base`` for every run, ``per_method`` the knobs of each method."""

    methods: list[str] = field(default_factory=list)
    pairs: list[tuple[str | None, str]] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    base: dict[str, Any] = field(default_factory=dict)
    per_method: dict[str, dict[str, Any]] = field(default_factory=dict)
    suite: str | None = None


def choose(
    cards: Mapping[str, Any],
    schemas: Mapping[str, dict[str, Any]],
    models: Sequence[str],
    for_large: Sequence[str],
    data: Mapping[str, Any],
) -> Wish:
    """Draw the whole form and return what it asks for.

    ``cards``: method key -> card; ``schemas``: method key -> JSON schema of its knobs; ``models``: keys, small to large;
    ``for_large``: keys of models for large images, offered where some dataset has such; ``data``: dataset key -> card.
    """
    wish = Wish()
    ways = {"one": "One run", "suite": "A suite: methods × pairs × seeds"}
    way = state.choice(
        st.segmented_control, "How many", ways, name="many", default="one", required=True, label_visibility="collapsed"
    )
    many = way == "suite"
    wish.methods = _methods(cards, many)
    if many:
        _suite_pairs(wish, cards, models)
    else:
        large = any(card.native_size >= LARGE for card in data.values())
        _pair(wish, cards, [*models, *(for_large if large else ())])
    _data(wish, data)
    _recipe(wish)
    for method in wish.methods:
        _knobs(wish, cards[method], schemas[method], opened=not many)
    _details(wish, data[wish.base["dataset"]], many)
    _labels(wish, many)
    return wish


def _methods(cards: Mapping[str, Any], many: bool) -> list[str]:
    keys = sorted(cards, key=lambda k: (cards[k].family != "plain", cards[k].family, cards[k].year))
    titles = {k: f"{cards[k].title} · {words.FAMILIES[cards[k].family]}" for k in keys}
    first = next((k for k in keys if cards[k].family == "response"), keys[0])
    if many:
        plain = [k for k in keys if cards[k].family == "plain"][:1]
        chosen = state.choice(st.multiselect, "Methods", titles, name="methods", default=[*plain, first])
        return [k for k in keys if k in chosen]
    card = cards[state.choice(st.selectbox, "Method", titles, name="method", default=first)]
    st.markdown(f":gray[{card.one_line}] :gray-badge[{card.year}]")
    return [card.key]


def _pair(wish: Wish, cards: Mapping[str, Any], keys: Sequence[str]) -> None:
    card = cards[wish.methods[0]]
    taught = card.teacher_mode != "none" and not card.chain
    left, right = st.columns(2)
    with right:
        student = st.selectbox(
            "Student", keys, index=_place(keys, "resnet8"), key="student", bind="query-params", help=_help("student")
        )
    with left:
        if taught:
            teacher = st.selectbox(
                "Teacher", keys, index=_place(keys, "resnet20"), key="teacher", bind="query-params", help=_help("teacher")
            )
        elif card.peers:
            peers = st.multiselect("Peers", keys, default=[student], key="peers", bind="query-params", help=_help("peers"))
            wish.base["peers"] = tuple(peers)
        else:
            own = "The student's earlier self" if card.chain else "None: it learns from the labels alone"
            st.text_input("Teacher", own, disabled=True, key=f"no-teacher-{card.chain}")
    wish.pairs = [(teacher if taught else None, student)]


def _suite_pairs(wish: Wish, cards: Mapping[str, Any], models: Sequence[str]) -> None:
    offered = [f"{teacher} → {student}" for place, teacher in enumerate(models) for student in models[:place]]
    first = [p for p in ("resnet20 → resnet8",) if p in offered] or offered[:1]
    left, right = st.columns([2, 1])
    with left:
        pairs = st.multiselect("Pairs, teacher → student", offered, default=first, key="pairs", bind="query-params",
                               help="Methods without a teacher train the student of the pair alone")  # fmt: skip
    with right:
        n = st.number_input(
            "Seeds",
            1,
            20,
            2,
            key="n-seeds",
            bind="query-params",
            help="Runs per method and pair; their spread shows how much is chance",
        )
    wish.pairs = [(teacher, student) for teacher, student in (p.split(" → ") for p in pairs)]
    wish.seeds = list(range(int(n or 1)))
    for method in wish.methods:
        card = cards[method]
        if card.teacher_mode == "none" or card.chain:
            wish.per_method.setdefault(method, {})["teacher"] = None


def _data(wish: Wish, data: Mapping[str, Any]) -> None:
    left, right = st.columns(2)
    with left:
        titles = {k: f"{k}: {d.title}" if d.title != k else k for k, d in data.items()}
        key = state.choice(st.selectbox, "Data", titles, name="dataset", default=next(iter(data)), help=_help("dataset"))
    card = data[key]
    with right:
        more = {"placeholder": f"all {card.train_images:,}", "help": _help("train_images"), "bind": "query-params"}
        images = st.number_input("Training images", 2, card.train_images, None, step=100, key=f"images-{key}", **more)
    if card.download_mib:
        st.caption(f"{card.classes} classes; {card.download_mib:.0f} MiB are downloaded once, when the first run starts.")
    wish.base |= {"dataset": key, "train_images": images}


def _recipe(wish: Wish) -> None:
    left, right = st.columns([2, 3])
    with left:
        advice = "quick: for the demo data. paper, crd: as the literature trains on CIFAR; hours on a CPU"
        name = st.segmented_control(
            "Recipe", list(RECIPES), default="quick", required=True, key="recipe", bind="query-params", help=advice
        )
        name = name or "quick"
    wish.base["recipe"] = name
    with right:
        for column, fieldname in zip(st.columns(len(SHOWN)), SHOWN, strict=True):
            with column:
                wish.base[fieldname] = _field(fieldname, getattr(RECIPES[name], fieldname), f"{fieldname}-{name}")


def _knobs(wish: Wish, card: Any, schema: dict[str, Any], *, opened: bool) -> None:
    """Draw one method's knobs, choices first: the bounds, help and source of each come from its schema."""
    knobs = sorted(schema.get("properties", {}).items(), key=lambda item: "enum" not in item[1])
    if not knobs:
        return
    own = wish.per_method.setdefault(card.key, {})
    values: dict[str, Any] = own.setdefault("params", {})
    with st.expander(f"Knobs of {card.title}", expanded=opened):
        for place, (name, knob) in enumerate(knobs):
            if place % COLUMNS == 0:
                columns = st.columns(COLUMNS)
            with columns[place % COLUMNS]:
                source = f" Default from: {knob['source']}." if knob.get("source") else ""
                default, key = knob.get("default"), f"{card.key}-{name}"
                for choice, other in knob.get("per", {}).items():  # the default that goes with a choice above
                    if choice in [f"{drawn}={value}" for drawn, value in values.items()]:
                        default, key = other, f"{card.key}-{name}-{choice.partition('=')[2]}"
                values[name] = widget(name, knob, default, key, f"{knob.get('description', '')}.{source}")
        if card.chain:
            own["generation"] = _field("generation", 1, f"{card.key}-generation")


def _details(wish: Wish, card: Any, many: bool) -> None:
    recipe = RECIPES[wish.base["recipe"]]
    with st.expander("More: optimiser, images, precision, the teacher's own training"):
        rest = [f for f in RECIPE_FIELDS if f not in SHOWN and f != "milestones"]
        size = min(card.native_size, USUAL) if card.native_size >= LARGE else 32
        extra = {"image_size": size, "val_frac": 0.0, "precision": "auto", "device": "auto", "seed": 0}
        teacher = ("teacher_epochs", "teacher_train_images", "teacher_seed")
        values = {f: getattr(recipe, f) for f in rest} | extra | {f: RunSpec.model_fields[f].get_default() for f in teacher}
        if many:
            values.pop("seed")
        for place, (name, default) in enumerate(values.items()):
            if place % COLUMNS == 0:
                columns = st.columns(COLUMNS)
            with columns[place % COLUMNS]:
                tail = f"-{wish.base['recipe']}" if name in RECIPE_FIELDS else ""
                tail = f"-{size}" if name == "image_size" and size >= LARGE else tail
                wish.base[name] = _field(name, default, f"{name}{tail}")
    if not many:
        wish.seeds = [int(wish.base.pop("seed"))]


def _labels(wish: Wish, many: bool) -> None:
    with st.expander("Name it: suite, tags, note", expanded=many):
        left, right = st.columns(2)
        with left:
            suite = st.text_input(
                "Suite", "my-suite" if many else "", key=f"suite-{many}", help=_help("suite"), placeholder="none"
            )
        with right:
            tags = st.text_input("Tags", key="tags", help=_help("tags") + ", separated by spaces", placeholder="none")
        note = st.text_input("Note", key="note", help=_help("note"), placeholder="none")
    wish.base |= {"tags": tuple((tags or "").split()), "note": note or ""}
    if many:
        wish.suite = (suite or "").strip() or "my-suite"
    elif (suite or "").strip():
        wish.base["suite"] = (suite or "").strip()


def _field(name: str, default: Any, key: str) -> Any:
    label = words.FIELDS.get(name) or name[0].upper() + name[1:].replace("_", " ")
    return widget(label, SPEC["properties"][name], default, key, _help(name))


def widget(label: str, schema: Mapping[str, Any], default: Any, key: str, help: str) -> Any:
    """Draw the widget that fits one field of a JSON schema and return its value; an empty optional number is None."""
    kind = next((s for s in schema.get("anyOf", [schema]) if s.get("type") != "null"), schema)
    if "enum" in kind:
        options: Sequence[Any] = kind["enum"]
        return st.selectbox(label, options, index=options.index(default), key=key, bind="query-params", help=help)
    if kind.get("type") == "boolean":
        return st.toggle(label, bool(default), key=key, bind="query-params", help=help)
    if kind.get("type") in ("integer", "number"):
        return _number(label, kind, default, key, help)
    return st.text_input(label, "" if default is None else str(default), key=key, bind="query-params", help=help)


def _number(label: str, kind: Mapping[str, Any], default: Any, key: str, help: str) -> Any:
    whole = kind["type"] == "integer"
    low, high = kind.get("minimum"), kind.get("maximum", kind.get("exclusiveMaximum"))
    if whole:
        bounds: dict[str, Any] = {
            "min_value": None if low is None else int(low),
            "max_value": None if high is None else int(high),
            "step": 1,
        }
    else:
        bounds = {"min_value": None if low is None else float(low), "max_value": None if high is None else float(high)}
        bounds |= {"step": _step(default), "format": "%g"}
    value = None if default is None else int(default) if whole else float(default)
    return st.number_input(
        label, value=value, key=key, bind="query-params", help=help, placeholder="as the recipe has it", **bounds
    )


def _step(default: Any) -> float:
    """Return a step that suits the size of the default: a tenth of its power of ten."""
    return (
        0.1
        if not default
        else 10.0 ** (len(f"{abs(default):.0f}") - 2)
        if abs(default) >= 1
        else float(f"{abs(default) / 10:.0e}")
    )


def _help(name: str) -> str:
    text = SPEC["properties"][name].get("description", "")
    return str(text[:1].upper() + text[1:])


def _place(keys: Sequence[str], wanted: str) -> int:
    return keys.index(wanted) if wanted in keys else 0
