"""Dilution, step by step: the softmax length by length."""

from __future__ import annotations

import numpy as np
import streamlit as st

from longattn_core.charts.figures.dilution import denominator_chart
from longattn_core.sequences.sources import SyntheticSource
from longattn_core.studies.dilution.last_token import LastToken
from pages.dilution.hero import Grown
from pages.kit.components.stepper import stepper
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose

LONGEST_SHOWN = 2048
"""Tokens up to which the text itself is drawn."""


def step(page: Page, grown: Grown) -> None:
    """One length a frame: what each part adds to the denominator, the formula, and the text in the weights' colours."""
    points = grown.points.sort_values("n")
    lengths = [int(n) for n in points["n"]]
    at = stepper("dilution.step", [f"{n:,}" for n in lengths], theme=page.theme, label=_("tokens of the text"))
    row = points.iloc[at]
    sinks, rest = (float(np.nan_to_num(row[part])) / max(float(row["needle"]), 1e-300) for part in ("sinks", "rest"))
    formula(page, "share", sinks=sinks, rest=rest, share=float(row["needle"]))
    figure(
        page,
        "denominator",
        grown.result,
        denominator_chart(grown.points, lengths[at], page.theme, names=grown.names),
        table=grown.points,
        caption=prose("dilution", "caption_denominator"),
        title=_("What each part adds to the denominator"),
        alt=_("At {n:,} tokens {needle} has {share:.1%} of the weight.").format(
            n=lengths[at], needle=grown.names["needle"], share=row["needle"]
        ),
    )
    st.caption(prose("dilution", "step"))
    _text(page, grown, lengths[at])


def _text(page: Page, grown: Grown, n: int) -> None:
    """The text of n tokens in the colours of its last token's weights."""
    if n > LONGEST_SHOWN:
        st.caption(prose("dilution", "too_long", n=n, most=LONGEST_SHOWN))
        return
    source = page.source
    if grown.mode == "needle" and isinstance(source, SyntheticSource):
        source = source.model_copy(update={"settings": source.settings.with_dials(n=n)})
    last = run(LastToken(source=source, n=n, fact=grown.fact, filler=grown.filler))
    count = int(last.arrays["n"])
    token_text(
        TextPicture(tokens=[str(token) for token in last.arrays["tokens"]], weights=last.arrays["weights"], selected=count - 1),
        key=f"look at {grown.mode}",
        theme=page.theme,
        link="dilution",
        height=260,
        caption=_("The last token's weights, {n:,} tokens in all").format(n=count),
    )
