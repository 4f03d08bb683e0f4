"""Heads under a mask: small maps on the screen and in print, and a mask of a few tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.cells import Encoded, encode
from longattn_core.charts.pixels import paint
from longattn_core.charts.style.altair import layered
from longattn_core.charts.style.png import Pixels, data_uri
from longattn_core.charts.style.scales import Scale
from longattn_core.charts.style.theme import FUTURE, NEVER, SIZES, Theme

__all__ = ["map_pixels", "maps_chart", "mask_chart"]

HIDDEN = {1: FUTURE, 2: NEVER}
"""What the studies call "ahead" and "padding", as the codes that are drawn: hatched, and never looked at."""


def map_pixels(weights: np.ndarray, hidden: np.ndarray, theme: Theme, *, factor: int = 2, scale: str = "log") -> Pixels:
    """A head's small map `[c, c]` as pixels: the weights' colours, the future hatched, padding in the colour of "never"."""
    cells = encode(np.nan_to_num(weights), Scale(kind="log" if scale == "log" else "linear"))
    codes = cells.codes.copy()
    for reason, code in HIDDEN.items():
        codes[hidden == reason] = code
    return paint(Encoded(codes=codes, fine=cells.fine), theme=theme, kind="log", factor=(factor, factor))


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
