"""Windows, sinks and sparse patterns: what a query sees of what it wants, and what is lost."""

from __future__ import annotations

from longattn_core.mechanisms.window import Window
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import page
from pages.kit.sections import question, said, try_this, views
from pages.window.hero import guess, hero, kept
from pages.window.measure import measure
from pages.window.step import step
from pages.window.theory import theory


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
