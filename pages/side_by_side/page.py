"""Side by side: one token looks back over the text; what does each mechanism let it see?"""

from __future__ import annotations

import streamlit as st

from pages.kit.context import Page
from pages.kit.page import show_page
from pages.kit.text import _, prose
from pages.side_by_side.frontier import frontier_panel, table_panel
from pages.side_by_side.hero import hero
from pages.side_by_side.maps import maps_panel


def body(page: Page) -> None:
    """One question to all mechanisms, their maps, and what each costs."""
    comparison = hero(page)
    if not page.presenting and comparison is not None:
        st.subheader(_("Every query at once"), anchor="maps")
        st.caption(prose("side_by_side", "maps"))
        maps_panel(page)
        st.subheader(_("Fidelity against cost"), anchor="cost")
        frontier_panel(page)
        table_panel(page, comparison)
        st.caption(prose("side_by_side", "said"))


show_page("side_by_side", body, polling=True)
