"""Fidelity against cost: every setting of every mechanism as a point, and a line through those that no cheaper one matches."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.labels import place_labels
from longattn_core.charts.style.theme import SIZES, Theme

ERROR_FLOOR = 0.01
"""Errors below this are drawn at it: in a picture they are exact."""
ERROR_CEILING = 100.0
"""Errors above this are drawn at it: some estimators have no bound."""
COST_CEILING = 20.0
"""A setting that costs more than this many times exact attention is left out of the picture."""
_DRAWN_WIDTH = 1000
"""Pixels of the chart's width for which the labels' places are computed."""
ROOM = "width < 480 ? 0 : 1"
"""On a phone the labels would cover the points; a touch names them."""


def drawn(rungs: pd.DataFrame) -> pd.DataFrame:
    """The settings that are drawn: those that cost at most `COST_CEILING` times exact attention."""
    return rungs[(rungs["cost"] > 0) & (rungs["cost"] <= COST_CEILING)]


def frontier_chart(rungs: pd.DataFrame, theme: Theme, *, height: int = 420) -> alt.LayerChart | alt.FacetChart:
    """Output error against operations relative to exact attention, both logarithmic; a mark a setting, labels direct.

    `rungs` is the table of the `Frontier` study. A ladder's settings are joined by a thin line; the dashed line is the
    error of the mean of the visible values.
    """
    table = drawn(rungs).assign(shown=lambda t: t["error"].clip(ERROR_FLOOR, ERROR_CEILING))
    ladders = list(dict.fromkeys(table["label"]))
    styles = {label: theme.style(str(table.loc[table["label"] == label, "key"].iloc[0])) for label in ladders}
    colours = alt.Scale(domain=ladders, range=[styles[label].colour for label in ladders])
    shapes = alt.Scale(domain=ladders, range=[styles[label].symbol.vega for label in ladders])
    colour, shape = alt.Color("label:N", scale=colours, legend=None), alt.Shape("label:N", scale=shapes, legend=None)
    control = min(max(float(table["control"].iloc[0]), ERROR_FLOOR), ERROR_CEILING)
    across, down = _domain(table["cost"]), _domain(pd.concat([table["shown"], pd.Series([control])]))
    x = alt.X(
        "cost:Q",
        title="operations, share of exact attention's (logarithmic)",
        scale=alt.Scale(type="log", nice=False, domain=across),
        axis=alt.Axis(format="~%", tickCount=6),
    )
    y = alt.Y(
        "shown:Q",
        title="relative error of the output (logarithmic)",
        scale=alt.Scale(type="log", nice=False, domain=down),
        axis=alt.Axis(format="~g", values=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10], labelExpr=_floor_label()),
    )
    tooltip = [
        alt.Tooltip("label:N", title="mechanism"),
        alt.Tooltip("dials:N", title="setting"),
        alt.Tooltip("cost:Q", title="operations, of exact", format=".1%"),
        alt.Tooltip("error:Q", title="relative error", format=".3g"),
        alt.Tooltip("overlap:Q", title="overlap", format=".3f"),
        alt.Tooltip("control:Q", title="mean of visible values", format=".3f"),
    ]
    base = alt.Chart(table)
    front = base.transform_filter("datum.front")
    layers = (
        *_control(control, theme, y),
        front.mark_line(color=theme.text, strokeWidth=2, opacity=0.6, interpolate="step-after").encode(x=x, y=y),
        base.mark_line(strokeWidth=1, opacity=0.3).encode(x=x, y=y, color=colour, detail=alt.Detail("label:N")),
        *(
            base.transform_filter(alt.FieldOneOfPredicate(field="label", oneOf=names))
            .mark_point(size=70 * theme.zoom, strokeWidth=2, filled=filled, opacity=1)
            .encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip)
            for filled in (True, False)
            if (names := [label for label in ladders if styles[label].symbol.open != filled])
        ),
        *_labels(table, ladders, across, down, height, theme, x=x, y=y, colour=colour),
    )
    return layered(*layers, height=height, width="container")


def _domain(values: pd.Series) -> list[float]:
    """The range of the values with a margin, for a logarithmic axis."""
    low, high = float(values.min()), float(values.max())
    margin = max((high / low) ** 0.06, 1.08)
    return [low / margin, high * margin]


def _floor_label() -> str:
    return f"datum.value <= {ERROR_FLOOR} ? '≤ ' + datum.label : datum.label"


def _labels(
    table: pd.DataFrame,
    ladders: list[str],
    across: list[float],
    down: list[float],
    height: int,
    theme: Theme,
    *,
    x: alt.X,
    y: alt.Y,
    colour: alt.Color,
) -> list[alt.Chart]:
    """Each ladder's name at one of its points, where it covers as little as possible."""

    def share(values: pd.Series, domain: list[float]) -> np.ndarray:
        low, high = np.log(domain)
        return np.asarray((np.log(values.to_numpy(dtype=np.float64)) - low) / (high - low))

    groups = [table[table["label"] == label] for label in ladders]
    points = [np.stack([share(g["cost"], across), 1 - share(g["shown"], down)], axis=1) for g in groups]
    places = place_labels(points, ladders, (_DRAWN_WIDTH, height), zoom=theme.zoom)
    return [
        alt.Chart(group.iloc[[index]])
        .mark_text(align=align, dx=dx, dy=dy, fontSize=SIZES["tick"] * theme.zoom, opacity=alt.ExprRef(ROOM))
        .encode(x=x, y=y, text=alt.Text("label:N"), color=colour)
        for group, (index, dx, dy, align) in zip(groups, places, strict=True)
    ]


def _control(error: float, theme: Theme, y: alt.Y) -> tuple[alt.Chart, alt.Chart]:
    """The dashed line of the control, and its label at the right end."""
    chart = alt.Chart(pd.DataFrame({"shown": [error], "text": ["mean of the visible values"]}))
    size = SIZES["tick"] * theme.zoom
    return (
        chart.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(y=y),
        chart.mark_text(align="right", dx=-4, dy=-7, color=theme.muted, fontSize=size).encode(
            y=y, text=alt.Text("text:N"), x=fixed(alt.XValue, "width")
        ),
    )
