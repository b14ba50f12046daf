"""What a demo says of itself: that its runs were recorded, what it leaves out, and how to have the whole.

Reads: the pulse. Writes: nothing. Never: what a page shows besides.
"""

from __future__ import annotations

import streamlit as st

from pages.parts import pulse

ICON = ":material/inventory_2:"
OWN = "On a machine of your own it works: `make demo` in a clone of KD Explorer."


def on() -> bool:
    """Return whether this app is a demo over recorded runs."""
    return pulse.of().still


def mark() -> None:
    """Draw what stands at the head of every page where an app that trains says what is running."""
    st.badge("Demo: recorded runs", icon=ICON, color="gray", help="Nothing is trained here, and nothing that you do changes it.")


def welcome() -> None:
    """Say on the first page what this is, and how to train oneself."""
    st.markdown(
        f"{ICON} **This is a demo over recorded trainings.** Nothing is trained here, and nothing that you do changes it. To "
        "train such pairs yourself, get KD Explorer and type `make demo`: two minutes, no GPU needed; its README says the rest."
    )


def lacks(sentence: str, own: str = OWN) -> None:
    """Say what a demo leaves out, and how to have it all the same."""
    st.markdown(f"{ICON} {sentence} :gray[{own}]")
