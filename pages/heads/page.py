"""Heads and masks: who may look at whom?"""

from __future__ import annotations

from typing import Any

import streamlit as st

from longattn_core.studies.base.study import Result
from longattn_core.studies.heads.masks import MaskFinding
from pages.heads.hero import MASKS, guess, hero, mask_dials
from pages.heads.measure import measure
from pages.heads.step import step
from pages.heads.theory import theory
from pages.kit.context import Page
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import answer, question, said, try_this, views
from pages.kit.text import prose


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    settings = mask_dials(page)
    result, found = hero(page, settings)
    numbers = words(settings, result, found)
    answer(page, found.kind, **numbers)
    if page.source.kind == "text" and settings["mask"] in ("none", "padding"):
        with page.top:
            st.caption(prose("heads", "unmasked_reading"))
    try_this(page, found.kind, **numbers)
    if page.presenting:
        return
    guess(page)
    views(page, step=lambda: step(page, settings), measure=lambda: measure(page, settings), theory=lambda: theory(page))
    said(page, **numbers)


def words(settings: dict[str, Any], result: Result, found: MaskFinding) -> dict[str, Any]:
    """The finding's numbers as its sentences want them."""
    count = len(result.arrays["heads"])
    layer = getattr(settings["source"], "layer", None)
    return {
        "mask": MASKS[settings["mask"]],
        "pairs": found.pairs,
        "hidden": found.hidden,
        "head": found.head,
        "head_hidden": found.head_hidden,
        "sinks": found.sinks,
        "sinks_unmasked": found.sinks_unmasked,
        "n": int(result.arrays["n"]),
        "heads": (f"{count} heads" if count > 1 else "one head") + ("" if layer is None else f" of layer {layer}"),
    }


show_page("heads", body, Inputs())
