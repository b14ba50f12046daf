"""KD Explorer: ``streamlit run app.py``. The server imports this file once; each look at a page runs it as a script.

Reads: the URL. Writes: nothing. Never: results, run folders, torch.
"""

from __future__ import annotations

import streamlit as st

if __name__ == "__main__":  # somebody looks: Streamlit runs the script, anew after each click
    from kdengine.errors import KdError
    from pages.parts import blocks, entrance, frame, pulse

    page = frame.navigation()
    with st.container(width=blocks.WIDTH):
        try:
            if not entrance.closed():
                pulse.of()
                pulse.warm_up()
            page.run()
        except KdError as error:
            blocks.problems(error.problems, "This page cannot be shown")
else:  # the server starts: Streamlit has read that an app stands here, and imports it
    from pages.parts import serving

    serving.demand_readiness()
    app = st.App(__file__, routes=serving.routes(), middleware=serving.layers(), lifespan=serving.lifespan)
