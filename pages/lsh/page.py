"""Hashing: similar tokens fall into the same bucket, and a query looks only there."""

from __future__ import annotations

from longattn_core.mechanisms.lsh import LSH
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.lsh.hero import guess, hashing_run, hero
from pages.lsh.measure import measure
from pages.lsh.step import step
from pages.lsh.theory import theory


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    hashed = hashing_run(page, mechanism_dials(page, LSH, row=("buckets", "rounds", "centred")))
    hero(page, hashed)
    if not page.presenting:
        guess(page, hashed)
        try_this(page, hashed.finding.kind)
    if not (page.presenting or hashed.refused):
        views(page, step=lambda: step(page, hashed), measure=lambda: measure(page, hashed), theory=lambda: theory(page, hashed))
        said(page, **hashed.numbers)


show_page("lsh", body, Inputs(head="14.3"))
