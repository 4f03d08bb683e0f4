"""Heads and masks, step by step: what each mask hides of one short sentence."""

from __future__ import annotations

from typing import Any, cast

import streamlit as st

from longattn_core.charts.figures.heads import mask_chart
from longattn_core.studies.heads.masks import Masked, MaskName, small_mask
from pages.heads.hero import MASKS
from pages.kit.components.stepper import stepper
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose

WORDS = ("The", "key", "hangs", "behind", "the", "green", "clock", ".")


def step(page: Page, settings: dict[str, Any]) -> None:
    """The four masks on a text of eight tokens, one a frame, with what each is for."""
    names = list(MASKS)
    at = stepper("heads.step", list(MASKS.values()), theme=page.theme, start=names.index(settings["mask"]), label=_("masks"))
    name = cast("MaskName", names[at])
    share, side = float(settings["padding"]), settings["side"]
    codes = small_mask(name, share, side, len(WORDS))
    padded = (codes == 2).all(axis=0)
    tokens = [_("padding") if hidden else word for word, hidden in zip(WORDS, padded, strict=True)]
    left, right = st.columns([1, 1.4], gap="large")
    with left:
        result = run(Masked(**{**settings, "mask": name}))
        figure(
            page,
            "mask",
            result,
            mask_chart(codes, page.theme, tokens=tokens),
            table=result.tables["heads"],
            caption=prose("heads", "caption_mask", mask=MASKS[name]),
            title=MASKS[name].capitalize(),
            alt=_("{seen} of {all} pairs may look.").format(seen=int((codes == 0).sum()), all=codes.size),
        )
    with right:
        st.markdown(prose("heads", f"mask_{name}", seen=int((codes == 0).sum()), pairs=codes.size))
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
