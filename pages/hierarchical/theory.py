"""Hierarchy in formulas: what a query reads, and how levels are joined."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.studies.hierarchical import Counts
from longattn_core.studies.hierarchical.counts import best_group
from longattn_core.studies.hierarchical.tree import tree_of
from pages.hierarchical.descent import DescentRun
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose


def theory(page: Page, descent: DescentRun) -> None:
    """s + n/s and n log n with the numbers of this run, beside the counts of real runs."""
    n, mechanism = page.tokens, descent.mechanism
    st.markdown(prose(page.name, "theory"))
    groups = tree_of(page.source, mechanism)
    s = max(1, round(n / groups[1].count))
    w = mechanism.block + mechanism.block % 2
    best = math.sqrt(n)
    formula(page, "two", n=n, s=s, pairs=n * (s + n / s), square=n * n)
    formula(page, "best", best=best, least=2 * n * best, percent=min(100.0, 200 / best))
    if n > w:
        pairs = n * (3 * w + 1.5 * w * math.log2(n / w))
        st.markdown(prose(page.name, "theory_blocks"))
        formula(page, "blocks", n=n, w=w, blocks=pairs, percent=100 * pairs / n**2)
    _chain(page, descent)
    if n < 4:
        return
    with st.spinner(_("Counting …")):
        result = run(Counts(source=page.source))
    table = result.tables["counts"]
    long = pd.concat(
        [table.assign(value=table["counted"], dash=False), table.assign(value=table["formula"], dash=True)], ignore_index=True
    )
    hues = dict(zip(dict.fromkeys(table["label"]), ("hierarchical", "lsh", "memory"), strict=False))
    colours = {name: page.theme.style(key).colour for name, key in hues.items()}
    figure(
        page,
        "hierarchical-counts",
        result,
        curves_chart(
            long,
            page.theme,
            x=CurveAxis(column="size", title=_("tokens in a group, or in the near block (logarithmic)"), log=True),
            y=CurveAxis(column="value", title=_("keys and groups read by a query (logarithmic)"), log=True),
            series=CurveSeries(column="label", dashed="dash", colours=colours),
            rules=[(float(result.arrays["exact"]), _("exact attention"))],
            marked=[(best_group(n), "√n")],
        ),
        table=table,
        caption="Keys and groups read by a query against the group size: counted, and by formula.",
        shown=Hierarchical,
        alt=_("Lines of how many keys and groups a query reads against the group size, least near √n."),
    )
    st.caption(prose(page.name, "counts", exact=float(result.arrays["exact"]), best=best_group(n)))


def _chain(page: Page, descent: DescentRun) -> None:
    """The product p·p·p for the heaviest token of the query's own sentence."""
    depth, steps = len(descent.result.tables["levels"]), descent.result.tables["steps"]
    tokens = steps[steps["level"] == 0]
    if descent.mechanism.variant != "product" or depth != 3 or not len(tokens):
        return
    best = tokens.iloc[int(tokens["weight"].to_numpy().argmax())]
    own = steps[steps["own"]].sort_values("level", ascending=False)["share"].tolist()
    st.markdown(prose(page.name, "theory_product", query=descent.name(descent.query), best=descent.name(int(best["first"]))))
    formula(
        page,
        "product",
        outer=descent.names[0],
        inner=descent.names[1],
        first=float(own[0]),
        second=float(own[1]),
        third=float(best["share"]),
        product=float(best["weight"]),
        exact=float(best["exact weight"]),
    )
