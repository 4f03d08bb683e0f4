"""Random features (FAVOR+): can softmax be drawn at random?"""

from __future__ import annotations

import streamlit as st

from longattn_core.mechanisms.favor import Favor
from pages.favor.hero import estimate, guess, hero
from pages.favor.measure import measure
from pages.favor.step import step
from pages.favor.theory import theory
from pages.kit import state
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import question, said, try_this, views
from pages.kit.text import prose

START = Favor(features=64)


def inputs() -> Inputs:
    """Small Gaussian scores without a mask, where the theory holds; a text, once chosen, is read under the model's mask."""
    kept = state.recall("source", "synthetic", str)
    shown = st.session_state.get("in:source", kept) if st.session_state.get("_page") == "favor" else kept
    if shown != kept and "mask" not in state.snapshot():
        # The input bar still holds the former source's mask. Where the visitor chose none, the new source's default applies.
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
