"""The running state of causal random features drawn: what it holds, and what a query reads from it."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.figures.favor import Drawn, name_above
from longattn_core.charts.style.altair import layered
from longattn_core.charts.style.colour import hexadecimal
from longattn_core.charts.style.theme import Theme


def state_chart(state: np.ndarray, features: np.ndarray, theme: Theme, *, height: int = 300) -> alt.Chart:
    """The running state as a picture: features that hold most from the top, channels of the values across.

    Entries are relative to the largest, between −1 and 1, in the colours of differences.
    """
    rows, columns = state.shape
    row, column = (part.ravel() for part in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    table = pd.DataFrame({"rank": row + 1, "feature": features[row] + 1, "channel": column + 1, "value": state.ravel().round(4)})
    colours = [hexadecimal(colour) for colour in theme.differences[::14]]
    scale = alt.Scale(type="symlog", constant=0.02, domain=[-1, 1], range=colours)
    tooltip = [
        alt.Tooltip("feature:Q", title="feature"),
        alt.Tooltip("channel:Q", title="channel"),
        alt.Tooltip("value:Q", title="of the largest entry", format=".3~g"),
    ]
    across = alt.Axis(values=_ticks(columns), labelAngle=0)
    drawn = alt.Chart(table).mark_rect()
    chart: alt.Chart = drawn.encode(
        x=alt.X("channel:O", title="channel of the values (number)", axis=across),
        y=alt.Y("rank:O", title="features, the fullest first (rank)", axis=alt.Axis(values=_ticks(rows))),
        color=alt.Color("value:Q", scale=scale, legend=None),
        tooltip=tooltip,
    ).properties(height=height, width="container")
    return chart


def _ticks(count: int) -> list[int]:
    return sorted({1, *range(8, count + 1, 8), count})


def reads_chart(table: pd.DataFrame, theme: Theme, *, height: int = 300) -> Drawn:
    """What the query reads: exact weights as bars and estimated ones as marks, a token a row, in the order of the table.

    `table`: `row` (the token and its position), `place`, `exact`, `estimate`.
    """
    order = table["row"].tolist()
    y = alt.Y("row:N", sort=order, title="token read (position)", axis=alt.Axis(labelLimit=120))
    floor = min(0.0, float(table["estimate"].min()) if len(table) else 0.0)
    top = max(1e-6, float(table[["exact", "estimate"]].max().max()) if len(table) else 1.0)
    scale = alt.Scale(domain=[max(floor, -2.0), min(top, 2.0)], clamp=True)
    style = theme.style("favor")
    base = alt.Chart(table)
    title = "weight (share of what is in the state)"
    tooltip = [
        alt.Tooltip("row:N", title="token"),
        alt.Tooltip("exact:Q", format=".3~g"),
        alt.Tooltip("estimate:Q", format=".3~g"),
    ]
    legend = [("■ exact", theme.style("exact").colour, 0), ("△ random features", style.colour, 70)]
    return layered(
        base.mark_bar(color=theme.style("exact").colour, opacity=0.55, height={"band": 0.6}).encode(
            x=alt.X("exact:Q", title=title, scale=scale, axis=alt.Axis(format="~g", tickCount=4)), y=y, tooltip=tooltip
        ),
        base.mark_point(shape=style.symbol.vega, color=style.colour, size=70, filled=False, strokeWidth=2).encode(
            x=alt.X("estimate:Q", scale=scale), y=y, tooltip=tooltip
        ),
        *(name_above(text, colour, left * theme.zoom, 10, theme) for text, colour, left in legend),
        height=height,
        width="container",
        padding={"left": 4, "right": 8, "bottom": 4, "top": 22},
    )
