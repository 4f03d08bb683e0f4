"""Heads that share keys: who reads which, what the cache keeps, and whether heads that share look alike."""

from __future__ import annotations

import numpy as np
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.heads import bonds_chart, cache_chart, likeness_chart
from longattn_core.studies.heads.sharing import SCHEMES, Sharing, bonds, growth, likeness
from longattn_core.studies.heads.survey import all_heads
from pages.heads.hero import chosen_head
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose


def likeness_view(page: Page) -> None:
    """Every pair of heads: how far their rows overlap, those that share keys framed."""
    result = run(Sharing(source=all_heads(page.source)))
    pairs = result.tables["pairs"]
    kind, together, apart = likeness(pairs)
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


def theory(page: Page) -> None:
    """Who shares keys under each scheme, what the cache keeps of one token, and of a whole text."""
    result = run(Sharing(source=all_heads(page.source)))
    cache, model = result.tables["cache"], result.words["model"]
    counts = dict(zip(cache["scheme"], cache["key/value heads"], strict=True))
    heads = int(cache["key/value heads"].iloc[0])
    drawn: dict[str, list[tuple[int, int]]] = {str(scheme): bonds(heads, int(counts[scheme])) for scheme in SCHEMES}
    if drawn["grouped-query"] in (drawn["multi-head"], drawn["multi-query"]):
        # A layer that does not group its heads has nothing between the two ends.
        del drawn["grouped-query"]
    place = (
        int(np.flatnonzero(result.arrays["heads"] == chosen_head(page))[0])
        if chosen_head(page) in result.arrays["heads"]
        else None
    )
    figure(
        page,
        "bonds",
        result,
        bonds_chart(drawn, page.theme, model=model, chosen=place),
        table=cache,
        caption=prose("heads", "caption_bonds"),
        title=_("Query heads (above) and the keys and values that they read (below)"),
        alt=_("{heads} query heads; this one is {model}.").format(heads=heads, model=model),
    )
    st.caption(prose("heads", "bonds"))
    own = cache[cache["scheme"] == model].iloc[0]
    formula(
        page,
        "cache",
        layers=int(result.arrays["layers"]),
        shared=int(own["key/value heads"]),
        d=int(result.arrays["d"]),
        e=int(result.arrays["e"]),
        size=int(own["bytes a token"]),
    )
    left, right = st.columns(2, gap="large")
    with left:
        figure(
            page,
            "cache",
            result,
            cache_chart(cache[cache["scheme"].isin(drawn)], page.theme, model=model),
            table=cache,
            caption=prose("heads", "caption_cache"),
            title=_("What the cache keeps of one token"),
            alt="; ".join(f"{row['scheme']} {row['bytes a token']:,}" for _i, row in cache.iterrows()),
        )
    with right:
        table = growth(cache[cache["scheme"].isin(drawn)])
        chart = curves_chart(
            table,
            page.theme,
            x=CurveAxis(column="n", title=_("tokens of the text (logarithmic)"), log=True),
            y=CurveAxis(column="bytes", title=_("bytes in all (logarithmic)"), log=True, format="~s"),
            series=CurveSeries(column="scheme", points=False),
            height=230,
        )
        figure(
            page,
            "cache-grows",
            result,
            chart,
            table=table,
            caption=prose("heads", "caption_cache"),
            title=_("… and of a whole text"),
            alt=_("At 8,192 tokens: {size:,} bytes.").format(size=8192 * int(own["bytes a token"])),
        )
    st.caption(prose("heads", "cache", n=int(result.arrays["n"]), size=int(own["bytes"])))
