"""Whether heads that share keys look alike: the overlap of every pair of heads."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.heads_sharing import likeness_chart
from longattn_core.studies.heads.finding import likeness_finding
from longattn_core.studies.heads.sharing import Sharing
from longattn_core.studies.heads.survey import all_heads
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose


def likeness_picture(page: Page) -> None:
    """Every pair of heads: how far their rows overlap, those that share keys framed."""
    result = run(Sharing(source=all_heads(page.source)))
    pairs = result.tables["pairs"]
    kind, together, apart = likeness_finding(pairs)
    st.markdown(prose("heads", f"likeness_{kind}", together=together, apart=apart, group=int(result.arrays["group"])))
    if pairs.empty:
        return
    heads = [int(head) for head in result.arrays["heads"]]
    figure(
        page,
        "likeness",
        result,
        likeness_chart(pairs, page.theme, heads=heads),
        table=pairs,
        caption=prose("heads", "caption_likeness"),
        title=_("Overlap of two heads' rows, without sinks"),
        alt=_("Mean overlap of heads that share keys {a:.2f}, of others {b:.2f}.").format(a=together, b=apart),
    )
