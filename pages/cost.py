"""Cost: when does cheaper attention pay?"""

from __future__ import annotations

from pages.kit.cost_hero import guess, hero
from pages.kit.cost_theory import theory
from pages.kit.cost_views import measure, step
from pages.kit.inputs import Inputs
from pages.kit.lesson import answer, question, said, try_this, views
from pages.kit.page import Page, page


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
