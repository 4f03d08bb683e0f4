"""The theory of random features drawn: the ratio surface, and closed forms with Monte Carlo's intervals on them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.style.colour import hexadecimal
from longattn_core.charts.style.theme import Theme
from longattn_core.studies.base.study import Result

if TYPE_CHECKING:
    import plotly.graph_objects as go

FLOOR, CEILING = -3.0, 8.0
"""Decades of the ratio that are drawn; the colour and the height end there."""


def ratio_surface(result: Result, theme: Theme, *, height: int = 460) -> go.Figure:
    """The paper's figure 2: the ratio of the two mean squared errors over angle and length, height and colour logarithmic.

    `result` is of the `RatioSurface` study. The dots are Monte Carlo's, on the slice where it can confirm.
    """
    import plotly.graph_objects as go

    with np.errstate(divide="ignore"):
        decades = np.clip(np.log10(result.arrays["ratio"]), FLOOR, CEILING)
    below, above = hexadecimal(theme.differences[20]), hexadecimal(theme.differences[-21])
    middle = (0 - FLOOR) / (CEILING - FLOOR)
    marks = [-2, 0, 2, 4, 6, 8]
    names = [_power(mark) for mark in marks]
    measured = result.tables["measured"]
    length = getattr(result.study, "length_of_slice", 1.0)
    surface = go.Surface(
        x=result.arrays["angle"],
        y=result.arrays["length"],
        z=decades,
        cmin=FLOOR,
        cmax=CEILING,
        connectgaps=False,
        colorscale=[(0, below), (middle, theme.surface), (1, above)],
        colorbar={
            "orientation": "h",
            "y": -0.02,
            "yanchor": "top",
            "title": {
                "text": "squared error of sines and cosines, over positive",
                "side": "top",
                "font": {"size": theme.size("label"), "color": theme.text},
            },
            "tickvals": marks,
            "ticktext": names,
            "len": 0.8,
            "thickness": 12,
            "tickfont": {"size": theme.size("tick"), "color": theme.muted},
        },
        contours={"z": {"show": True, "start": 0, "end": 0.5, "size": 1, "color": theme.text, "width": 3}},
        hovertemplate="angle %{x:.2f} rad<br>length %{y:.2f}<br>ratio 10^%{z:.2f}<extra></extra>",
    )
    dots = go.Scatter3d(
        x=measured["angle"],
        y=[length] * len(measured),
        z=np.log10(measured["ratio"]) + 0.08,
        mode="markers",
        marker={"size": 4, "color": theme.mark},
        hovertemplate="Monte Carlo: 10^%{z:.2f}<extra></extra>",
    )
    axis: dict[str, Any] = {
        "gridcolor": theme.grid,
        "backgroundcolor": theme.background,
        "color": theme.muted,
        "tickfont": {"size": theme.size("tick")},
        "title": {"font": {"size": theme.size("label"), "color": theme.text}},
    }

    def named(text: str, **more: Any) -> dict[str, Any]:
        return axis | {"title": axis["title"] | {"text": text}} | more

    figure = go.Figure([surface, dots])
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 8, "b": 64},
        scene={
            "xaxis": named("angle φ (radians)", tickvals=[-math.pi, 0, math.pi], ticktext=["−π", "0", "π"]),
            "yaxis": named("length ℓ (of x and y)"),
            "zaxis": named("ratio (logarithmic)", tickvals=marks, ticktext=names, range=[FLOOR, CEILING]),
            "camera": {"eye": {"x": 1.25, "y": -1.55, "z": 0.75}, "center": {"x": 0, "y": 0, "z": -0.1}},
            "aspectratio": {"x": 1.3, "y": 1, "z": 0.7},
        },
    )
    return figure


def _power(mark: int) -> str:
    return {0: "1", 2: "100"}.get(mark, f"10{superscript(mark)}")


def superscript(number: int) -> str:
    """A whole number as an exponent in running text."""
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def slice_chart(result: Result, theme: Theme) -> Any:
    """The surface at one length: the closed form, dashed where no Monte Carlo can confirm it, and the measured dots."""
    line = result.tables["slice"]
    line = line[line["angle"] >= 0].assign(curve="closed form", unconfirmed=lambda t: ~t["confirmable"].astype(bool))
    line = line[(line["ratio"] > 1e-4) & (line["ratio"] < 1e5)]
    chart = curves_chart(
        line,
        theme,
        x=CurveAxis(column="angle", title="angle φ between x and y (radians)"),
        y=CurveAxis(column="ratio", title="ratio of the errors (logarithmic)", log=True, domain=(1e-4, 1e5), format="~g"),
        series=CurveSeries(
            column="curve", dashed="unconfirmed", colours={"closed form": theme.style("favor").colour}, points=False
        ),
        rules=((1.0, "1: both err alike"),),
    )
    return _with_dots(chart, result.tables["measured"], theme, x="angle", y="ratio")


def measured_curves(
    curves: pd.DataFrame,
    measured: pd.DataFrame,
    theme: Theme,
    *,
    x: CurveAxis,
    y: CurveAxis,
    series: str,
    rules: tuple[tuple[float, str], ...] = (),
) -> Any:
    """Closed forms as lines and Monte Carlo's dots with their intervals over them."""
    chart = curves_chart(curves, theme, x=x, y=y, series=CurveSeries(column=series, points=False), rules=rules)
    return _with_dots(chart, measured, theme, x=x.column, y=y.column)


def _with_dots(chart: Any, measured: pd.DataFrame, theme: Theme, *, x: str, y: str) -> Any:
    base = alt.Chart(measured)
    across, down = alt.X(field=x, type="quantitative"), alt.Y(field=y, type="quantitative")
    tooltip = [
        alt.Tooltip(field=x, type="quantitative", format=".3~g"),
        alt.Tooltip(field=y, type="quantitative", title="Monte Carlo", format=".4~g"),
        alt.Tooltip("low:Q", title="99.9 % from", format=".4~g"),
        alt.Tooltip("high:Q", title="99.9 % to", format=".4~g"),
    ]
    bars = base.mark_rule(color=theme.mark, strokeWidth=2).encode(x=across, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"))
    dots = base.mark_point(color=theme.mark, filled=True, size=40, opacity=1).encode(x=across, y=down, tooltip=tooltip)
    # Added to the chart's own layers, because a layer of layers would lose the paddings and the clamped scale.
    chart.layer = [*chart.layer, bars, dots]
    return chart
