"""The formulas of cost with today's numbers, and what no sparse pattern can do."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.studies.base.study import Result
from longattn_core.studies.cost import SparseLimits
from pages.cost.hero import Costs, per_token
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose

NAMES = {"best": _("the best {k} keys of each query"), "window": _("the nearest keys"), "blind": _("a blind choice")}
LAYERS = 30
"""Layers of the language model."""


def theory(page: Page, costs: Costs) -> None:
    """Where curves cross, how far a window reaches, what k keys can hold, and what is proved."""
    st.markdown(f"**{_('Where the curves cross')}**")
    _crossing(page, costs)
    st.markdown(f"**{_('What looking at few pairs cannot do')}**")
    _reach(page, costs)
    with st.spinner(_("Sorting the weights …")):
        limits = run(SparseLimits(source=page.source))
    _recall(page, costs, limits)
    st.markdown(prose("cost", "proved", n=costs.n, pairs=costs.n * min(costs.keys, costs.n), all=costs.n**2))
    st.markdown(prose("cost", "why_not_only_sparse"))


def _crossing(page: Page, costs: Costs) -> None:
    crossed = costs.crossing("favor")
    d, e = int(costs.result.arrays["d"]), int(costs.result.arrays["e"])
    if not math.isfinite(crossed):
        st.markdown(prose("cost", "no_crossing"))
        return
    each = per_token(costs, "favor", round(crossed))
    solved = 2 * each / (d + e) - 1 if page.causal else each / (d + e)
    formula(
        page,
        "crossing_causal" if page.causal else "crossing_none",
        each=each,
        pair=d + e,
        solved=solved,
        crossed=round(crossed),
        keys=costs.keys,
    )
    st.caption(prose("cost", "crossing", crossed=round(crossed), keys=costs.keys))


def _reach(page: Page, costs: Costs) -> None:
    if costs.keys < 2:
        return
    needed = max(1, math.ceil((costs.n - 1) / (costs.keys - 1)))
    formula(page, "reach", n=costs.n, w=costs.keys, needed=needed)
    kind = "enough" if needed <= LAYERS else "short"
    st.caption(prose("cost", f"reach_{kind}", needed=needed, layers=LAYERS, far=LAYERS * (costs.keys - 1)))


def _recall(page: Page, costs: Costs, limits: Result) -> None:
    table = limits.tables["limits"]
    parts = [
        table[["keys", name]].rename(columns={name: "share"}).assign(series=label.format(k="k"), dashed=name == "blind")
        for name, label in NAMES.items()
    ]
    shown = pd.concat(parts, ignore_index=True)
    k = min(costs.keys, costs.n)
    at = table.iloc[int((table["keys"] - k).abs().to_numpy().argmin())]
    chart = curves_chart(
        shown,
        page.theme,
        x=CurveAxis(column="keys", title=_("keys a query may look at, k (logarithmic)"), log=True),
        y=CurveAxis(column="share", title=_("share of the weight that they hold"), domain=(0.0, 1.0), format=".0%"),
        series=CurveSeries(column="series", dashed="dashed"),
        marked=[(float(k), f"k = {k:,}")] if k < costs.n else [],
    )
    figure(
        page,
        "limits",
        limits,
        chart,
        table=table,
        title=_("The most that any pattern of k keys can keep of this head"),
        caption=_("Mean share of exact attention's weight held by k keys a query, {sample}.").format(
            sample=limits.words["sample"]
        ),
        alt=_("{k:,} keys hold at most {best:.0%} of the weight, the nearest {window:.0%}, a blind choice {blind:.0%}.").format(
            k=int(at["keys"]), best=at["best"], window=at["window"], blind=at["blind"]
        ),
    )
    gap = "wide" if at["best"] - at["window"] >= 0.1 else "narrow"
    st.caption(
        prose(
            "cost",
            f"limits_{gap}",
            keys=int(at["keys"]),
            best=at["best"],
            window=at["window"],
            blind=at["blind"],
            sample=limits.words["sample"],
        )
    )
