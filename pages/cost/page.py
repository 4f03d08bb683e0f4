"""Cost: when does cheaper attention pay?"""

from __future__ import annotations

from pages.cost.hero import counted_numbers_of, guess, hero, numbers_of
from pages.cost.measure import measure
from pages.cost.step import step
from pages.cost.theory import theory
from pages.kit.context import Page
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    costs = hero(page)
    if page.presenting:
        return
    guess(page, costs)
    try_this(page, costs.finding.kind, **numbers_of(costs))
    views(page, step=lambda: step(page, costs), measure=lambda: measure(page, costs), theory=lambda: theory(page, costs))
    said(page, **counted_numbers_of(costs))


show_page("cost", body, Inputs())
