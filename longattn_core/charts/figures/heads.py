"""Heads and masks as pictures: small maps, a mask, the bonds between query heads and shared keys, and all heads with names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.cells import encode
from longattn_core.charts.pixels import paint
from longattn_core.charts.style.altair import layered, selecting
from longattn_core.charts.style.colour import hexadecimal
from longattn_core.charts.style.png import Pixels, data_uri
from longattn_core.charts.style.scales import Scale
from longattn_core.charts.style.theme import FUTURE, NEVER, SIZES, Theme

__all__ = [
    "bonds_chart",
    "cache_chart",
    "likeness_chart",
    "map_pixels",
    "maps_chart",
    "mask_chart",
    "role_colours",
    "survey_chart",
]

HIDDEN = {1: FUTURE, 2: NEVER}
"""What the studies call "ahead" and "padding", as the codes that are drawn: hatched, and never looked at."""
NARROW = "width < 560"
"""On a phone there is no room for a number in each circle: there a touch names them."""
ROLE_HUES = {
    "induction": "favor",
    "same word": "routed",
    "previous token": "lsh",
    "local": "probsparse",
    "sinks": "",
    "diffuse": "window",
    "high rank": "low_rank",
}
"""Whose colours the roles take; sinks are grey, and what has no role is the paper."""


def map_pixels(weights: np.ndarray, hidden: np.ndarray, theme: Theme, *, factor: int = 2, scale: str = "log") -> Pixels:
    """A head's small map `[c, c]` as pixels: the weights' colours, the future hatched, padding in the colour of "never"."""
    cells = encode(np.nan_to_num(weights), Scale(kind="log" if scale == "log" else "linear"))
    codes = cells.codes.copy()
    for reason, code in HIDDEN.items():
        codes[hidden == reason] = code
    return paint(type(cells)(codes=codes, fine=cells.fine), theme=theme, kind="log", factor=(factor, factor))


def mask_chart(codes: np.ndarray, theme: Theme, *, tokens: Sequence[str], height: int = 230) -> alt.LayerChart | alt.FacetChart:
    """A mask of a few tokens `[n, n]`, named by words of ours: who may look at whom.

    Crossed where the key lies ahead, grey where a token is padding.
    """
    n = len(codes)
    names = {0: "may look", 1: "hidden: it lies ahead", 2: "hidden: padding"}
    rows = [
        {"query": f"{i:02d}", "key": f"{j:02d}", "code": names[int(codes[i, j])], "from": tokens[i], "to": tokens[j]}
        for i in range(n)
        for j in range(n)
    ]
    inks = {names[0]: theme.style("window").colour, names[1]: theme.hatch, names[2]: theme.never}
    # The words are ours, not a visitor's: they may stand in an expression.
    names_at = f"{json.dumps(list(tokens))}[+datum.value]"
    axis = alt.Axis(labelExpr=names_at, labelAngle=0, ticks=False, domain=False, labelPadding=4)
    slanted = alt.Axis(labelExpr=names_at, labelAngle=-50, ticks=False, domain=False, labelPadding=4)
    colour = alt.Color("code:N", scale=alt.Scale(domain=list(inks), range=list(inks.values())), legend=None)
    tooltip = [alt.Tooltip("from:N", title="query"), alt.Tooltip("to:N", title="key"), alt.Tooltip("code:N", title="the mask")]
    base = alt.Chart(pd.DataFrame(rows))
    x = alt.X("key:N", title="key →", axis=slanted, scale=alt.Scale(paddingInner=0.08))
    y = alt.Y("query:N", title="↓ query", axis=axis, scale=alt.Scale(paddingInner=0.08))
    squares = base.mark_rect(stroke=theme.border, strokeWidth=0.4).encode(x=x, y=y, color=colour, tooltip=tooltip)
    crosses = (
        base.transform_filter(alt.FieldEqualPredicate(field="code", equal=names[1]))
        .mark_text(text="×", fontSize=SIZES["tick"] * theme.zoom, color=theme.muted)
        .encode(x=x, y=y, tooltip=tooltip)
    )
    return layered(squares, crosses, height=height, width=height)


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
            readers = [head for head, one in pairs if one == kv]
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
    for one in (*rows, *dots):
        plain = theme.style("window").colour if one["own"] else theme.border
        one["ink"] = theme.mark if one["marked"] else plain
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


def role_colours(theme: Theme) -> dict[str, str]:
    """The colour of each role."""
    inks = {role: theme.style(key).colour if key else theme.border for role, key in ROLE_HUES.items()}
    return {**inks, "mixed": theme.never}


def survey_chart(
    heads: pd.DataFrame,
    theme: Theme,
    *,
    chosen: str,
    value: str = "role",
    title: str = "",
    layers: int | None = None,
    height: int = 300,
) -> alt.LayerChart | alt.FacetChart:
    """Every head as a cell, layers across and heads down: coloured by its name, or by a measured column.

    `chosen` ("L17 H3") is framed. The selection "head" holds the cell that was clicked. `layers` keeps places for those that are
    not measured yet.
    """
    inks = role_colours(theme)
    table = heads.copy()
    table["shown"] = table[value] if value != "role" else 0.0
    size = SIZES["tick"] * theme.zoom
    count = max(layers or 0, int(table["layer"].max()) + 1)
    x = alt.X(
        "layer:O",
        title=title or "layer",
        scale=alt.Scale(domain=list(range(count)), paddingInner=0.08),
        axis=alt.Axis(labelAngle=0, labelOverlap=True),
    )
    y = alt.Y("head:O", title="head", scale=alt.Scale(paddingInner=0.08))
    if value == "role":
        colour = alt.Color("role:N", scale=alt.Scale(domain=list(inks), range=list(inks.values())), legend=None)
    else:
        ramp = [theme.background, theme.style("window").colour]
        colour = alt.Color("shown:Q", scale=alt.Scale(range=ramp, domainMin=0), legend=None)
    tooltip = [
        alt.Tooltip("name:N", title="head"),
        alt.Tooltip("role:N", title="what it does"),
        alt.Tooltip("traits:N", title="also"),
        *(alt.Tooltip(f"{column}:Q", title=said, format=form) for column, said, form in _FACTS),
    ]
    pick = alt.selection_point(name="head", fields=["layer", "head"], on="click", empty=False, toggle=False)
    base = alt.Chart(table)
    cells = (
        base.mark_rect(stroke=theme.border, strokeWidth=0.4)
        .encode(x=x, y=y, color=colour, tooltip=tooltip)
        .properties(name="cells")
    )
    frame = (
        base.transform_filter(alt.FieldEqualPredicate(field="name", equal=chosen))
        .mark_rect(filled=False, stroke=theme.mark, strokeWidth=3)
        .encode(x=x, y=y, tooltip=tooltip)
    )
    drawn: list[alt.Chart] = [cells, frame]
    if value == "role":
        marks = base.transform_filter("datum.role != 'mixed'").transform_calculate(letter=_letter())
        drawn.append(
            marks.mark_text(fontSize=size, color=theme.text, opacity=0.9).encode(
                x=x, y=y, text=alt.Text("letter:N"), color=alt.Color("ink:N", scale=None), tooltip=tooltip
            )
        )
        table["ink"] = [theme.ink_on(inks[role]) for role in table["role"]]
    # Two colour scales stand in one picture: the cells' own, and the letters', which are colours already.
    rows = int(table["head"].max()) + 1
    return layered(
        *drawn,
        height=min(height, 60 + 34 * rows),
        width="container",
        resolve={"scale": {"color": "independent"}},
        params=[selecting(pick, "cells")],
    )


LETTERS = {
    "induction": "I",
    "same word": "W",
    "previous token": "P",
    "local": "L",
    "sinks": "S",
    "diffuse": "D",
    "high rank": "R",
}
"""A role is told by its letter too, never by colour alone."""

_FACTS = (
    ("near", "within 8 tokens", ".0%"),
    ("previous", "token before", ".0%"),
    ("same word", "same word", ".0%"),
    ("induction", "what followed it", ".0%"),
    ("sinks", "sinks", ".0%"),
    ("effective", "effective tokens", ".3~g"),
    ("rank", "rank", "d"),
    ("rank without sinks", "rank without sinks", "d"),
)


def _letter() -> str:
    return "{" + ", ".join(f"'{role}': '{letter}'" for role, letter in LETTERS.items()) + "}[datum.role]"


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


def maps_chart(
    maps: np.ndarray, hidden: np.ndarray, theme: Theme, *, heads: Sequence[str], size: int = 150
) -> alt.HConcatChart | alt.VConcatChart | alt.ConcatChart:
    """The small maps for print, three in a row, each with its head's name."""
    panels = []
    for weights, name in zip(maps, heads, strict=True):
        frame = pd.DataFrame(
            {"x": [0.0], "x2": [1.0], "y": [0.0], "y2": [1.0], "url": [data_uri(map_pixels(weights, hidden, theme, factor=4))]}
        )
        picture = (
            alt.Chart(frame)
            .mark_image(aspect=False)
            .encode(
                x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, 1])),
                x2=alt.X2("x2:Q"),
                y=alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[0, 1])),
                y2=alt.Y2("y2:Q"),
                url=alt.Url("url:N"),
            )
        )
        panels.append(picture.properties(width=size, height=size, title=alt.TitleParams(name, fontSize=SIZES["label"])))
    return alt.concat(*panels, columns=3, spacing=12)
