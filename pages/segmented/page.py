"""Segments: what is lost at a cut, where to cut, and what may cross."""

from __future__ import annotations

import streamlit as st

from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.base.study import Setting, sequence_of
from longattn_core.studies.segmented import Cuts, cut_finding
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import answer, question, said, try_this, views
from pages.kit.text import _
from pages.segmented.hero import guess, hero, numbers_of
from pages.segmented.measure import measure
from pages.segmented.step import step
from pages.segmented.theory import theory


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    mechanism = mechanism_dials(page, Segmented, row=("variant", "width", "boundaries"), default=Segmented(width=128))
    with st.spinner(_("The model reads the text …")):
        sequence_of(page.source)
    result = run(Cuts(source=page.source, setting=Setting.of(mechanism)))
    found = cut_finding(result)
    numbers = numbers_of(result, found, mechanism)
    answer(page, found.kind, **numbers)
    hero(page, result, mechanism, numbers)
    guess(page, mechanism, found)
    try_this(page, found.kind, **numbers)
    if not page.presenting and found.kind != "refused":
        views(
            page,
            step=lambda: step(page, mechanism),
            measure=lambda: measure(page, result, mechanism),
            theory=lambda: theory(page, result, mechanism),
        )
        said(page, **numbers)


show_page("segmented", body, Inputs(head="17.3"))
