"""Segments: what is lost at a cut, where to cut, and what may cross."""

from __future__ import annotations

from longattn_core.mechanisms.segmented import Segmented
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.segmented.hero import guess, hero, segmented_run
from pages.segmented.measure import measure
from pages.segmented.step import step
from pages.segmented.theory import theory


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    row = ("variant", "width", "boundaries")
    segmented = segmented_run(page, mechanism_dials(page, Segmented, row=row, default=Segmented(width=128)))
    hero(page, segmented)
    if not page.presenting:
        guess(page, segmented)
        try_this(page, segmented.finding.kind, **segmented.numbers)
    if not (page.presenting or segmented.refused):
        views(
            page,
            step=lambda: step(page, segmented),
            measure=lambda: measure(page, segmented),
            theory=lambda: theory(page, segmented),
        )
        said(page, **segmented.numbers)


show_page("segmented", body, Inputs(head="17.3"))
