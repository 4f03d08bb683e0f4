"""Memory: what is carried from segment to segment, and how much of exact attention it still reaches."""

from __future__ import annotations

import streamlit as st

from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.base.study import Setting, sequence_of
from longattn_core.studies.memory import MemoryTimeline, memory_finding
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import answer, question, said, try_this, views
from pages.kit.text import _
from pages.memory.hero import dials_of, guess, hero, numbers_of
from pages.memory.measure import measure
from pages.memory.step import step
from pages.memory.theory import theory


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    row = ("variant", *dials_of(state.recall("m.memory.variant", "cache", str)))
    mechanism = mechanism_dials(page, Memory, row=row)
    with st.spinner(_("The model reads the text …")):
        sequence_of(page.source)
    result = run(MemoryTimeline(source=page.source, setting=Setting.of(mechanism)))
    found = memory_finding(result)
    numbers = numbers_of(result, found, mechanism)
    answer(page, found.kind, **numbers)
    stop = hero(page, result, mechanism, numbers)
    guess(page)
    try_this(page, found.kind, **numbers)
    if not page.presenting and found.kind != "refused":
        views(
            page,
            step=lambda: step(page, result, mechanism, stop),
            measure=lambda: measure(page, mechanism),
            theory=lambda: theory(page, result, mechanism),
        )
        said(page, **numbers)


show_page("memory", body, Inputs(head="17.3"))
