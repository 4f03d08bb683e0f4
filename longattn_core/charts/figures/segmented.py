"""Pictures of cuts: bars of what they sever, the row of one query step by step, patterns, and curves against the width."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeAlias

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.cells import Window, encode, future_cells
from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.pixels import paint
from longattn_core.charts.style.altair import layered
from longattn_core.charts.style.axes import token_axis
from longattn_core.charts.style.colour import blend, hexadecimal
from longattn_core.charts.style.png import data_uri
from longattn_core.charts.style.scales import WEIGHT_FLOOR, Scale
from longattn_core.charts.style.theme import CURVE_HEIGHT, Theme

Chart: TypeAlias = alt.LayerChart | alt.FacetChart


MOST_BARS = 512
"""Bins of a row that is drawn as bars: a bin shows its largest weight."""
COUNTED = {
    "attention": "lost of all attention",
    "without sinks": "lost, outside the sinks",
    "contribution": "lost of weight × value",
}
"""The ways to count, as an axis names them."""


def cuts_chart(cuts: pd.DataFrame, theme: Theme, *, n: int, counted: str) -> Chart:
    """A bar a cut at its place in the text: its loss as it is counted, and a pale one for its loss of all attention."""
    ink = theme.style("segmented").colour
    width = max(2.0, min(28.0, 700 / max(1, len(cuts)) - 4))
    x = token_axis("cut", n, "place of the cut (token)")
    y = alt.Y(
        "shown:Q", title=f"{COUNTED[counted]} (share)", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5)
    )
    tooltip = _cut_tooltip()
    upper = cuts[[counted, "attention"]].max(axis=1)
    base = alt.Chart(cuts.assign(shown=cuts[counted], whole=cuts["attention"], upper=upper))
    layers: list[Any] = []
    if counted != "attention":
        layers.append(base.mark_bar(size=width, color=ink, opacity=0.25).encode(x=x, y=alt.Y("whole:Q"), tooltip=tooltip))
    layers.append(base.mark_bar(size=max(2.0, 0.6 * width), color=ink).encode(x=x, y=y, tooltip=tooltip))
    if len(cuts) <= 12:
        layers.append(
            base.mark_text(dy=-8, fontSize=theme.size("tick"), color=theme.text).encode(
                x=x, y=alt.Y("upper:Q"), text=alt.Text("shown:Q", format=".0%")
            )
        )
    return layered(*layers, height=CURVE_HEIGHT - 60)


def _cut_tooltip() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("cut:Q", title="cut before token", format="d"),
        alt.Tooltip("attention:Q", title="of all attention", format=".1%"),
        alt.Tooltip("without sinks:Q", title="outside the sinks", format=".1%"),
        alt.Tooltip("contribution:Q", title="of weight × value", format=".1%"),
        alt.Tooltip("never:Q", title="never looked at", format=".1%"),
        alt.Tooltip("queries:Q", title="queries behind it", format="d"),
        alt.Tooltip("pairs:N", title="heaviest pairs"),
    ]


def cuts_strip(cuts: pd.DataFrame, theme: Theme, *, n: int, counted: str, boundaries: np.ndarray) -> Chart:
    """The whole text as a band, each cut as wide as what it severs, with its share above it where there is room."""
    steps = blend(theme.background, theme.style("segmented").colour, 13)
    bands = pd.DataFrame({"from": boundaries[:-1], "to": boundaries[1:]})
    bands["ink"] = [hexadecimal(steps[1 + i % 2]) for i in range(len(bands))]
    # With many cuts even a whole loss must leave its neighbours visible.
    widest = max(2.0, min(46.0, 800 / max(1, len(cuts))))
    shown = cuts.assign(**{"from": cuts["cut"], "share": cuts[counted], "wide": 1.5 + (widest - 1.5) * cuts[counted]})
    x = token_axis("from", n)
    low, high = alt.Y("low:Q", axis=None, scale=alt.Scale(domain=[0, 1])), alt.Y2("high:Q")
    bands, shown = (table.assign(low=0.0, high=0.68, said=0.86) for table in (bands, shown))
    layers: list[Any] = [
        alt.Chart(bands).mark_rect().encode(x=x, x2=alt.X2("to:Q"), y=low, y2=high, color=alt.Color("ink:N", scale=None))
    ]
    if len(shown):
        base = alt.Chart(shown)
        size = alt.Size("wide:Q", scale=None)
        layers.append(base.mark_rule(color=theme.mark).encode(x=x, y=low, y2=high, size=size, tooltip=_cut_tooltip()))
        if len(shown) <= 16:
            layers.append(
                base.mark_text(fontSize=theme.size("label"), fontWeight="bold", color=theme.text).encode(
                    x=x, y=alt.Y("said:Q"), text=alt.Text("share:Q", format=".0%")
                )
            )
    return layered(*layers, height=112)


def row_chart(
    weights: np.ndarray,
    theme: Theme,
    *,
    boundaries: np.ndarray,
    query: int,
    tokens: np.ndarray,
    own: int,
    key: str,
    height: int = 230,
) -> Chart:
    """One query's weights over the text as bars on a logarithmic scale, segments as bands, grey where nothing is read.

    Up to `MOST_BARS` bars; in a longer text one stands for several tokens and shows the largest. `key` names the colour.
    """
    n = len(weights)
    edges = np.arange(min(n, MOST_BARS) + 1) * n // min(n, MOST_BARS)
    bars = pd.DataFrame(
        [
            {"from": a, "to": b, "weight": float(np.nanmax(part)), "token": str(tokens[a + int(np.nanargmax(part))]).strip()}
            for a, b in pairwise(edges)
            if not np.isnan(part := weights[a:b]).all()
        ]
    )
    bars["shown"] = bars["weight"].clip(lower=WEIGHT_FLOOR) if len(bars) else []
    bars["floor"] = WEIGHT_FLOOR
    x = token_axis("from", n)
    scale = alt.Scale(type="log", domain=[WEIGHT_FLOOR, 1], clamp=True)
    y = alt.Y("shown:Q", title="weight (logarithmic)", scale=scale, axis=alt.Axis(format="~g", values=[1e-4, 1e-3, 0.01, 0.1, 1]))
    layers: list[Any] = []
    unread = _runs(np.isnan(weights))
    if len(unread):
        layers.append(alt.Chart(unread).mark_rect(color=theme.never).encode(x=x, x2=alt.X2("to:Q")))
    band = pd.DataFrame({"from": [int(boundaries[own])], "to": [int(boundaries[own + 1])]})
    layers.append(alt.Chart(band).mark_rect(color=theme.style("segmented").colour, opacity=0.12).encode(x=x, x2=alt.X2("to:Q")))
    if len(boundaries) <= 130:
        cuts = pd.DataFrame({"from": boundaries[1:-1]})
        layers.append(alt.Chart(cuts).mark_rule(color=theme.border, strokeDash=[3, 3]).encode(x=x))
    if len(bars):
        tooltip = [
            alt.Tooltip("from:Q", title="token", format="d"),
            alt.Tooltip("token:N", title="word"),
            alt.Tooltip("weight:Q", title="weight", format=".3~g"),
        ]
        layers.append(
            alt.Chart(bars)
            .mark_rect(color=theme.style(key).colour)
            .encode(x=x, x2=alt.X2("to:Q"), y=y, y2=alt.Y2("floor:Q"), tooltip=tooltip)
        )
        best = bars.nlargest(3, "weight")
        best = best[best["weight"] > 0.02]
        layers.append(
            alt.Chart(best)
            .mark_text(dy=-7, fontSize=theme.size("tick"), color=theme.text)
            .encode(x=x, y=y, text=alt.Text("token:N"))
        )
    place = alt.Chart(pd.DataFrame({"from": [query + 0.5]}))
    layers.append(place.mark_rule(color=theme.mark, strokeWidth=2).encode(x=x))
    return layered(*layers, height=height)


def _runs(mask: np.ndarray) -> pd.DataFrame:
    """The runs of True as spans from … to."""
    steps = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    return pd.DataFrame({"from": np.flatnonzero(steps == 1), "to": np.flatnonzero(steps == -1)})


def pattern_chart(cells: np.ndarray, theme: Theme, *, n: int, causal: bool, height: int = 190) -> Chart:
    """One small map `[H, W]` on the scale of weights, without axes but with its sides named."""
    window = Window(r0=0, r1=n, c0=0, c1=n)
    size = (cells.shape[0], cells.shape[1])
    coded = encode(cells, Scale(kind="log"), future=future_cells(window, size) if causal else None)
    factor = (max(1, -(-384 // size[0])), max(1, -(-384 // size[1])))
    frame = pd.DataFrame(
        {"x": [0], "x2": [n], "y": [0], "y2": [n], "url": [data_uri(paint(coded, theme=theme, kind="log", factor=factor))]}
    )
    axis = alt.Axis(grid=False, tickCount=2, values=[0, n], format="d", titlePadding=2)
    x = alt.X("x:Q", scale=alt.Scale(domain=[0, n], nice=False), title="key (token)", axis=axis)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, n], nice=False, reverse=True), title="query (token)", axis=axis)
    picture = (
        alt.Chart(frame)
        .mark_image(aspect=False, smooth=False)
        .encode(x=x, x2=alt.X2("x2:Q"), y=y, y2=alt.Y2("y2:Q"), url=alt.Url("url:N"))
    )
    edge = (
        alt.Chart(frame.drop(columns="url"))
        .mark_rect(filled=False, stroke=theme.border)
        .encode(x=alt.X("x:Q"), x2=alt.X2("x2:Q"), y=alt.Y("y:Q"), y2=alt.Y2("y2:Q"))
    )
    return layered(picture, edge, height=height)


def reach_chart(reach: pd.DataFrame, theme: Theme, *, n: int) -> Chart:
    """Tokens back against layers, a line an integration; dashed where what is reached is reached in a mean only."""
    shown = reach[reach["layer"] > 0]
    return curves_chart(
        shown,
        theme,
        x=CurveAxis(column="layer", title="layers"),
        y=CurveAxis(column="back", title="reaches so many tokens back", domain=(0, 1.08 * max(1, n - 1))),
        series=CurveSeries(column="label", dashed="blurred"),
        rules=[(n - 1, "the first token")],
    )


def widths_chart(rows: pd.DataFrame, theme: Theme, *, value: str, title: str, control: float | None, width: int) -> Any:
    """Error, loss or overlap against the segment's width, a line an integration, the control as a dashed rule."""
    ordered = rows.sort_values(["integration", "width"], kind="stable")
    rules = [] if control is None else [(control, "mean of the visible values")]
    return curves_chart(
        ordered,
        theme,
        x=CurveAxis(column="width", title="segment width s (tokens, logarithmic)", log=True),
        y=CurveAxis(column=value, title=title),
        series=CurveSeries(column="label"),
        rules=rules,
        marked=[(width, f"s = {width:,}")],
    )


