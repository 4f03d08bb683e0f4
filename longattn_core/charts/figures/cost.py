"""Cost against n with the crossings marked, and one length's costs as multiples of exact attention's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.style.altair import layered, without_units
from longattn_core.charts.style.theme import HERO_HEIGHT, SIZES, Theme

__all__ = ["cost_chart", "crossing_marks", "multiples_chart"]

ROW = 26
"""Pixels of one mechanism's row."""
LEAST, MOST = 1e-4, 1e3
"""The ends of the axis of multiples; a value beyond them is drawn at the end."""


def cost_chart(
    points: pd.DataFrame,
    crossings: pd.DataFrame,
    theme: Theme,
    *,
    what: str,
    n: int,
    ticks: Sequence[int],
    y_title: str,
    height: int = HERO_HEIGHT,
    y_format: str = "~s",
    rules: Sequence[tuple[float, str]] = (),
) -> alt.LayerChart:
    """A line a mechanism over n, both axes logarithmic, its name at the end; a ring from where on it stays below exact
    attention's; the length of the sequence at hand as a vertical line.

    `points` has `key`, `label`, `n`, the column `what`, and may have `dashed`, true where a value is an estimate.
    """
    points, crossings = without_units(points), without_units(crossings)
    shown = points[points[what] > 0]
    keys = dict(zip(shown["label"], shown["key"], strict=True))
    chart = curves_chart(
        shown,
        theme,
        x=CurveAxis(column="n", title="tokens n (logarithmic)", log=True, ticks=list(ticks)),
        y=CurveAxis(
            column=what,
            title=y_title,
            log=True,
            domain=_decades(shown[what], [value for value, _label in rules]),
            format=y_format,
        ),
        series=CurveSeries(column="label", dashed="dashed" if "dashed" in shown else None, keys=keys, crowded=True),
        rules=rules,
        marked=[(float(n), f"n = {n:,}")],
        height=height,
    )
    marks = crossing_marks(points, crossings, what)
    if len(marks):
        chart.layer = [*chart.layer, _rings(marks, theme)]
    return chart


def crossing_marks(points: pd.DataFrame, crossings: pd.DataFrame, what: str) -> pd.DataFrame:
    """Where each crossing stands in the picture: `label`, `n`, and exact attention's cost there, on the drawn line.

    A crossing at the shortest length is left out: the curves crossed before the picture begins.
    """
    exact = points[(points["key"] == "exact") & (points[what] > 0)].sort_values("n")
    inside = crossings[crossings["n"] > points["n"].min()]
    at = np.exp(np.interp(np.log(inside["n"].astype(float)), np.log(exact["n"].astype(float)), np.log(exact[what])))
    marks: pd.DataFrame = inside[["key", "label", "n"]].assign(value=at).reset_index(drop=True)
    return marks


def multiples_chart(table: pd.DataFrame, theme: Theme) -> alt.LayerChart:
    """One row a mechanism: its cost as a multiple of exact attention's, logarithmic, cheapest first; below 1 it pays.

    `table` has `key`, `label`, `multiple`.
    """
    shown = table[table["multiple"] > 0].sort_values("multiple").assign(at=lambda t: t["multiple"].clip(LEAST, MOST))
    shown = shown.assign(one=1.0, said=[_times(value) for value in shown["multiple"]])
    order = list(shown["label"])
    styles = {label: theme.style(key) for key, label in shown[["key", "label"]].itertuples(index=False)}
    colour = alt.Color("label:N", scale=alt.Scale(domain=order, range=[styles[name].colour for name in order]), legend=None)
    y = alt.Y("label:N", sort=order, title=None, axis=alt.Axis(labelLimit=220, ticks=False))
    x = alt.X(
        "at:Q",
        title="multiple of exact attention's (logarithmic)",
        scale=alt.Scale(type="log", domain=[LEAST, MOST], nice=False),
        axis=alt.Axis(values=[1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000], format="~g", labelOverlap=True),
    )
    tooltip = [alt.Tooltip("label:N", title="mechanism"), alt.Tooltip("multiple:Q", title="of exact", format=".3~g")]
    base = alt.Chart(shown)
    size = SIZES["tick"] * theme.zoom
    one = alt.Chart(pd.DataFrame({"at": [1.0]}))
    return layered(
        one.mark_rule(color=theme.text, strokeWidth=1.5).encode(x=alt.X("at:Q")),
        base.mark_rule(strokeWidth=6, opacity=0.8).encode(y=y, x=x, x2=alt.X2("one"), color=colour, tooltip=tooltip),
        base.mark_text(
            fontSize=size,
            color=theme.text,
            align=alt.ExprRef("datum.at < 1 ? 'right' : 'left'"),
            dx=alt.ExprRef("datum.at < 1 ? -6 : 6"),
        ).encode(y=y, x=x, text=alt.Text("said:N"), tooltip=tooltip),
        height=max(1, len(shown)) * ROW * theme.zoom,
        width="container",
    )


def _rings(marks: pd.DataFrame, theme: Theme) -> alt.Chart:
    tooltip = [alt.Tooltip("label:N", title="pays from here on"), alt.Tooltip("n:Q", title="tokens n", format=",.4~r")]
    ring: Any = alt.Chart(marks).mark_point(shape="circle", size=110, filled=False, strokeWidth=2, opacity=1, stroke=theme.text)
    return ring.encode(x=alt.X("n:Q"), y=alt.Y("value:Q"), tooltip=tooltip)  # type: ignore[no-any-return]


def _decades(values: pd.Series, others: Sequence[float]) -> tuple[float, float]:
    """Whole powers of ten around all values, so that the axis stands still while a dial moves a little."""
    known = np.array([*values.astype(float), *others])
    if not len(known):
        return 1.0, 10.0
    low, high = np.floor(np.log10(known.min())), np.ceil(np.log10(known.max()))
    return float(10**low), float(10 ** max(high, low + 1))


def _times(value: float) -> str:
    """A multiple in at most two digits: 0.03 ×, 1.2 ×, 120 ×."""
    return f"{value:.1g} ×" if value < 0.1 else f"{value:.2g} ×" if value < 100 else f"{value:,.0f} ×"
