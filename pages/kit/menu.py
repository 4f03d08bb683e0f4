"""The menu: every folder of `pages/` with a `page.py` is a page, and its `__init__.py` has the page's entry, `MENU`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import groupby
from pathlib import Path
from types import MappingProxyType

import streamlit as st
from streamlit.navigation.page import Page

from pages.kit import state

_PAGES = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class MenuEntry:
    """A page's place in the menu: its title, its section ("" for none), and its order among all pages.

    The page with the lowest order opens at the address without a path.
    """

    title: str
    section: str
    order: int


@cache
def entries() -> Mapping[str, MenuEntry]:
    """The entries of all pages by the page's name, in the order of the menu."""
    names = [path.parent.name for path in _PAGES.glob("*/page.py") if path.parent != Path(__file__).parent]
    # By name, because the kit imports no page.
    found: dict[str, MenuEntry] = {name: import_module(f"pages.{name}").MENU for name in names}
    return MappingProxyType(dict(sorted(found.items(), key=lambda item: item[1].order)))


def script(name: str) -> Path:
    """The script that Streamlit runs for a page."""
    return _PAGES / name / "page.py"


def navigation() -> Page:
    """Register every page and return the one that was asked for."""
    home = next(iter(entries()))
    grouped: dict[str, list[Page]] = {}
    for name, entry in entries().items():
        made = st.Page(script(name), title=entry.title, url_path=None if name == home else name, default=name == home)
        grouped.setdefault(entry.section, []).append(made)
    # `links` draws the menu: Streamlit's own would drop the state from the address whenever the page changes.
    return st.navigation(grouped, position="hidden")


def links() -> None:
    """The menu in the sidebar: every page under its section. Each link has the whole state, so that Back restores it."""
    with st.sidebar, st.container(key="menu", gap=None):
        for section, pages in groupby(entries().items(), key=lambda page: page[1].section):
            if section:
                st.caption(section)
            for name, entry in pages:
                st.page_link(script(name), label=entry.title, query_params=state.addressed(), width="stretch")