def kinds_chart(kinds: pd.DataFrame, theme: Theme) -> Chart:
    """What each way to place the cuts loses outside the sinks, with the middle 95 % of its draws."""
    ink = theme.style("segmented").colour
    shown = kinds.assign(lost_bare=kinds["without sinks"], low_bare=kinds["low without"], high_bare=kinds["high without"])
    low, high = float(shown["low_bare"].min()), float(shown["high_bare"].max())
    margin = max(0.01, 0.15 * (high - low))
    y = alt.Y("kind:N", title=None, sort=list(kinds["kind"]), axis=alt.Axis(labelLimit=220, grid=False))
    x = alt.X(
        "lost_bare:Q",
        title="lost: share of the attention outside the sinks",
        axis=alt.Axis(format=".1%", tickCount=5),
        scale=alt.Scale(domain=[max(0.0, low - margin), min(1.0, high + margin)], nice=False, zero=False),
    )
    base = alt.Chart(shown)
    tooltip = [
        alt.Tooltip("kind:N", title="cuts"),
        alt.Tooltip("lost_bare:Q", title="lost outside the sinks", format=".1%"),
        alt.Tooltip("low_bare:Q", title="from", format=".1%"),
        alt.Tooltip("high_bare:Q", title="to", format=".1%"),
        alt.Tooltip("lost:Q", title="lost of all attention", format=".1%"),
        alt.Tooltip("length:Q", title="mean length", format=".1f"),
        alt.Tooltip("pairs:Q", title="share of pairs read", format=".1%"),
    ]
    return layered(
        base.mark_rule(strokeWidth=4, opacity=0.4, color=ink).encode(
            x=alt.X("low_bare:Q"), x2=alt.X2("high_bare:Q"), y=y, tooltip=tooltip
        ),
        base.mark_point(size=130, filled=True, color=ink, opacity=1).encode(x=x, y=y, tooltip=tooltip),
        base.mark_text(dy=-13, fontSize=theme.size("tick"), color=theme.text).encode(
            x=x, y=y, text=alt.Text("lost_bare:Q", format=".1%")
        ),
        height=170,
    )


