"""Windows, sinks and sparse patterns: what a query sees of what it wants, and what is lost."""

from __future__ import annotations

from longattn_core.mechanisms.window import Window
from pages.kit.controls import mechanism_dials
from pages.kit.inputs import Inputs
from pages.kit.lesson import question, said, try_this, views
from pages.kit.page import Page, page
from pages.kit.window_hero import guess, hero, kept
from pages.kit.window_measure import measure
from pages.kit.window_step import step
from pages.kit.window_theory import theory


def body(here: Page) -> None:
    """Question, answer, hero, guess, lessons, and the view that was chosen."""
    question(here)
    ledger = kept(here, mechanism_dials(here, Window, row=("variant", "width", "sinks")))
    hero(here, ledger)
    if not here.presenting:
        guess(here, ledger)
        try_this(here, ledger.found.kind)
    if not (here.presenting or ledger.refused):
        views(here, step=lambda: step(here, ledger), measure=lambda: measure(here, ledger), theory=lambda: theory(here, ledger))
        said(here, **ledger.numbers)


page("window", body, Inputs(head="17.3"))
