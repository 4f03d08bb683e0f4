"""Memory: what is carried from segment to segment, and how much of exact attention it still reaches."""

from __future__ import annotations

from longattn_core.mechanisms.memory import Memory
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.memory.hero import first_dials, guess, hero, memory_run
from pages.memory.measure import measure
from pages.memory.step import step
from pages.memory.theory import theory


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    memory = memory_run(page, mechanism_dials(page, Memory, row=first_dials()))
    stop = hero(page, memory)
    if not page.presenting:
        guess(page)
        try_this(page, memory.finding.kind, **memory.numbers)
    if not (page.presenting or memory.refused):
        views(
            page,
            step=lambda: step(page, memory, stop),
            measure=lambda: measure(page, memory),
            theory=lambda: theory(page, memory),
        )
        said(page, **memory.numbers)


show_page("memory", body, Inputs(head="17.3"))
