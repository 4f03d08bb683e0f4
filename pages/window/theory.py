"""Windows in theory: pairs in closed form, reach through layers, the measure of ProbSparse, and why not only sparse."""

from __future__ import annotations

import math

import streamlit as st

from longattn_core.charts.figures.window import reach_chart
from longattn_core.measures.reach import window_reach
from longattn_core.mechanisms.probsparse.mechanism import ProbSparse
from longattn_core.mechanisms.window import Window
from longattn_core.sequences.sources import LAYERS
from longattn_core.studies.window.reach import WindowReach
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose
from pages.window.hero import LedgerRun, windowed


def theory(page: Page, ledger: LedgerRun) -> None:
    """The formulas with today's numbers, the curve of reach, and the papers."""
    n, mechanism = page.tokens, ledger.mechanism
    width = min(mechanism.width, n)
    if not windowed(mechanism) or mechanism.dilation > 1:
        st.markdown(prose("window", "pairs_counted", share=ledger.finding.share))
    elif page.causal:
        pairs, every = n * width - width * (width - 1) // 2, n * (n + 1) // 2
        formula(page, "window", pairs=pairs, all_pairs=every, share=pairs / every, n=n, width=width)
    else:
        formula(page, "open", share=min(1.0, (width + 1) / n))
    result = run(WindowReach(source=page.source, width=mechanism.width, dilation=mechanism.dilation))
    figure(
        page,
        "window-reach",
        result,
        reach_chart(result.tables["reach"], page.theme),
        table=result.tables["reach"],
        shown=Window,
        caption=_("How many tokens back information can come from, layer by layer, for a window of {width}.").format(
            width=mechanism.width
        ),
        alt=_("Straight lines that end at the beginning of the text."),
    )
    reach = window_reach(n - 1, mechanism.width, LAYERS, dilation=mechanism.dilation)
    st.caption(prose("window", "reach", layers=LAYERS, width=mechanism.width, reach=reach))
    factor = ProbSparse().factor
    formula(page, "active", factor=factor, n=n, active=min(n, max(1.0, factor * math.log(max(2, n)))))
    formula(page, "blocks", blocks=mechanism.selected_blocks)
    st.markdown(prose("window", "theory"))
