"""Hashing: similar tokens fall into the same bucket, and a query looks only there."""

from __future__ import annotations

from longattn_core.mechanisms.lsh import LSH
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import page
from pages.kit.sections import question, said, try_this, views
from pages.lsh.hero import guess, hashing, hero
from pages.lsh.measure import measure
from pages.lsh.step import step
from pages.lsh.theory import theory


def body(here: Page) -> None:
    """Question, answer, hero, guess, lessons, and the view that was chosen."""
    question(here)
    hashed = hashing(here, mechanism_dials(here, LSH, row=("buckets", "rounds", "centred")))
    hero(here, hashed)
    if not here.presenting:
        guess(here, hashed)
        try_this(here, hashed.found.kind)
    if not (here.presenting or hashed.refused):
        views(here, step=lambda: step(here, hashed), measure=lambda: measure(here, hashed), theory=lambda: theory(here, hashed))
        said(here, **hashed.numbers)


page("lsh", body, Inputs(head="14.3"))
