"""What ``store.compare`` finds in chosen runs, kept by (arguments, data version) like every answer of ``fetch``.

Reads: the store's results. Writes: nothing. Never: a computation of its own.
"""

from __future__ import annotations

import importlib
from typing import Any

import streamlit as st

from pages.parts import fetch, pulse
from store import queries


@st.cache_data(max_entries=300, show_spinner=False)
def _found(moment: tuple[str, int], question: str, ids: tuple[str, ...], args: tuple[Any, ...], more: tuple[Any, ...]) -> Any:
    module, _, name = question.partition(".")
    results = queries.results(pulse.of().store, ids)
    return getattr(importlib.import_module(f"store.compare.{module}"), name)(results, *args, **dict(more))


def of(question: str, ids: tuple[str, ...], *args: Any, **more: Any) -> Any:
    """Return ``store.compare.<question>``, such as "stats.ranking", of the results of the runs ``ids`` and what else it takes."""
    return _found(fetch.moment(ids), question, ids, args, tuple(sorted(more.items())))
