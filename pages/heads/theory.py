"""Heads that share keys: which head reads which keys, and what the cache keeps."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.heads_sharing import bonds_chart, cache_chart
from longattn_core.studies.heads.sharing import SCHEMES, Sharing, bonds, cache_growth
from longattn_core.studies.heads.survey import all_heads
from pages.heads.chosen_head import chosen_head
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose


def theory(page: Page) -> None:
    """Who shares keys under each scheme, what the cache keeps of one token, and of a whole text."""
    result = run(Sharing(source=all_heads(page.source)))
    cache, model = result.tables["cache"], result.words["model"]
    counts = dict(zip(cache["scheme"], cache["key/value heads"], strict=True))
    heads = int(cache["key/value heads"].iloc[0])
    shown: dict[str, list[tuple[int, int]]] = {str(scheme): bonds(heads, int(counts[scheme])) for scheme in SCHEMES}
    if shown["grouped-query"] in (shown["multi-head"], shown["multi-query"]):
        # In a layer whose heads are not grouped, grouped-query is the same as one of the other two schemes.
        del shown["grouped-query"]
    numbers = result.arrays["heads"].tolist()
    place = numbers.index(chosen_head(page)) if chosen_head(page) in numbers else None
    figure(
        page,
        "bonds",
        result,
        bonds_chart(shown, page.theme, model=model, chosen=place),
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
            cache_chart(cache[cache["scheme"].isin(shown)], page.theme, model=model),
            table=cache,
            caption=prose("heads", "caption_cache"),
            title=_("What the cache keeps of one token"),
            alt="; ".join(f"{row['scheme']} {row['bytes a token']:,}" for _i, row in cache.iterrows()),
        )
    with right:
        table = cache_growth(cache[cache["scheme"].isin(shown)])
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
