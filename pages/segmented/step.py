"""Segments, step by step: one query's row from exact attention to its segment."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.segmented import row_chart
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.segmented import SegmentSteps
from pages.kit import state
from pages.kit.components.stepper import stepper
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose
from pages.segmented.hero import SegmentedRun

STEPS = {
    "exact": _("exact"),
    "cut": _("cut"),
    "overlap": _("overlap"),
    "summarise": _("summarise"),
    "integrate": _("weigh the means"),
    "join": _("join"),
}


def step(page: Page, segmented: SegmentedRun) -> None:
    """One query's row: exact, cut, summarised, joined."""
    n = page.tokens
    chosen = state.whole("segmented.query", _("The word that asks (token)"), least=0, most=n - 1, default=n - 1, view=True)
    result = run(SegmentSteps(source=page.source, setting=segmented.setting, query=chosen))
    frames, tokens = result.tables["frames"], result.arrays["tokens"]
    query, boundaries = int(result.arrays["query"]), result.arrays["boundaries"]
    st.markdown(prose(page.name, "step", query=segmented.name(query), at=query))
    names = list(frames["frame"])
    at = stepper("segmented.step", [STEPS[name] for name in names], theme=page.theme)
    row = frames.iloc[at]
    own = int(result.arrays["segment"][query])
    inside = float(frames.loc[frames["frame"] == "cut", "held"].iloc[0])
    words = prose(
        page.name,
        f"frame_{names[at]}",
        held=float(row["held"]),
        agrees=float(row["agrees"]),
        read=int(row["read"]),
        outside=max(0.0, 1 - inside),
        own=int(boundaries[own + 1] - boundaries[own]),
        looked=result.words["looked"],
    )
    st.markdown(words)
    chart = row_chart(
        result.arrays["weights"][at],
        page.theme,
        boundaries=boundaries,
        query=query,
        tokens=tokens,
        own=own,
        key="segmented" if names[at] == "join" else "exact",
    )
    figure(
        page,
        "row-of-a-word",
        result,
        chart,
        table=result.tables["segments"],
        shown=Segmented,
        caption=_("The row of one query, {frame}.").format(frame=STEPS[names[at]]),
        alt=words,
    )
