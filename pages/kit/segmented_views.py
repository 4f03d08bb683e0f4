"""The three looks closer at segments: one word's row frame by frame; maps, bars, places, widths; cost and reach."""

from __future__ import annotations

from dataclasses import asdict

import streamlit as st

from longattn_core.charts.segmented import (
    cuts_chart,
    kinds_chart,
    pattern_chart,
    places_chart,
    reach_chart,
    row_chart,
    widths_chart,
)
from longattn_core.charts.styles import specification
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.segmented import (
    INTEGRATIONS,
    SegmentFrames,
    SegmentPatterns,
    SegmentReach,
    SegmentWidths,
    SentenceCuts,
    place_finding,
    width_finding,
)
from longattn_core.studies.study import Result, Setting
from pages.kit import state
from pages.kit.cards import figure, maps_card
from pages.kit.compute import run
from pages.kit.lesson import formula
from pages.kit.page import Page
from pages.kit.segmented_hero import COUNTED_SAID, NAME, counted_choice
from pages.kit.stepper import stepper
from pages.kit.sweeps import sweep_card
from pages.kit.token_text import token_text
from pages.kit.vega import vega
from pages.kit.words import _, escaped, prose, quoted

FRAMES = {
    "exact": _("exact"),
    "cut": _("cut"),
    "overlap": _("overlap"),
    "summarise": _("summarise"),
    "integrate": _("weigh the means"),
    "join": _("join"),
}
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


def step(here: Page, mechanism: Segmented) -> None:
    """One query's row: exact, cut, summarised, joined."""
    n = here.tokens
    default = n - 1
    asked = state.whole(f"{NAME}.query", _("The word that asks (token)"), least=0, most=n - 1, default=default)
    result = run(SegmentFrames(source=here.source, setting=Setting.of(mechanism), query=asked))
    frames, tokens = result.tables["frames"], result.arrays["tokens"]
    query, boundaries = int(result.arrays["query"]), result.arrays["boundaries"]
    st.markdown(prose(NAME, "step", query=quoted(str(tokens[query])), at=query))
    names = list(frames["frame"])
    at = stepper(f"{NAME}.step", [FRAMES[name] for name in names], theme=here.theme)
    row = frames.iloc[at]
    own = int(result.arrays["segment"][query])
    inside = float(frames.loc[frames["frame"] == "cut", "held"].iloc[0])
    words = prose(
        NAME,
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
        here.theme,
        boundaries=boundaries,
        query=query,
        tokens=tokens,
        own=own,
        key="segmented" if names[at] == "join" else "exact",
    )
    figure(
        here,
        "row-of-a-word",
        result,
        chart,
        table=result.tables["segments"],
        shown=type(mechanism),
        caption=_("The row of one query, {frame}.").format(frame=FRAMES[names[at]]),
        alt=words,
    )


def measure(here: Page, result: Result, mechanism: Segmented) -> None:
    """Maps, the five patterns, each cut's loss, where to cut, and how wide."""
    maps_card(here, mechanism)
    st.subheader(_("Five ways to cross the cuts"), anchor=False)
    _patterns(here, mechanism)
    st.subheader(_("What each cut severs"), anchor=False)
    _bars(here, result, mechanism)
    st.subheader(_("Where to cut: sentence ends, or anywhere?"), anchor=False)
    _places(here, mechanism)
    st.subheader(_("How wide must a segment be?"), anchor=False)
    _widths(here, mechanism)


def _patterns(here: Page, mechanism: Segmented) -> None:
    with st.spinner(_("Five maps …")):
        result = run(SegmentPatterns(source=here.source, setting=Setting.of(mechanism)))
    n = int(result.arrays["n"])
    line = st.container(horizontal=True)
    for (name, label), cells in zip(INTEGRATIONS.items(), result.arrays["maps"], strict=True):
        with line.container(width=PATTERN):
            if name in result.words:
                st.caption(f"{label}: {result.words[name]}")
                continue
            chosen = f"**{label}**" if name == mechanism.variant else label
            st.markdown(chosen)
            chart = pattern_chart(cells, here.theme, n=n, causal=here.causal, height=PATTERN)
            vega(specification(chart, here.theme), key=f"pattern {name}", words=label)
    st.caption(prose(NAME, "patterns"))


def _bars(here: Page, result: Result, mechanism: Segmented) -> None:
    cuts, counted = result.tables["cuts"], counted_choice()
    if not len(cuts):
        st.caption(_("There is no cut."))
        return
    said = prose(NAME, "cuts", counted=COUNTED_SAID[counted])
    figure(
        here,
        "cuts",
        result,
        cuts_chart(cuts, here.theme, n=here.tokens, counted=counted),
        table=cuts,
        caption=said,
        alt=said,
        shown=type(mechanism),
    )
    st.caption(f"{said} {result.words['sample'].capitalize()}.")


