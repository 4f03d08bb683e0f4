"""Low rank: how many numbers does an attention map really hold?"""

from __future__ import annotations

import copy

from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.studies.base.run import shortened
from longattn_core.studies.low_rank.decomposition import LONGEST
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.kit.text import _
from pages.low_rank.hero import guess, hero, ranked
from pages.low_rank.measure import measure
from pages.low_rank.step import step
from pages.low_rank.theory import theory


def body(whole: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(whole)
    mechanism = mechanism_dials(whole, LowRank, row=("rank",))
    page = copy.copy(whole)
    page.source = shortened(whole.source, LONGEST)
    ranks = ranked(page, mechanism)
    finding = ranks.finding
    hero(page, ranks, of=whole.tokens)
    guess(page, ranks)
    try_this(page, finding.kind, **ranks.numbers)
    if page.presenting:
        return
    views(page, step=lambda: step(page, ranks), measure=lambda: measure(whole, page, ranks), theory=lambda: theory(page, ranks))
    rest = "" if finding.without == finding.rank else _(" ({without} without its sinks)").format(without=finding.without)
    said(page, rank=finding.rank, n=finding.n, rest=rest, uniform=finding.uniform)


show_page("low_rank", body, Inputs(head="0.6"))
