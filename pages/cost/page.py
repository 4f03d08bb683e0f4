"""Cost: when does cheaper attention pay?"""

from __future__ import annotations

from pages.cost.hero import guess, hero
from pages.cost.measure import measure
from pages.cost.step import step
from pages.cost.theory import theory
from pages.kit.context import Page
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import answer, question, said, try_this, views


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    costs = hero(page)
    answer(page, costs.found.kind, **costs.numbers)
    if not page.presenting:
        guess(page, costs)
        try_this(page, costs.found.kind, **costs.numbers)
        views(page, step=lambda: step(page, costs), measure=lambda: measure(page, costs), theory=lambda: theory(page, costs))
        said(page, **costs.said)


show_page("cost", body, Inputs())
