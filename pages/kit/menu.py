"""The menu, and the guard that every page begins with.

A page is found by standing in `pages/`; its title, section and place in the menu stand in `assets/prose/en/menu.json`.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page

from pages.kit.words import _, data

_PAGES = Path(__file__).parents[1]
_FRAMED = "_framed"
HOME = "side_by_side"


def navigation() -> Page:
    """Register every page and give the one that was asked for."""
    st.session_state[_FRAMED] = True
    entries = data("prose/en/menu.json")
    names = sorted((path.stem for path in _PAGES.glob("[a-z]*.py")), key=lambda name: entries[name]["order"])
    sections: dict[str, list[Page]] = {}
    for name in names:
        made = st.Page(
            _PAGES / f"{name}.py",
            title=_(entries[name]["title"]),
            url_path=None if name == HOME else name,
            default=name == HOME,
        )
        sections.setdefault(_(entries[name]["section"]) if entries[name]["section"] else "", []).append(made)
    return st.navigation(sections)


def guard() -> None:
    """Frame the session if `app.py` has not.

    On a cold server Streamlit runs a deep link's page without `app.py`: it knows the pages' folder, but not yet the
    menu. Registering the menu and running again puts that right.
    """
    if _FRAMED not in st.session_state:
        navigation()
        st.rerun()