def _places(here: Page, mechanism: Segmented) -> None:
    result = run(SentenceCuts(source=here.source, width=mechanism.width))
    found = place_finding(result)
    if found.kind == "refused":
        st.info(result.words["refusal"], icon=":material/block:")
        return
    said = prose(NAME, f"places_{found.kind}", **asdict(found), leaks=escaped(result.words["leaks"]))
    st.markdown(said)
    left, right = st.columns(2, gap="medium")
    kinds, places = result.tables["kinds"], result.tables["places"]
    with left:
        figure(
            here,
            "sentence-ends",
            result,
            kinds_chart(kinds, here.theme),
            table=kinds,
            alt=said,
            caption=_("Lost attention outside the sinks with cuts at sentence ends and two controls; bars: the middle 95 %."),
        )
    with right:
        words = prose(NAME, "places", length=found.length)
        figure(
            here, "places-to-cut", result, places_chart(places, here.theme, n=here.tokens), table=places, caption=words, alt=words
        )
        st.caption(words)


def _widths(here: Page, mechanism: Segmented) -> None:
    value = state.choose(
        f"{NAME}.measure", _("Against the width"), list(MEASURES), default="error", labels=MEASURES.__getitem__, style="segments"
    )
    study = SegmentWidths(source=here.source, boundaries=mechanism.boundaries, overlap=mechanism.overlap, counts=mechanism.counts)

    def draw(result: Result) -> None:
        rows = result.tables["points"]
        found = width_finding(rows, here.tokens)
        if found.kind == "unknown":
            st.caption(next((text for text in rows.get("refusal", []) if text), prose(NAME, "widths_unknown")))
            return
        said = prose(NAME, f"widths_{found.kind}", **asdict(found), tokens=here.tokens)
        st.markdown(said)
        chart = widths_chart(
            rows,
            here.theme,
            value=value,
            title=AXES[value],
            control=found.control if value == "error" else None,
            width=min(mechanism.width, here.tokens),
        )
        figure(
            here, "against-the-width", result, chart, table=rows, caption=said, alt=f"{MEASURES[value]}. {said}", shown=Segmented
        )

    sweep_card(here, study, draw)


def theory(here: Page, result: Result, mechanism: Segmented) -> None:
    """Cost n·s, and how far layers reach, with today's numbers."""
    whole, sequence = result.tables["whole"].iloc[0], result.study.sequence()
    n, s = sequence.n, min(mechanism.width, sequence.n)
    estimate = n * s * (sequence.d + sequence.e) * sequence.h
    counted, exact = int(whole["cost"]), int(whole["exact cost"])
    formula(
        here,
        "cost",
        n=_count(n),
        s=_count(s),
        width=sequence.d + sequence.e,
        formula=_count(estimate),
        counted=_count(counted),
        exact=_count(exact),
        share=f"{counted / exact:.1%}".replace("%", r"\,\%"),
    )
    st.caption(prose(NAME, "cost"))
    st.subheader(_("How far back after several layers?"), anchor=False)
    layers = state.slide(f"{NAME}.layers", _("Layers"), list(range(1, 31)), default=8, parse=int)
    with st.spinner(_("Following every pair …")):
        reach = run(SegmentReach(source=here.source, setting=Setting.of(mechanism), layers=layers))
    if "reach" not in reach.tables:
        st.info(reach.words["refusal"], icon=":material/block:")
        return
    table = reach.tables["reach"]
    last = table[table["layer"] == layers].set_index("integration")["back"]
    if here.causal and mechanism.boundaries == "fixed":
        formula(here, "reach", layers=layers, **{name: _count(int(last[name])) for name in last.index})
    said = prose(NAME, "reach", layers=layers, last=quoted(str(reach.arrays["tokens"][int(reach.arrays["last"])])))
    figure(
        here,
        "reach-against-layers",
        reach,
        reach_chart(table, here.theme, n=n),
        table=table,
        caption=said,
        alt=", ".join(f"{INTEGRATIONS[name]}: {int(last[name])} tokens" for name in last.index),
        shown=type(mechanism),
    )
    st.caption(said)
    first = reach.arrays["layer_of"][list(INTEGRATIONS).index(mechanism.variant)]
    st.markdown(prose(NAME, f"arrival_{'one' if first.max() < 2 else 'many'}", crossing=INTEGRATIONS[mechanism.variant]))
    space = "" if result.study.source.kind == "text" else " "
    names = {0: _("the word itself"), 1: _("after 1 layer")}
    names |= {layer: _("after {layer} layers").format(layer=layer) for layer in range(2, layers + 1)}
    token_text(
        [f"{space}{token}" for token in reach.arrays["tokens"]],
        key="segmented arrival",
        theme=here.theme,
        groups=first,
        group_names=names,
        selected=int(reach.arrays["last"]),
        height=420,
        alt=said,
    )


def _count(number: int) -> str:
    """A whole number as LaTeX sets it, thousands apart."""
    return f"{number:,}".replace(",", r"\,")
