"""Strides: what a query finds that looks back in equal steps."""

from __future__ import annotations

from longattn_core.mechanisms.strided import Strided
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.strided.hero import guess, hero, stepped
from pages.strided.measure import measure
from pages.strided.step import step
from pages.strided.theory import theory


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    strides = stepped(page, mechanism_dials(page, Strided, row=("stride",)))
    hero(page, strides)
    if not page.presenting:
        guess(page, strides)
        try_this(page, strides.found.kind)
    if not (page.presenting or strides.refused):
        views(
            page, step=lambda: step(page, strides), measure=lambda: measure(page, strides), theory=lambda: theory(page, strides)
        )
        said(page)


show_page("strided", body, Inputs(head="17.3"))
