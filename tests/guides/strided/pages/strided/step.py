"""Strides step by step: what the last token reads."""

from __future__ import annotations

import streamlit as st

from pages.kit.components.stepper import stepper
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.context import Page
from pages.kit.text import _, prose
from pages.strided.hero import Stepped

FRAMES = ("exact", "strided")


def step(page: Page, strides: Stepped) -> None:
    """The text with the last token's weights: first of exact attention, then on the stride alone."""
    frame = FRAMES[stepper("strided.step", [_("every key"), _("every s-th key")], theme=page.theme)]
    arrays = strides.result.arrays
    words = prose("strided", f"frame_{frame}", stride=strides.mechanism.stride)
    st.markdown(words)
    space = "" if page.source.kind == "text" else " "
    tokens = [f"{space}{token}" for token in arrays["tokens"]]
    token_text(
        TextPicture(tokens=tokens, weights=arrays[frame], selected=int(arrays["last"])),
        key="strided text",
        theme=page.theme,
        height=250,
        alt=words,
    )
