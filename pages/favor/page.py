"""Random features (FAVOR+): can softmax be drawn at random?"""

from __future__ import annotations

from longattn_core.mechanisms.favor import Favor
from pages.favor.hero import START, estimate, guess, hero, inputs
from pages.favor.measure import measure
from pages.favor.step import step
from pages.favor.theory import theory
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.kit.text import prose


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    estimated = estimate(page, mechanism_dials(page, Favor, row=("features", "variant", "seed"), default=START))
    kind = estimated.finding.kind
    hero(page, estimated)
    guess(page, estimated)
    try_this(page, kind, **estimated.numbers)
    if page.presenting:
        return
    views(
        page, step=lambda: step(page, estimated), measure=lambda: measure(page, estimated), theory=lambda: theory(page, estimated)
    )
    section = "said_close" if kind in {"close", "better", "equal"} else "said_far"
    said(page, measured=prose("favor", section, **estimated.numbers))


show_page("favor", body, inputs())
