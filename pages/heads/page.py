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
from pages.kit.page import page
from pages.kit.sections import answer, question, said, try_this, views
from pages.kit.text import prose


def body(here: Page) -> None:
    """Question, answer, hero, guess, lessons, and the view that was chosen."""
    question(here)
    settings = mask_dials(here)
    result, found = hero(here, settings)
    numbers = words(settings, result, found)
    answer(here, found.kind, **numbers)
    if here.source.kind == "text" and settings["mask"] in ("none", "padding"):
        with here.top:
            st.caption(prose("heads", "unmasked_reading"))
    try_this(here, found.kind, **numbers)
    if here.presenting:
        return
    guess(here)
    views(here, step=lambda: step(here, settings), measure=lambda: measure(here, settings), theory=lambda: theory(here))
    said(here, **numbers)


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


page("heads", body, Inputs())
