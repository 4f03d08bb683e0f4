"""Cost: when does cheaper attention pay?"""

from __future__ import annotations

from pages.cost.hero import guess, hero
from pages.cost.measure import measure
from pages.cost.step import step
from pages.cost.theory import theory
from pages.kit.context import Page
from pages.kit.input_bar import Inputs
from pages.kit.page import page
from pages.kit.sections import answer, question, said, try_this, views


def body(here: Page) -> None:
    """Question, answer, hero, guess, lessons, and the view that was chosen."""
    question(here)
    costs = hero(here)
    answer(here, costs.found.kind, **costs.numbers)
    if not here.presenting:
        guess(here, costs)
        try_this(here, costs.found.kind, **costs.numbers)
        views(here, step=lambda: step(here, costs), measure=lambda: measure(here, costs), theory=lambda: theory(here, costs))
        said(here, **costs.said)


page("cost", body, Inputs())
