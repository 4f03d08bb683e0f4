"""Heads and masks, step by step: what each mask hides of one short sentence."""

from __future__ import annotations

from typing import cast

import streamlit as st

from longattn_core.charts.figures.heads import mask_chart
from longattn_core.studies.heads.masks import PADDED, MaskName, small_mask
from pages.heads.hero import MASKS, MaskRun
from pages.kit.components.stepper import stepper
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose

WORDS = ("The", "key", "hangs", "behind", "the", "green", "clock", ".")


def step(page: Page, masked: MaskRun) -> None:
    """The four masks on a text of eight tokens, one a frame, with what each is for."""
    names = list(MASKS)
    at = stepper("heads.step", list(MASKS.values()), theme=page.theme, start=names.index(masked.study.mask), label=_("masks"))
    name = cast("MaskName", names[at])
    codes = small_mask(name, masked.study.padding, masked.study.side, len(WORDS))
    padded = (codes == PADDED).all(axis=0)
    visible = int((codes == 0).sum())
    tokens = [_("padding") if hidden else word for word, hidden in zip(WORDS, padded, strict=True)]
    left, right = st.columns([1, 1.4], gap="large")
    with left:
        result = run(masked.study.model_copy(update={"mask": name}))
        figure(
            page,
            "mask",
            result,
            mask_chart(codes, page.theme, tokens=tokens),
            table=result.tables["heads"],
            caption=prose("heads", "caption_mask", mask=MASKS[name]),
            title=MASKS[name].capitalize(),
            alt=_("{seen} of {all} pairs may look.").format(seen=visible, all=codes.size),
        )
    with right:
        st.markdown(prose("heads", f"mask_{name}", seen=visible, pairs=codes.size))
        formula(page, f"mask_{name}")
        table = result.tables["heads"]
        st.markdown(
            prose(
                "heads",
                "mask_measured",
                pairs=float(result.arrays["pairs"]),
                hidden=float(table["hidden"].mean()),
                sinks=float(table["sinks"].mean()),
                free=float(table["sinks unmasked"].mean()),
            )
        )
