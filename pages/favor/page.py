"""Random features (FAVOR+): can softmax be drawn at random?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import streamlit as st

from longattn_core.mechanisms.favor import Favor
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.favor.finding import PairsFinding, pairs_finding
from longattn_core.studies.favor.pairs import Pairs
from pages.favor.hero import favor_hero, numbers_of, plain
from pages.favor.measure import favor_measure
from pages.favor.step import favor_step
from pages.favor.theory import favor_theory
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import answer, predict, question, said, try_this, views
from pages.kit.text import _, prose

START = Favor(features=64)


def inputs() -> Inputs:
    """Gentle Gaussian scores without a mask, where the theory holds; a text, once chosen, as the model reads it."""
    kept = state.recall("source", "synthetic", str)
    shown = st.session_state.get("in:source", kept) if st.session_state.get("_page") == "favor" else kept
    if shown != kept and "mask" not in state.snapshot():
        # The bar's mask is that of the source before: without a choice of the visitor's, the new one's default stands.
        st.session_state.pop("in:mask", None)
    return Inputs(
        source="synthetic",
        kind="gaussian",
        head="2.0",
        mask="none" if shown == "synthetic" else "causal",
        dials={"gaussian": {"d": 4, "scale": 0.7}},
    )


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    favor = mechanism_dials(page, Favor, row=("features", "variant", "seed"), default=START)
    pairs = run(Pairs(source=page.source, setting=Setting.of(favor)))
    found = pairs_finding(pairs)
    words = numbers_of(found, pairs)
    answer(page, found.kind, **words)
    favor_hero(page, favor, pairs, found)
    _guess(page, pairs)
    try_this(page, found.kind, **words)
    if page.presenting:
        return
    views(
        page,
        step=lambda: favor_step(page, favor, pairs),
        measure=lambda: favor_measure(page, favor, pairs),
        theory=lambda: favor_theory(page, pairs),
    )
    _said(page, found, words)


def _guess(page: Page, pairs: Result) -> None:
    """How many times the features, if all scores are doubled: skipped where the norms are too small to make a difference."""
    norm = float(np.median(pairs.arrays["sum_norm"]))
    if len(pairs.arrays["sum_norm"]) < 2 or not 1 < norm < 300:
        return
    factor = math.expm1(2 * norm) / math.expm1(norm)
    options = [2.0, 4.0, factor, factor**2]
    if factor < 4.5:
        return
    predict(
        page,
        "sharpness",
        [_("{count} times").format(count=plain(option)) for option in options],
        2,
        norm=norm,
        factor=plain(factor),
    )


def _said(page: Page, found: PairsFinding, words: dict[str, Any]) -> None:
    section = "said_close" if found.kind in {"close", "better", "equal"} else "said_far"
    said(page, measured=prose("favor", section, **words))


show_page("favor", body, inputs())
