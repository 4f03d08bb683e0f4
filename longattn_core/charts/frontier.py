"""Fidelity against cost: every setting of every mechanism as a point, the front that nothing beats as a line."""

from __future__ import annotations

import altair as alt
import pandas as pd

from longattn_core.charts.theme import SIZES, Theme

ERROR_FLOOR = 1e-3
"""Errors below this are drawn on it: they are exact as far as a picture goes."""


def frontier_chart(rungs: pd.DataFrame, theme: Theme, *, height: int = 420) -> alt.LayerChart:
    """Output error against operations relative to exact attention, both logarithmic; a mark a setting, labels direct.

    `rungs` is the table of the `Frontier` study. A ladder's settings are joined by a thin line and labelled at the
    cheapest; the dashed line is the error of the mean of the visible values.
    """
    table = rungs.assign(drawn=rungs["error"].clip(lower=ERROR_FLOOR))
    ladders = list(dict.fromkeys(table["label"]))
    styles = {label: theme.style(str(table.loc[table["label"] == label, "key"].iloc[0])) for label in ladders}
    colours = alt.Scale(domain=ladders, range=[styles[label].colour for label in ladders])
    shapes = alt.Scale(domain=ladders, range=[styles[label].symbol.vega for label in ladders])
    colour, shape = alt.Color("label:N", scale=colours, legend=None), alt.Shape("label:N", scale=shapes, legend=None)
    x = alt.X(
        "cost:Q", title="operations, share of exact attention's (log)",
        scale=alt.Scale(type="log", nice=False, padding=28), axis=alt.Axis(format="~%", tickCount=5),
    )  # fmt: skip
    y = alt.Y(
        "drawn:Q", title="relative error of the output (log)",
        scale=alt.Scale(type="log", nice=False, padding=18), axis=alt.Axis(format="~g", tickCount=5),
    )  # fmt: skip
    tooltip = [
        alt.Tooltip("label:N", title="mechanism"),
        alt.Tooltip("dials:N", title="setting"),
        alt.Tooltip("cost:Q", title="operations, of exact", format=".1%"),
        alt.Tooltip("error:Q", title="relative error", format=".3g"),
        alt.Tooltip("overlap:Q", title="overlap", format=".3f"),
        alt.Tooltip("control:Q", title="mean of visible values", format=".3f"),
    ]
    base = alt.Chart(table)
    cheapest = alt.Chart(table.sort_values("cost").groupby("label", sort=False).head(1))
    front = base.transform_filter("datum.front")
    size = SIZES["tick"] * theme.zoom
    layers = (
        *_control(float(table["control"].iloc[0]), theme),
        front.mark_line(color=theme.text, strokeWidth=2, opacity=0.6, interpolate="step-after").encode(x=x, y=y),
        base.mark_line(strokeWidth=1, opacity=0.45).encode(x=x, y=y, color=colour, detail="label:N"),
        base.mark_point(size=70 * theme.zoom, strokeWidth=2).encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
        cheapest.mark_text(align="left", dx=8, dy=-8, fontSize=size).encode(x=x, y=y, text="label:N", color=colour),
    )
    return alt.layer(*layers).properties(height=height, width="container")


def _control(error: float, theme: Theme) -> tuple[alt.Chart, alt.Chart]:
    """The dashed line of the control, and its label at the right end."""
    chart = alt.Chart(pd.DataFrame({"control": [error], "text": ["mean of the visible values"]}))
    size = SIZES["tick"] * theme.zoom
    return (
        chart.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(y="control:Q"),
        chart.mark_text(align="right", dx=-4, dy=-7, color=theme.muted, fontSize=size).encode(
            y="control:Q", text="text:N", x=alt.value("width")
        ),
    )
