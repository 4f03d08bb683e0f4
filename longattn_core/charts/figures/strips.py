"""The strips of hashing for print: the keys in the text's order and sorted by bucket, one pair followed through all."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.pictures import StripsPicture
from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.group_colours import group_colours
from longattn_core.charts.style.theme import SIZES, Theme

LARGEST_PRINTED = 2000
"""Rectangles in the printed strips."""


def strips_chart(picture: StripsPicture, theme: Theme, *, width: int = 720) -> alt.LayerChart | alt.FacetChart:
    """The four strips for print: one rectangle a token (of a long text, every k-th), lines for the query and the key."""
    buckets, order = picture.buckets, picture.order
    query, marked, place = picture.query, picture.marked, picture.place
    n = len(buckets)
    kept = np.unique(np.linspace(0, n - 1, min(n, LARGEST_PRINTED // 4)).astype(int))
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    wide = n / len(kept)
    names = ("the text", "sorted by bucket", "what the query looks at", "back in the text")
    tall, pitch = 26, 66
    frames, inks = [], group_colours(sorted({int(b) for b in np.unique(buckets) if b >= 0}), theme)
    inside = np.zeros(n, dtype=bool)
    for start, stop in np.asarray(picture.stretches).reshape(-1, 2):
        inside[start:stop] = True
    for k in range(4):
        token = order[kept] if k in (1, 2) else kept
        lit = np.ones(len(kept), bool) if k < 2 else inside[kept] if k == 2 else picture.found[token] == 1
        top = k * pitch + np.where(lit, 0, tall * 0.78)
        bottom = np.full(len(kept), k * pitch + tall)
        frames.append(pd.DataFrame({"x": kept, "x2": kept + wide, "y": top, "y2": bottom, "bucket": buckets[token]}))
    across = alt.Scale(domain=[0, n], range=[0, width], nice=False)
    down = alt.Scale(domain=[0, 3 * pitch + tall], range=[20, 20 + 3 * pitch + tall], nice=False)
    cells = (
        alt.Chart(pd.concat(frames, ignore_index=True))
        .mark_rect()
        .encode(
            x=alt.X("x:Q", scale=across, axis=None),
            x2=alt.X2("x2:Q"),
            y=alt.Y("y:Q", scale=down, axis=None),
            y2=alt.Y2("y2:Q"),
            color=alt.Color("bucket:N", scale=alt.Scale(domain=list(inks), range=list(inks.values()))),
        )
    )
    lines = []
    for ink, places in ((theme.text, (query, place, place, query)), (theme.mark, (marked, rank[marked], rank[marked], marked))):
        for k in range(3):
            frame = pd.DataFrame(
                {"x": [places[k] + 0.5], "x2": [places[k + 1] + 0.5], "y": [k * pitch + tall], "y2": [(k + 1) * pitch]}
            )
            lines.append(
                alt.Chart(frame)
                .mark_rule(color=ink, strokeWidth=2)
                .encode(x=alt.X("x:Q", scale=across), x2=alt.X2("x2:Q"), y=alt.Y("y:Q", scale=down), y2=alt.Y2("y2:Q"))
            )
    labels = [
        alt.Chart(pd.DataFrame({"name": [name]}))
        .mark_text(align="left", baseline="bottom", fontSize=SIZES["tick"] * theme.zoom)
        .encode(x=fixed(alt.XValue, 0), y=fixed(alt.YValue, 17 + k * pitch), text=alt.Text("name:N"))
        for k, name in enumerate(names)
    ]
    return layered(cells, *lines, *labels, width=width, height=3 * pitch + tall + 24)
