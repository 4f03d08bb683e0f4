"""Hierarchy: can a text be read at several distances at once?"""

from __future__ import annotations

from longattn_core.mechanisms.hierarchical import Hierarchical
from pages.hierarchical.descent import descent_run
from pages.hierarchical.hero import guess, hero
from pages.hierarchical.measure import measure
from pages.hierarchical.step import step
from pages.hierarchical.theory import theory
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    descent = descent_run(page, mechanism_dials(page, Hierarchical, row=("variant", "levels", "groups")))
    hero(page, descent)
    if page.presenting:
        return
    guess(page, descent)
    try_this(page, descent.finding.kind, **descent.numbers)
    if not descent.refused:
        views(
            page, step=lambda: step(page, descent), measure=lambda: measure(page, descent), theory=lambda: theory(page, descent)
        )
    said(page)


show_page("hierarchical", body, Inputs(sample="topics.txt", n=2048, head="14.3"))
