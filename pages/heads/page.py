"""Heads and masks: who may look at whom?"""

from __future__ import annotations

from pages.heads.hero import guess, hero, mask_run, numbers_of
from pages.heads.measure import measure
from pages.heads.step import step
from pages.heads.theory import theory
from pages.kit.context import Page
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    masked = mask_run(page)
    hero(page, masked)
    numbers = numbers_of(masked)
    try_this(page, masked.finding.kind, **numbers)
    if page.presenting:
        return
    guess(page)
    views(page, step=lambda: step(page, masked), measure=lambda: measure(page, masked), theory=lambda: theory(page))
    said(page, **numbers)


show_page("heads", body, Inputs())
