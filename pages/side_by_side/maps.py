"""The maps of the home page: choose a mechanism and its dials."""

from __future__ import annotations

import streamlit as st

from longattn_core.registry import mechanisms
from pages.kit import state
from pages.kit.context import Page
from pages.kit.dials import dials
from pages.kit.map_card import maps_card
from pages.kit.text import _


def maps(page: Page, default: str = "lsh") -> None:
    """Choose a mechanism and its dials; draw the maps; answer the click."""
    kinds = mechanisms()
    names = [key for key in kinds if key != "exact"]
    key = state.choose("map", _("Mechanism"), names, default=default, labels=lambda name: _(kinds[name].title), view=True)
    with st.expander(_("Dials of this mechanism"), expanded=state.recall("dials", False, lambda text: text == "1")):
        st.caption(_(kinds[key].idea))
        mechanism = dials(kinds[key], f"m.{key}", columns=3)
    maps_card(page, mechanism)
