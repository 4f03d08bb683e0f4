"""Dilution: why does attention thin out as the text grows?"""

from __future__ import annotations

from pages.dilution.hero import guess, hero, numbers_of
from pages.dilution.measure import measure
from pages.dilution.step import step
from pages.dilution.theory import theory
from pages.kit.context import Page
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    grown = hero(page)
    numbers = numbers_of(grown)
    try_this(page, grown.finding.kind, **numbers)
    if page.presenting:
        return
    guess(page, grown)
    views(page, step=lambda: step(page, grown), measure=lambda: measure(page, grown), theory=lambda: theory(page))
    said(page, **numbers)


show_page("dilution", body, Inputs(kind="needle"))
