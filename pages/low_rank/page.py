"""Low rank: how many numbers does an attention map really hold?"""

from __future__ import annotations

import copy
from typing import Any

import streamlit as st

from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.studies.base.run import shortened
from longattn_core.studies.base.study import Result
from longattn_core.studies.low_rank.decomposition import LONGEST
from longattn_core.studies.low_rank.finding import RankFinding, rank_finding
from longattn_core.studies.low_rank.spectrum import Spectrum
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import answer, question, said, try_this, views
from pages.kit.text import _, prose
from pages.low_rank.hero import _guess, low_rank_hero
from pages.low_rank.measure import low_rank_measure
from pages.low_rank.step import low_rank_step
from pages.low_rank.theory import low_rank_theory


def body(whole: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(whole)
    mechanism = mechanism_dials(whole, LowRank, row=("rank",))
    page = copy.copy(whole)
    page.source = shortened(whole.source, LONGEST)
    spectrum = run(Spectrum(source=page.source))
    found = rank_finding(spectrum)
    with page.dials:
        sinkless = found.sinks > 0 and state.switch(
            "low_rank.sinkless",
            _("Without the sinks"),
            default=False,
            help=_("Set the columns of this head's sinks to 0 first: keys that take much weight and add next to nothing."),
        )
    answer(page, found.kind, **words(found))
    if page.tokens < whole.tokens:
        with page.top:
            st.caption(prose("low_rank", "cut", n=page.tokens, of=whole.tokens))
    low_rank_hero(page, spectrum, mechanism.rank, sinkless)
    _guess(page, found)
    try_this(page, found.kind, **words(found))
    if page.presenting:
        return
    _view(whole, page, mechanism, spectrum, found)
    rest = "" if found.without == found.rank else _(" ({without} without its sinks)").format(without=found.without)
    said(page, rank=found.rank, n=found.n, rest=rest, uniform=found.uniform)


def words(found: RankFinding) -> dict[str, Any]:
    """The finding's numbers as its sentences want them."""
    one = found.sinks == 1
    return {
        "n": found.n,
        "rank": found.rank,
        "without": found.without,
        "uniform": found.uniform,
        "numbers": found.numbers,
        "held": found.held,
        "sinks": _("one sink") if one else _("{count} sinks").format(count=found.sinks),
        "them": _("it") if one else _("them"),
    }


def _view(whole: Page, page: Page, mechanism: LowRank, spectrum: Result, found: RankFinding) -> None:
    k = min(mechanism.rank, found.n)
    views(
        page,
        step=lambda: low_rank_step(page, mechanism, found.n),
        measure=lambda: low_rank_measure(whole, page, mechanism, spectrum, k),
        theory=lambda: low_rank_theory(page, spectrum, found, k),
    )


show_page("low_rank", body, Inputs(head="0.6"))
