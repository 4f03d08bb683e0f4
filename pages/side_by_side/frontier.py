"""Fidelity against cost for every setting of every mechanism's ladder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pandas as pd
import streamlit as st

from longattn_core.charts.figures.frontier import COST_CEILING, frontier_chart
from longattn_core.charts.style.altair import specification, themed
from longattn_core.charts.style.theme import Theme
from longattn_core.studies.base.study import Result
from longattn_core.studies.side_by_side.frontier import Frontier
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, escaped, prose
from pages.kit.vega import vega


def frontier(page: Page) -> None:
    """The chart with its sentence, point by point as they are measured; the settings that refused are named below it."""
    study = Frontier(source=page.source)

    def draw(result: Result) -> None:
        rungs = result.tables["rungs"]
        whole = len(result.tables["points"]) == len(study.points())
        sentence = _sentence(rungs) if whole else prose("side_by_side", "frontier_measuring")
        st.markdown(sentence)
        vega(_drawn(study, len(result.tables["points"]), page.theme), key="frontier", words=sentence)
        st.caption(prose("side_by_side", "frontier"))
        st.caption(_left_out(rungs))
        for label, refusal in result.words.items():
            st.caption(f"{escaped(label)}: {escaped(refusal)}")
        figure_menu(
            "fidelity-against-cost",
            result,
            table=rungs,
            chart=lambda: themed(frontier_chart(rungs, page.theme), page.theme),
            caption=f"Output error against operations on {study.sequence().origin}.",
        )

    sweep_card(page, study, draw, later=True)


@lru_cache(maxsize=32)
def _drawn(study: Frontier, _points: int, theme: Theme) -> Mapping[str, Any]:
    """The chart's specification, made once for each number of points: the dial above the ribbons changes nothing in it."""
    known = study.known()
    assert known is not None
    return specification(frontier_chart(known.tables["rungs"], theme), theme)


def _left_out(rungs: pd.DataFrame) -> str:
    """How much of the sequence was measured, and which settings cost too much to be drawn."""
    sentences = [_("Measured on the first {n:,} tokens.").format(n=int(rungs["n"].iloc[0]))]
    beyond = rungs[rungs["cost"] > COST_CEILING]
    for label, group in beyond.groupby("label"):
        sentences.append(
            _("{label} is not drawn: it costs {times:,.0f} times as much as exact attention.").format(
                label=escaped(str(label)), times=group["cost"].min()
            )
        )
    return " ".join(sentences)


def _sentence(rungs: pd.DataFrame) -> str:
    """The cheaper setting with the smallest error that still beats the control, or that there is none."""
    control = float(rungs["control"].iloc[0])
    cheaper = rungs[(rungs["cost"] < 0.5) & (rungs["error"] < control) & (rungs["key"] != "exact")]
    if cheaper.empty:
        return prose("side_by_side", "frontier_answer_none", control=control)
    best = cheaper.sort_values("error").iloc[0]
    return prose(
        "side_by_side",
        "frontier_answer",
        best=f"{escaped(best['label'])} ({escaped(best['dials'])})",
        error=best["error"],
        cost=best["cost"],
        control=control,
    )
