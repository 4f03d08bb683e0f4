"""Positions, step by step: how a scheme changes one query's scores."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.relative import clocks_chart
from longattn_core.mechanisms.relative import Relative
from longattn_core.studies.relative.rotary import Clocks
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose, quoted
from pages.relative.measure import odd

LONGEST_STEPS = 1024


def step(page: Page, mechanism: Relative) -> None:
    """Rotary positions as clocks: two tokens, one hand each on every clock."""
    n = min(page.tokens, LONGEST_STEPS)
    if odd(page):
        return
    st.markdown(prose("relative", "clocks"))
    left, right = st.columns(2, gap="medium")
    with left:
        query = state.whole(
            "relative.step_query", _("Query at position"), least=0, most=n - 1, default=min(256, n - 1), view=True
        )
    with right:
        distance = state.whole(
            "relative.step_distance", _("Key so many tokens before it"), least=0, most=n - 1, default=1 if n > 1 else 0, view=True
        )
    result = run(Clocks(source=page.source, position=query, distance=min(distance, query), base=mechanism.base))
    hands, arrays = result.tables["hands"], result.arrays
    at, key = int(arrays["query"]), int(arrays["key"])
    tokens = arrays["tokens"]
    said = prose(
        "relative",
        "clocks_now",
        query_token=quoted(str(tokens[at])),
        key_token=quoted(str(tokens[key])),
        query=at,
        key=key,
        distance=at - key,
        score=float(arrays["score"]),
        content=float(arrays["content"]),
        apart=float(hands["apart"].iloc[0]),
        slow=float(hands["apart"].iloc[-1]),
    )
    st.markdown(said)
    figure(
        page,
        "rotary-clocks",
        result,
        clocks_chart(hands, page.theme),
        table=hands,
        shown=Relative,
        caption=f"Rotary angles of a query at {at} and a key at {key}. {result.words['origin']}",
        alt=_("{count} clocks; together they add {score:.2f} to the score.").format(
            count=len(hands), score=float(arrays["score"])
        ),
    )
