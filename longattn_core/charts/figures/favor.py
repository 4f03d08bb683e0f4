"""Random features drawn: what they estimate against what is exact, pair by pair."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import altair as alt
import pandas as pd

from longattn_core.charts.figures.favor_cloud import Cloud, What, cloud
from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.colour import hexadecimal
from longattn_core.charts.style.theme import HERO_HEIGHT, SIZES, Theme
from longattn_core.studies.base.study import Result

ROOM = "width < 480 ? 0 : 1"
"""The opacity of words inside a picture: on a phone they would cover it."""

Drawn: TypeAlias = alt.LayerChart | alt.FacetChart


def pairs_chart(result: Result, theme: Theme, *, what: What = "weights", height: int = HERO_HEIGHT) -> Drawn:
    """Exact against estimated, both logarithmic: the cloud of all pairs, the strongest as marks, diagonal and control.

    `result` is of the `Pairs` study. On the diagonal an estimate is right; the dashed line is what the mean of the visible
    values gives every key.
    """
    shown = cloud(result, what)
    tiles = shown.tiles
    words = ("weight", "share of the query's attention") if what == "weights" else ("kernel", "e^(q·k/√d)")
    x_title = f"exact {words[0]} ({words[1]}, logarithmic)"
    y_title = f"{words[0]} by random features (logarithmic)"
    x_scale = alt.Scale(type="log", domain=list(shown.x), nice=False, clamp=True)
    y_scale = alt.Scale(type="log", domain=list(shown.y), nice=False, clamp=True)
    x = alt.X("left:Q", title=x_title, scale=x_scale, axis=_axis(shown.x, 11))
    y = alt.Y("low:Q", title=y_title, scale=y_scale, axis=_axis(shown.y, 7))
    ramp = [hexadecimal(colour) for colour in theme.weights[70:240:10]]
    tooltip = [
        alt.Tooltip("count:Q", title="pairs", format=","),
        alt.Tooltip("left:Q", title=f"exact {words[0]}, from", format=".2~e"),
        alt.Tooltip("low:Q", title="estimate, from", format=".2~e"),
    ]
    shade = alt.Color("count:Q", scale=alt.Scale(type="log", range=ramp), legend=None)
    base = alt.Chart(tiles[~tiles["below"]])
    layers: list[Any] = [
        _control_band(shown, theme, y_scale),
        base.mark_rect().encode(x=x, x2=alt.X2("right:Q"), y=y, y2=alt.Y2("high:Q"), color=shade, tooltip=tooltip),
    ]
    if tiles["below"].any():
        layers += _below(tiles[tiles["below"]], theme, x, y, tooltip, shown.negative)
    layers += [
        *_control_line(shown, theme, y_scale),
        *_diagonal(shown, theme, x_scale, y_scale),
        *_marks(shown.strongest, theme, x_scale, y_scale),
    ]
    # Tiles and marks have colours of their own. Given at once, because a later call would copy the whole chart.
    apart = {"scale": {"color": "independent", "shape": "independent"}}
    return layered(*layers, resolve=apart, height=height, width="container")


def note(**values: float | str) -> alt.Chart:
    """A chart of a single row, for a line or a label: cheaper than a table, which counts when a dial moves."""
    return alt.Chart(alt.InlineData(values=[values]))


def name_above(text: str, colour: str, left: float, above: float, theme: Theme) -> alt.Chart:
    """A name in its colour above the picture, `left` and `above` in pixels."""
    mark = note(text=text).mark_text(align="left", color=colour, fontSize=SIZES["tick"] * theme.zoom, fontWeight=600)
    named: alt.Chart = mark.encode(x=fixed(alt.XValue, left), y=fixed(alt.YValue, -above), text=alt.Text("text:N"))
    return named


def _axis(domain: tuple[float, float], most: int) -> alt.Axis:
    """Ticks at whole decades; at 1, 2 and 5 of each where there are few decades, at every second or third where many."""
    low, high = (math.log10(end) for end in domain)
    decades = range(math.floor(low), math.ceil(high) + 1)
    digits = (1, 2, 5) if high - low < 0.5 * most else (1,)
    step = max(1, math.ceil((high - low) / most))
    values = [digit * 10.0**decade for decade in decades if decade % step == 0 for digit in digits]
    label = "datum.value >= 0.001 && datum.value < 10000 ? format(datum.value, '~g') : format(datum.value, '.0e')"
    inside = [value for value in values if domain[0] <= value <= domain[1]]
    return alt.Axis(values=inside, labelExpr=label, grid=False, labelOverlap=True)


def _control_band(shown: Cloud, theme: Theme, scale: alt.Scale) -> alt.Chart:
    low, _middle, high = shown.control
    drawn: alt.Chart = (
        note(low=low, high=high)
        .mark_rect(color=theme.muted, opacity=0.15)
        .encode(y=alt.Y("low:Q", scale=scale), y2=alt.Y2("high:Q"), x=fixed(alt.XValue, 0), x2=fixed(alt.X2Value, "width"))
    )
    return drawn


def _control_line(shown: Cloud, theme: Theme, scale: alt.Scale) -> list[alt.Chart]:
    """The dashed line and its label over the tiles, with a rim in the page's colour so that they can be read there."""
    chart = alt.Chart(pd.DataFrame({"middle": [shown.control[1]], "text": ["mean of the visible values: every key alike"]}))
    at = alt.Y("middle:Q", scale=scale)
    words: dict[str, Any] = {"align": "left", "dx": 6, "dy": -9, "fontSize": SIZES["tick"] * theme.zoom}
    where: dict[str, Any] = {"y": at, "x": fixed(alt.XValue, 0), "text": alt.Text("text:N")}
    rim = chart.mark_text(stroke=theme.background, strokeWidth=4, opacity=alt.ExprRef(ROOM), **words)
    return [
        chart.mark_rule(color=theme.background, strokeWidth=3, opacity=0.7).encode(y=at),
        chart.mark_rule(strokeDash=[6, 4], color=theme.mark, strokeWidth=1.5).encode(y=at),
        rim.encode(**where),
        chart.mark_text(color=theme.mark, opacity=alt.ExprRef(ROOM), **words).encode(**where),
    ]


