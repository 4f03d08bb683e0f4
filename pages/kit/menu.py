"""The menu: every folder of `pages/` with a `page.py` is a page, and its `__init__.py` says where it stands in the menu."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

import streamlit as st
from streamlit.navigation.page import Page

from pages.kit import state

_PAGES = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class MenuEntry:
    """A page's place in the menu: its title, the section it stands under ("" for none), and its order among all pages.

    The first page of all is the one that opens at the address without a path.
    """

    title: str
    section: str
    order: int


@cache
def entries() -> Mapping[str, MenuEntry]:
    """Every page's entry by the page's name, in the menu's order."""
    names = [path.parent.name for path in _PAGES.glob("*/page.py") if path.parent != Path(__file__).parent]
    # By name and not by import: the framework knows no page.
    found: dict[str, MenuEntry] = {name: import_module(f"pages.{name}").MENU for name in names}
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: item[1].order)))


def script(name: str) -> Path:
    """The script that Streamlit runs for a page."""
    return _PAGES / name / "page.py"


def navigation() -> Page:
    """Register every page and give the one that was asked for."""
    home = next(iter(entries()))
    grouped: dict[str, list[Page]] = {}
    for name, entry in entries().items():
        made = st.Page(script(name), title=entry.title, url_path=None if name == home else name, default=name == home)
        grouped.setdefault(entry.section, []).append(made)
    # The menu is drawn by `links`, because Streamlit's own would drop the state from the address at each change of page.
    return st.navigation(grouped, position="hidden")


def links() -> None:
    """The menu in the sidebar: every page under its section, each link with the whole state, so that Back leads back."""
    section = ""
    with st.sidebar, st.container(key="menu", gap=None):
        for name, entry in entries().items():
            if entry.section != section:
                section = entry.section
                st.caption(section)
            st.page_link(script(name), label=entry.title, query_params=state.addressed(), width="stretch")
