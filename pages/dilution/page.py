"""Dilution: why does attention thin out as the text grows?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.dilution.hero import Grown, guess, hero
from pages.dilution.measure import measure
from pages.dilution.step import step
from pages.dilution.theory import theory
from pages.kit.context import Page
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import answer, question, said, try_this, views
from pages.kit.text import prose

LONG = 4096
"""From this length on a loss may be the model's own weakness: it was trained on texts of at most 8,192 tokens."""


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    grown = hero(page)
    numbers = words(grown)
    answer(page, grown.fate.kind, **numbers)
    if grown.unfinished:
        with page.top:
            st.caption(prose("dilution", "reading_on"))
    if grown.mode == "planted" and grown.fate.last_n >= LONG and grown.fate.kind in ("sinks", "crowd", "both"):
        with page.top:
            st.caption(prose("dilution", "weakness"))
    try_this(page, grown.fate.kind, **numbers)
    if page.presenting:
        return
    guess(page, grown)
    views(page, step=lambda: step(page, grown), measure=lambda: measure(page, grown), theory=lambda: theory(page))
    said(page, **numbers)


def words(grown: Grown) -> dict[str, Any]:
    """The finding's numbers as its sentences want them."""
    found = grown.fate
    return {
        "what": grown.what,
        "best": found.best,
        "best_n": found.best_n,
        "last": found.last,
        "last_n": found.last_n,
        "sinks": found.sinks,
        "rest": found.rest,
        "to_sinks": found.to_sinks,
        "effective": found.effective,
        "first": float(grown.points.sort_values("n")["needle"].iloc[0]),
        "first_n": int(grown.points["n"].min()),
    }


show_page("dilution", body, Inputs(kind="needle"))
