"""Routing: who should handle this token?"""

from __future__ import annotations

from longattn_core.mechanisms.routed import Routed
from pages.kit import state
from pages.kit.controls import mechanism_dials
from pages.kit.inputs import Inputs
from pages.kit.lesson import question, said, try_this, views
from pages.kit.page import Page, page
from pages.kit.routed_hero import ROWS, hero
from pages.kit.routed_measure import measure_view
from pages.kit.routed_steps import step_view, theory_view


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
