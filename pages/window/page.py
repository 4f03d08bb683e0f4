"""Windows, sinks and sparse patterns: what a query sees of what it wants, and what is lost."""

from __future__ import annotations

from longattn_core.mechanisms.window import Window
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.window.hero import guess, hero, ledger_run
from pages.window.measure import measure
from pages.window.step import step
from pages.window.theory import theory


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    ledger = ledger_run(page, mechanism_dials(page, Window, row=("variant", "width", "sinks")))
    hero(page, ledger)
    if not page.presenting:
        guess(page, ledger)
        try_this(page, ledger.finding.kind)
    if not (page.presenting or ledger.refused):
        views(page, step=lambda: step(page, ledger), measure=lambda: measure(page, ledger), theory=lambda: theory(page, ledger))
        said(page, **ledger.numbers)


show_page("window", body, Inputs(head="17.3"))
