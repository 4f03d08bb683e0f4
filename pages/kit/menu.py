"""The menu, and the guard that every page begins with.

A page is found by standing in `pages/`; its title, section and place in the menu stand in `assets/prose/en/menu.json`.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page

from pages.kit import state
from pages.kit.words import _, data

_PAGES = Path(__file__).parents[1]
_FRAMED = "_framed"
MENU = "with its menu"
HOME = "side_by_side"


def navigation() -> Page:
    """Register every page and give the one that was asked for."""
    st.session_state[_FRAMED] = MENU
    entries = data("prose/en/menu.json")
    names = sorted((path.stem for path in _PAGES.glob("[a-z]*.py")), key=lambda name: entries[name]["order"])
    sections: dict[str, list[Page]] = {}
    for name in names:
        made = st.Page(
            _PAGES / f"{name}.py", title=_(entries[name]["title"]), url_path=None if name == HOME else name, default=name == HOME
        )
        sections.setdefault(_(entries[name]["section"]) if entries[name]["section"] else "", []).append(made)
    # The menu is drawn by `links`, because Streamlit's own would drop the state from the address at each change of page.
    return st.navigation(sections, position="hidden")


def links() -> None:
    """The menu: every page under its section, each link with the whole state, so that Back leads back.

    Where a page's file runs alone, as in a test, there is no menu.
    """
    if st.session_state.get(_FRAMED) != MENU:
        return
    entries = data("prose/en/menu.json")
    section = ""
    with st.container(key="menu", gap=None):
        for name in sorted((path.stem for path in _PAGES.glob("[a-z]*.py")), key=lambda name: entries[name]["order"]):
            if entries[name]["section"] != section:
                section = entries[name]["section"]
                st.caption(_(section))
            st.page_link(_PAGES / f"{name}.py", label=_(entries[name]["title"]), query_params=state.addressed(), width="stretch")


def guard() -> None:
    """Frame the session if `app.py` has not.

    On a cold server Streamlit runs a deep link's page without `app.py`: it knows the pages' folder, but not yet the
    menu. Registering the menu and running again puts that right.
    """
    if _FRAMED not in st.session_state:
        navigation()
        st.rerun()
