"""Routing: who should handle this token?"""

from __future__ import annotations

from longattn_core.mechanisms.routed import Routed
from pages.kit import state
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import page
from pages.kit.sections import question, said, try_this, views
from pages.routed.hero import ROWS, hero
from pages.routed.measure import measure_view
from pages.routed.step import step_view
from pages.routed.theory import theory_view


def body(here: Page) -> None:
    """Question, answer, hero, guess, lessons, and the view that was chosen."""
    question(here)
    variant = state.recall("m.routed.variant", "router", str)
    mechanism = mechanism_dials(here, Routed, row=ROWS.get(variant, ROWS["router"]))
    kind, numbers = hero(here, mechanism)
    try_this(here, kind, **numbers)
    if not here.presenting:
        views(
            here,
            step=lambda: step_view(here, mechanism),
            measure=lambda: measure_view(here, mechanism),
            theory=lambda: theory_view(here, mechanism),
        )
        said(here)


page("routed", body, Inputs(head="17.3"))
