"""Routing: who should handle this token?"""

from __future__ import annotations

from longattn_core.mechanisms.routed import Routed
from pages.kit import state
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.routed.hero import ROWS, hero
from pages.routed.measure import measure
from pages.routed.step import step
from pages.routed.theory import theory


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    variant = state.recall("m.routed.variant", "router", str)
    mechanism = mechanism_dials(page, Routed, row=ROWS.get(variant, ROWS["router"]))
    kind, numbers = hero(page, mechanism)
    try_this(page, kind, **numbers)
    if not page.presenting:
        views(
            page,
            step=lambda: step(page, mechanism),
            measure=lambda: measure(page, mechanism),
            theory=lambda: theory(page, mechanism),
        )
        said(page)


show_page("routed", body, Inputs(head="17.3"))
