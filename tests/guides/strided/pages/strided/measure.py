"""Strides measured: the map beside the exact one."""

from __future__ import annotations

import streamlit as st

from pages.kit.context import Page
from pages.kit.map_card import maps_card
from pages.kit.text import prose
from pages.strided.hero import Stepped


def measure(page: Page, strides: Stepped) -> None:
    """Exact attention, strided attention and their difference; a click on a pair asks why."""
    st.caption(prose("strided", "maps"))
    maps_card(page, strides.mechanism)
