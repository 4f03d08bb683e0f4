"""Side by side: one token looks back over the text; what does each mechanism let it see?"""

from __future__ import annotations

import streamlit as st

from pages.kit.frontier_panel import frontier_panel, table_panel
from pages.kit.hero import hero
from pages.kit.maps_panel import maps_panel
from pages.kit.page import Page, page
from pages.kit.words import _, prose


def body(here: Page) -> None:
    """One question to all mechanisms, their maps, and what each costs."""
    comparison = hero(here)
    if not here.presenting and comparison is not None:
        st.subheader(_("Every query at once"), anchor="maps")
        st.caption(prose("side_by_side", "maps"))
        maps_panel(here)
        st.subheader(_("Fidelity against cost"), anchor="cost")
        frontier_panel(here)
        table_panel(here, comparison)
        st.caption(prose("side_by_side", "said"))


page("side_by_side", body, beats=True)
