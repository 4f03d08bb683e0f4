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
from pages.kit.page import page
from pages.kit.sections import answer, question, said, try_this, views
from pages.kit.text import _
from pages.memory.hero import dials_of, guess, hero, numbers_of
from pages.memory.measure import measure
from pages.memory.step import step
from pages.memory.theory import theory


def body(here: Page) -> None:
    """Question, answer, hero, guess, lessons, and the view that was chosen."""
    question(here)
    row = ("variant", *dials_of(state.recall("m.memory.variant", "cache", str)))
    mechanism = mechanism_dials(here, Memory, row=row)
    with st.spinner(_("The model reads the text …")):
        sequence_of(here.source)
    result = run(MemoryTimeline(source=here.source, setting=Setting.of(mechanism)))
    found = memory_finding(result)
    numbers = numbers_of(result, found, mechanism)
    answer(here, found.kind, **numbers)
    stop = hero(here, result, mechanism, numbers)
    guess(here)
    try_this(here, found.kind, **numbers)
    if not here.presenting and found.kind != "refused":
        views(
            here,
            step=lambda: step(here, result, mechanism, stop),
            measure=lambda: measure(here, mechanism),
            theory=lambda: theory(here, result, mechanism),
        )
        said(here, **numbers)


page("memory", body, Inputs(head="17.3"))
