"""Heads that share keys: the bonds between query heads and keys, the size of the cache, and how alike two heads are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from longattn_core.charts.style.altair import layered
from longattn_core.charts.style.colour import hexadecimal
from longattn_core.charts.style.theme import SIZES, Theme

__all__ = ["bonds_chart", "cache_chart", "likeness_chart"]

NARROW = "width < 560"
"""On a phone a circle has no room for its number; a touch shows it."""


def bonds_chart(
    bonds: Mapping[str, Sequence[tuple[int, int]]], theme: Theme, *, model: str, chosen: int | None = None, height: int = 190
) -> alt.LayerChart | alt.FacetChart:
    """Query heads above, the key/value heads that they read below, for each scheme side by side; the model's own in colour.

    `bonds` maps a scheme to its (query head, key/value head) pairs; `chosen` marks a query head.
    """
    rows: list[dict[str, Any]] = []
    dots: list[dict[str, Any]] = []
    for place, (scheme, pairs) in enumerate(bonds.items()):
        heads, shared = len(pairs), len({kv for _, kv in pairs})
        own = scheme == model
        for head, kv in pairs:
            left, right = place + _slot(head, heads), place + _slot(kv, shared)
            marked = own and head == chosen
            rows.append({"x": left, "x2": right, "own": own, "marked": marked})
            dots.append({"x": left, "y": 1.0, "text": str(head), "own": own, "marked": marked, "what": f"query head {head}"})
        for kv in range(shared):
            readers = [head for head, read in pairs if read == kv]
            dots.append(
                {
                    "x": place + _slot(kv, shared),
                    "y": 0.0,
                    "text": str(kv),
                    "own": own,
                    "marked": own and chosen in readers,
                    "what": f"key/value head {kv}, read by {', '.join(map(str, readers))}",
                }
            )
    names = pd.DataFrame(
        {
            "x": [place + 0.5 for place in range(len(bonds))],
            "text": [f"{scheme}{' (this one)' if scheme == model else ''}" for scheme in bonds],
        }
    )
    size, zoom = SIZES["tick"] * theme.zoom, theme.zoom
    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, max(1, len(bonds))], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.25, 1.5], nice=False))
    ink = alt.Color("ink:N", scale=None)
    for mark in (*rows, *dots):
        plain = theme.style("window").colour if mark["own"] else theme.border
        mark["ink"] = theme.mark if mark["marked"] else plain
    lines = alt.Chart(pd.DataFrame(rows).assign(y=1.0, y2=0.0)).mark_rule(strokeWidth=1.6)
    circles, above = alt.Chart(pd.DataFrame(dots)), alt.Chart(names.assign(y=1.38))
    tooltip = alt.Tooltip("what:N", title="head")
    return layered(
        lines.encode(x=x, x2=alt.X2("x2:Q"), y=y, y2=alt.Y2("y2:Q"), color=ink),
        circles.mark_circle(size=alt.ExprRef(f"{NARROW} ? 60 : {330 * zoom}"), opacity=1).encode(
            x=x, y=y, color=ink, tooltip=tooltip
        ),
        circles.mark_text(fontSize=size, color=theme.background, fontWeight=600, opacity=alt.ExprRef(f"{NARROW} ? 0 : 1")).encode(
            x=x, y=y, text=alt.Text("text:N")
        ),
        above.mark_text(fontSize=SIZES["label"] * zoom, color=theme.text).encode(x=x, y=y, text=alt.Text("text:N")),
        height=height,
        width="container",
    )


def _slot(index: int, count: int) -> float:
    return 0.06 + 0.88 * (index + 0.5) / count


def cache_chart(cache: pd.DataFrame, theme: Theme, *, model: str, height: int = 150) -> alt.LayerChart | alt.FacetChart:
    """Bytes that the cache keeps of one token, a bar a scheme; the model's own in colour."""
    table = cache.assign(own=cache["scheme"] == model, said=[f"{size:,} bytes" for size in cache["bytes a token"]])
    most = float(table["bytes a token"].max())
    x = alt.X(
        "bytes a token:Q",
        title="bytes kept of one token, 2 a number",
        scale=alt.Scale(domain=[0, 1.35 * most], nice=False),
        axis=alt.Axis(format="~s", tickCount=5),
    )
    y = alt.Y("scheme:N", sort=list(table["scheme"]), title=None, axis=alt.Axis(labelFontSize=SIZES["label"] * theme.zoom))
    colour = alt.condition("datum.own", alt.value(theme.style("window").colour), alt.value(theme.border))
    base = alt.Chart(table)
    bars = base.mark_bar(height=22).encode(
        x=x,
        y=y,
        color=colour,
        tooltip=[alt.Tooltip("scheme:N"), alt.Tooltip("key/value heads:Q"), alt.Tooltip("bytes a token:Q")],
    )
    words = base.mark_text(align="left", dx=6, fontSize=SIZES["tick"] * theme.zoom, color=theme.text).encode(
        x=x, y=y, text=alt.Text("said:N")
    )
    return layered(bars, words, height=height, width="container")


def likeness_chart(
    pairs: pd.DataFrame, theme: Theme, *, heads: Sequence[int], size: int = 300
) -> alt.LayerChart | alt.FacetChart:
    """How far the rows of two heads overlap, a cell a pair; pairs that share keys are framed."""
    rows = []
    for _, pair in pairs.iterrows():
        for a, b in ((pair["first"], pair["second"]), (pair["second"], pair["first"])):
            rows.append(
                {
                    "a": int(a),
                    "b": int(b),
                    "overlap": float(pair["overlap without sinks"]),
                    "share": bool(pair["share keys"]),
                    "whole": float(pair["overlap"]),
                }
            )
    table = pd.DataFrame(rows)
    table["overlap"] = table["overlap"].fillna(0.0)
    ramp = [hexadecimal(colour) for colour in theme.weights[::32]]
    table["ink"] = [theme.ink_on(ramp[min(int(value * len(ramp)), len(ramp) - 1)]) for value in table["overlap"]]
    scale = alt.Scale(domain=list(heads), paddingInner=0.06)
    x = alt.X("b:O", title="head", scale=scale, axis=alt.Axis(labelAngle=0, orient="top"))
    y = alt.Y("a:O", title="head", scale=scale)
    tooltip = [
        alt.Tooltip("a:O", title="head"),
        alt.Tooltip("b:O", title="and head"),
        alt.Tooltip("overlap:Q", title="overlap without sinks", format=".2f"),
        alt.Tooltip("whole:Q", title="overlap with sinks", format=".2f"),
        alt.Tooltip("share:N", title="share keys"),
    ]
    base = alt.Chart(table)
    cells = base.mark_rect().encode(
        x=x, y=y, color=alt.Color("overlap:Q", scale=alt.Scale(domain=[0, 1], range=ramp), legend=None), tooltip=tooltip
    )
    frames = base.transform_filter("datum.share").mark_rect(filled=False, stroke=theme.mark, strokeWidth=2.5)
    numbers = base.mark_text(fontSize=SIZES["tick"] * theme.zoom).encode(
        x=x, y=y, text=alt.Text("overlap:Q", format=".2f"), color=alt.Color("ink:N", scale=None), tooltip=tooltip
    )
    return layered(
        cells,
        frames.encode(x=x, y=y, tooltip=tooltip),
        numbers,
        width=int(1.25 * size),
        height=size,
        resolve={"scale": {"color": "independent"}},
    )