def places_chart(places: pd.DataFrame, theme: Theme, *, n: int) -> Chart:
    """What a cut before each token would sever, with sentence starts as dots and the cuts that were taken as rules."""
    ink = theme.style("segmented").colour
    if len(places) > 2 * MOST_BARS:
        # Sentence starts are what matters: they all stay, of the rest every so many.
        keep = places["sentence start"] | (np.arange(len(places)) % (len(places) // MOST_BARS) == 0)
        places = places[keep]
    shown = places.dropna(subset=["severed"])
    x = token_axis("token", n, "cut before token")
    y = alt.Y(
        "severed:Q",
        title="would be severed, outside the sinks",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", tickCount=5),
    )
    pale = hexadecimal(blend(theme.background, ink, 5)[2])
    tooltip = [
        alt.Tooltip("token:Q", title="cut before token", format="d"),
        alt.Tooltip("severed:Q", title="severed", format=".1%"),
    ]
    return layered(
        alt.Chart(shown[shown["chosen"]]).mark_rule(color=theme.mark, strokeDash=[4, 3]).encode(x=x),
        alt.Chart(shown).mark_line(color=pale, strokeWidth=1.5).encode(x=x, y=y),
        alt.Chart(shown[shown["sentence start"]])
        .mark_point(size=50, filled=True, opacity=1, color=ink)
        .encode(x=x, y=y, tooltip=tooltip),
        height=CURVE_HEIGHT - 60,
    )
