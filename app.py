"""Frame and router of KD Explorer: ``streamlit run app.py``.

Reads: the URL. Writes: nothing. Never: results, run folders, torch.
"""

from __future__ import annotations

import streamlit as st

from kdengine.errors import KdError
from pages.parts import blocks, frame, pulse

page = frame.navigation()
with st.container(width=blocks.WIDTH):
    try:
        pulse.of()
        pulse.warm_up()
        page.run()
    except KdError as error:
        blocks.problems(error.problems, "This page cannot be shown")
