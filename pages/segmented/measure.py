"""Segments, measured: maps, the five patterns, each cut's loss, where to cut, and how wide a segment must be."""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from longattn_core.charts.figures.segmented import cuts_chart, kinds_chart, pattern_chart, places_chart, widths_chart
from longattn_core.charts.style.altair import specification
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.base.study import Result
from longattn_core.studies.segmented import (
    INTEGRATIONS,
    SegmentPatterns,
    SegmentWidths,
    SentenceCuts,
    place_finding,
    width_finding,
)
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.map_card import maps_card
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, escaped, prose
from pages.kit.vega import vega
from pages.segmented.hero import COUNTED_IN_WORDS, SegmentedRun, counted_choice

PATTERN = 171
"""Pixels across of a small map: two of them fit side by side on a phone."""
MEASURES = {
    "error": _("error of the output"),
    "lost without sinks": _("lost, without sinks"),
    "lost": _("lost of all attention"),
    "overlap": _("overlap with exact"),
}
AXES = {
    "error": _("relative error of the output"),
    "lost without sinks": _("lost: share outside the sinks"),
    "lost": _("lost: share of all attention"),
    "overlap": _("overlap with exact attention (share)"),
}


def measure(page: Page, segmented: SegmentedRun) -> None:
    """Maps, the five patterns, each cut's loss, where to cut, and how wide."""
    mechanism = segmented.mechanism
    maps_card(page, mechanism)
    st.subheader(_("Five ways to cross the cuts"), anchor=False)
    _patterns(page, segmented)
    st.subheader(_("What each cut severs"), anchor=False)
    _bars(page, segmented.result)
    st.subheader(_("Where to cut: sentence ends, or anywhere?"), anchor=False)
    _places(page, mechanism)
    st.subheader(_("How wide must a segment be?"), anchor=False)
    _widths(page, mechanism)


def _patterns(page: Page, segmented: SegmentedRun) -> None:
    with st.spinner(_("Five maps …")):
        result = run(SegmentPatterns(source=page.source, setting=segmented.setting))
    n = int(result.arrays["n"])
    line = st.container(horizontal=True)
    for (name, label), cells in zip(INTEGRATIONS.items(), result.arrays["maps"], strict=True):
        with line.container(width=PATTERN):
            if name in result.words:
                st.caption(f"{label}: {result.words[name]}")
                continue
            chosen = f"**{label}**" if name == segmented.mechanism.variant else label
            st.markdown(chosen)
            chart = pattern_chart(cells, page.theme, n=n, causal=page.causal, height=PATTERN)
            vega(specification(chart, page.theme), key=f"pattern {name}", words=label)
    st.caption(prose(page.name, "patterns"))


def _bars(page: Page, result: Result) -> None:
    cuts, counted = result.tables["cuts"], counted_choice()
    if not len(cuts):
        st.caption(_("There is no cut."))
        return
    words = prose(page.name, "cuts", counted=COUNTED_IN_WORDS[counted])
    figure(
        page,
        "cuts",
        result,
        cuts_chart(cuts, page.theme, n=page.tokens, counted=counted),
        table=cuts,
        caption=words,
        alt=words,
        shown=Segmented,
    )
    st.caption(f"{words} {result.words['sample'].capitalize()}.")


def _places(page: Page, mechanism: Segmented) -> None:
    result = run(SentenceCuts(source=page.source, width=mechanism.width))
    finding = place_finding(result)
    if finding.kind == "refused":
        st.info(result.words["refusal"], icon=":material/block:")
        return
    words = prose(page.name, f"places_{finding.kind}", **asdict(finding), leaks=escaped(result.words["leaks"]))
    st.markdown(words)
    left, right = st.columns(2, gap="medium")
    kinds, places = result.tables["kinds"], result.tables["places"]
    with left:
        figure(
            page,
            "sentence-ends",
            result,
            kinds_chart(kinds, page.theme),
            table=kinds,
            alt=words,
            caption=_("Lost attention outside the sinks with cuts at sentence ends and two controls; bars: the middle 95 %."),
        )
    with right:
        below = prose(page.name, "places", length=finding.length)
        figure(
            page, "places-to-cut", result, places_chart(places, page.theme, n=page.tokens), table=places, caption=below, alt=below
        )
        st.caption(below)


def _widths(page: Page, mechanism: Segmented) -> None:
    value = state.choose(
        "segmented.measure",
        _("Against the width"),
        list(MEASURES),
        default="error",
        labels=MEASURES.__getitem__,
        style="segments",
        view=True,
    )
    study = SegmentWidths(source=page.source, boundaries=mechanism.boundaries, overlap=mechanism.overlap, counts=mechanism.counts)

    def draw(result: Result) -> None:
        rows = result.tables["points"]
        finding = width_finding(rows, page.tokens)
        if finding.kind == "unknown":
            st.caption(next((text for text in rows.get("refusal", []) if text), prose(page.name, "widths_unknown")))
            return
        words = prose(page.name, f"widths_{finding.kind}", **asdict(finding), tokens=page.tokens)
        st.markdown(words)
        chart = widths_chart(
            rows,
            page.theme,
            value=value,
            title=AXES[value],
            control=finding.control if value == "error" else None,
            width=min(mechanism.width, page.tokens),
        )
        spoken = f"{MEASURES[value]}. {words}"
        figure(page, "against-the-width", result, chart, table=rows, caption=words, alt=spoken, shown=Segmented)

    sweep_card(page, study, draw)