def _diagonal(shown: Cloud, theme: Theme, x_scale: alt.Scale, y_scale: alt.Scale) -> list[alt.Chart]:
    low, high = max(shown.x[0], shown.y[0]), min(shown.x[1], shown.y[1])
    line = alt.Chart(alt.InlineData(values=[{"at": low}, {"at": high}]))
    size = SIZES["tick"] * theme.zoom
    corner = note(over="estimate too large", under="estimate too small")
    corner_style: dict[str, Any] = {"color": theme.muted, "fontSize": size, "opacity": alt.ExprRef(ROOM)}
    label = note(at=low, text="estimate = exact")
    words: dict[str, Any] = {
        "align": "left",
        "dx": 56,
        "dy": -6,
        "baseline": "bottom",
        "fontSize": size,
        "opacity": alt.ExprRef(ROOM),
    }
    x, y = (alt.X("at:Q", scale=x_scale), alt.Y("at:Q", scale=y_scale))
    where: dict[str, Any] = {"x": x, "y": y, "text": alt.Text("text:N")}
    return [
        line.mark_line(color=theme.text, strokeWidth=1.5).encode(x=x, y=y),
        label.mark_text(stroke=theme.background, strokeWidth=4, **words).encode(**where),
        label.mark_text(color=theme.text, **words).encode(**where),
        corner.mark_text(align="left", dx=8, dy=10, **corner_style).encode(
            x=fixed(alt.XValue, 0), y=fixed(alt.YValue, 0), text=alt.Text("over:N")
        ),
        corner.mark_text(align="right", dx=-8, dy=-10, **corner_style).encode(
            x=fixed(alt.XValue, "width"), y=fixed(alt.YValue, "height"), text=alt.Text("under:N")
        ),
    ]


def _marks(strongest: pd.DataFrame, theme: Theme, x_scale: alt.Scale, y_scale: alt.Scale) -> list[alt.Chart]:
    """The strongest pairs one by one: sinks as filled diamonds, others with the mechanism's open symbol."""
    style = theme.style("favor")
    tooltip = [
        alt.Tooltip("pair:N", title="query → key"),
        alt.Tooltip("places:N", title="positions"),
        alt.Tooltip("exact:Q", title="exact", format=".3~g"),
        alt.Tooltip("estimate:Q", title="estimate", format=".3~g"),
        alt.Tooltip("norm:Q", title="‖q+k‖²/√d", format=".3~g"),
    ]
    x = alt.X("exact:Q", scale=x_scale)
    y = alt.Y("estimate:Q", scale=y_scale)
    others, sinks = strongest[~strongest["sink"].astype(bool)], strongest[strongest["sink"].astype(bool)]
    layers = [
        alt.Chart(others)
        .mark_point(shape=style.symbol.vega, filled=False, color=style.colour, size=46, strokeWidth=1.5, opacity=0.9)
        .encode(x=x, y=y, tooltip=tooltip)
    ]
    if len(sinks):
        layers.append(
            alt.Chart(sinks)
            .mark_point(shape="diamond", filled=True, color=theme.added, size=46, opacity=0.9)
            .encode(x=x, y=y, tooltip=tooltip)
        )
    return layers


def _below(tiles: pd.DataFrame, theme: Theme, x: alt.X, y: alt.Y, tooltip: list[alt.Tooltip], share: float) -> list[alt.Chart]:
    depth = alt.Opacity("count:Q", scale=alt.Scale(type="log", range=[0.35, 1]), legend=None)
    label = note(text=f"below zero: {share:.0%} of the pairs")
    return [
        alt.Chart(tiles)
        .mark_rect(color=theme.lost)
        .encode(x=x, x2=alt.X2("right:Q"), y=y, y2=alt.Y2("high:Q"), opacity=depth, tooltip=tooltip[:2]),
        label.mark_text(align="left", dx=6, dy=-28, color=theme.lost, fontSize=SIZES["tick"] * theme.zoom).encode(
            x=fixed(alt.XValue, 0), y=fixed(alt.YValue, "height"), text=alt.Text("text:N")
        ),
    ]
