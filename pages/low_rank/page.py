"""Low rank: how many numbers does an attention map really hold?"""

from __future__ import annotations

from longattn_core.mechanisms.low_rank import LowRank
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.low_rank.hero import first_tokens, guess, hero, ranked
from pages.low_rank.measure import measure
from pages.low_rank.step import step
from pages.low_rank.theory import theory


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    mechanism = mechanism_dials(page, LowRank, row=("rank",))
    beginning = first_tokens(page)
    ranks = ranked(beginning, mechanism)
    hero(beginning, ranks, of=page.tokens)
    guess(beginning, ranks)
    try_this(beginning, ranks.finding.kind, **ranks.numbers)
    if page.presenting:
        return
    views(
        beginning,
        step=lambda: step(beginning, ranks),
        measure=lambda: measure(beginning, ranks, whole=page),
        theory=lambda: theory(beginning, ranks),
    )
    said(beginning, **ranks.numbers)


show_page("low_rank", body, Inputs(head="0.6"))
