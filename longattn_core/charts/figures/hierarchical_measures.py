"""Pictures of what is measured of a hierarchy: a descent's choices, the blocks that a query reads, where descents end, cost."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.figures.hierarchical import CHARACTER_WIDTH, mixed
from longattn_core.charts.maps import visible
from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.colour import hexadecimal
from longattn_core.charts.style.theme import CURVE_HEIGHT, Theme

MOST_BARS = 10
"""Candidates of a choice that are drawn, the heaviest ones."""


def choices_chart(candidates: pd.DataFrame, theme: Theme, *, title: str) -> alt.LayerChart:
    """One choice of the descent: each candidate's share, exact attention's beside the mechanism's.

    `candidates` are rows of `Descent`'s table `steps` of one level; the `MOST_BARS` heaviest are drawn in their order.
    """
    weight = candidates[["share", "exact"]].max(axis=1)
    kept = candidates[weight.rank(method="first", ascending=False) <= MOST_BARS].reset_index(drop=True)
    kept = kept.assign(
        order=np.arange(len(kept)),
        text=[f"{visible(label, 26)}{' (own)' if own else ''}" for label, own in zip(kept["label"], kept["own"], strict=True)],
    )
    kept["text"] = [f"{text}\u2009[{first}]" for text, first in zip(kept["text"], kept["first"], strict=True)]
    long = pd.concat(
        [
            kept.assign(who="exact attention", value=kept["exact"], offset=0),
            kept.assign(who="by the group's mean", value=kept["share"], offset=1),
        ],
        ignore_index=True,
    )
    names = ["exact attention", "by the group's mean"]
    inks = [theme.style("exact").colour, theme.style("hierarchical").colour]
    y = alt.Y("text:N", sort=list(kept["text"]), title=None, axis=alt.Axis(labelLimit=230, grid=False))
    x = alt.X("value:Q", title=title, axis=alt.Axis(format=".0%", tickCount=5), scale=alt.Scale(domainMin=0, nice=True))
    offset = alt.YOffset("who:N", sort=names, scale=alt.Scale(paddingInner=0.1))
    colour = alt.Color("who:N", scale=alt.Scale(domain=names, range=inks))
    base = alt.Chart(long)
    bars = base.mark_bar().encode(
        x=x,
        y=y,
        yOffset=offset,
        color=colour,
        tooltip=[
            alt.Tooltip("who:N", title="by"),
            alt.Tooltip("label:N", title="begins with"),
            alt.Tooltip("first:Q", title="from token"),
            alt.Tooltip("last:Q", title="to token"),
            alt.Tooltip("value:Q", title="share", format=".2~%"),
        ],
    )
    texts = base.mark_text(align="left", dx=4, baseline="middle", fontSize=theme.size("tick")).encode(
        x=x, y=y, yOffset=offset, text=alt.Text("value:Q", format=".1%"), color=colour
    )
    return layered(bars, texts, height=(48 + 40 * len(kept)) * theme.zoom, width="container")


def blocks_chart(items: pd.DataFrame, theme: Theme, *, query: int, n: int) -> alt.LayerChart:
    """What one query reads, block by block: far blocks long, near ones short, each as dark as the weight that it gets."""
    names = list(dict.fromkeys(items.sort_values("level", ascending=False)["name"]))
    palette = [hexadecimal(colour) for colour in theme.weights[::15]]
    table = items.assign(end=items["last"] + 1, shown=items["weight"].clip(lower=1e-4))
    x = alt.X(
        "first:Q", title="token position", scale=alt.Scale(domain=[0, n], nice=False), axis=alt.Axis(format="d", tickMinStep=1)
    )
    y = alt.Y("name:N", sort=names, title="read as", axis=alt.Axis(grid=False))
    boxes = (
        alt.Chart(table)
        .mark_rect(stroke=theme.border, strokeWidth=0.5)
        .encode(
            x=x,
            x2=alt.X2("end:Q"),
            y=y,
            color=alt.Color("shown:Q", scale=alt.Scale(type="log", domain=[1e-4, 1], range=palette, clamp=True)),
            tooltip=[
                alt.Tooltip("name:N", title="read as"),
                alt.Tooltip("first:Q", title="from token"),
                alt.Tooltip("last:Q", title="to token"),
                alt.Tooltip("size:Q", title="tokens"),
                alt.Tooltip("weight:Q", title="weight", format=".3~g"),
            ],
        )
    )
    place = pd.DataFrame({"first": [query + 0.5], "text": ["the query"]})
    mark = alt.Chart(place)
    rule = mark.mark_rule(color=theme.mark, strokeWidth=2).encode(x=x)
    left = query > n / 2
    label = mark.mark_text(
        align="right" if left else "left", dx=-6 if left else 6, color=theme.mark, fontSize=theme.size("tick")
    ).encode(x=x, y=fixed(alt.YValue, -8), text=alt.Text("text:N"))
    return layered(boxes, rule, label, height=max(120.0, 34.0 * len(names)) * theme.zoom, width="container")


def outcomes_chart(outcomes: pd.DataFrame, theme: Theme, *, names: Mapping[str, str]) -> alt.LayerChart:
    """Where descents end, as shares of those with a target in the own outermost group and in another one.

    `names` gives each outcome its words, in the order in which a descent meets them.
    """
    shown = outcomes[outcomes["of"] > 0]
    fills = [mixed(theme.lost, theme.background, strength) for strength in (0.75, 0.5, 0.28)]
    inks = [*fills[: len(names) - 1], mixed(theme.style("hierarchical").colour, theme.background, 0.45)]
    rows = []
    for own in (True, False):
        left = 0.0
        for outcome, words in names.items():
            for record in shown[(shown["own"] == own) & (shown["outcome"] == outcome)].to_dict("records"):
                where = "in its own" if own else "in another"
                rows.append(
                    {
                        "where": f"{where} ({record['of']})",
                        "outcome": words,
                        "x0": left,
                        "x1": left + record["share"],
                        "count": record["count"],
                        "share": record["share"],
                        "middle": left + record["share"] / 2,
                    }
                )
                left += float(record["share"])
    table = pd.DataFrame.from_records(rows)
    x = alt.X("x0:Q", title="share of the queries with a target", axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("where:N", sort=None, title=None, axis=alt.Axis(grid=False, labelLimit=200))
    scale = alt.Scale(domain=list(names.values()), range=inks)
    base = alt.Chart(table)
    bars = base.mark_bar(stroke=theme.background).encode(
        x=x,
        x2=alt.X2("x1:Q"),
        y=y,
        color=alt.Color("outcome:N", scale=scale),
        tooltip=[
            alt.Tooltip("where:N", title="the target stands"),
            alt.Tooltip("outcome:N", title="the descent"),
            alt.Tooltip("count:Q", title="queries"),
            alt.Tooltip("share:Q", title="share", format=".0%"),
        ],
    )
    size = theme.size("tick")
    fit = f"floor((datum.x1 - datum.x0) * width / {CHARACTER_WIDTH * theme.zoom:.2f}) - 1"
    labelled = base.transform_calculate(room=fit).transform_filter("datum.room >= 4")
    words_drawn = (
        labelled.transform_calculate(
            shown="length(datum.outcome) <= datum.room ? datum.outcome : truncate(datum.outcome, datum.room)"
        )
        .mark_text(fontSize=size, dy=-8, color=theme.text)
        .encode(x=alt.X("middle:Q"), y=y, text=alt.Text("shown:N"))
    )
    counts = labelled.mark_text(fontSize=size, dy=9, color=theme.text).encode(
        x=alt.X("middle:Q"), y=y, text=alt.Text("share:Q", format=".0%")
    )
    return layered(bars, words_drawn, counts, height=150 * theme.zoom, width="container")


def variants_chart(variants: pd.DataFrame, theme: Theme, *, error: str, control: str) -> alt.LayerChart:
    """Each way of joining levels as a point: its error over its cost beside exact attention, the control as a line."""
    shown = variants[variants[error].notna()].reset_index(drop=True)
    colour = theme.style("hierarchical").colour
    top = float(max(shown[error].max(), shown[control].max())) * 1.15
    x = alt.X(
        "cost:Q",
        title="operations, share of exact attention's",
        axis=alt.Axis(format=".0%", tickCount=6),
        scale=alt.Scale(domain=[0, 1.4 * float(shown["cost"].max())], nice=False),
    )
    y = alt.Y(f"{error}:Q", title="relative error of the output", scale=alt.Scale(domain=[0, top], nice=False))
    base = alt.Chart(shown)
    points = base.mark_point(filled=True, size=90, color=colour, shape="diamond").encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("label:N", title="levels joined"),
            alt.Tooltip("cost:Q", title="operations", format=".1%"),
            alt.Tooltip("looked:Q", title="keys and groups a query", format=".1f"),
            alt.Tooltip(f"{error}:Q", title="relative error", format=".3g"),
            alt.Tooltip(f"{control}:Q", title="mean of the visible values", format=".3g"),
        ],
    )
    size = theme.size("tick")
    places = _apart([float(value) for value in shown[error]], 16 * top / CURVE_HEIGHT)
    labels = (
        alt.Chart(shown.assign(at=places))
        .mark_text(align="left", dx=10, fontSize=size, color=theme.text)
        .encode(x=x, y=alt.Y("at:Q"), text=alt.Text("label:N"))
    )
    line = alt.Chart(pd.DataFrame({"at": [float(shown[control].iloc[0])], "text": ["mean of the visible values"]}))
    rule = line.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(y=alt.Y("at:Q"))
    words = line.mark_text(align="right", dx=-4, dy=-7, color=theme.muted, fontSize=size).encode(
        x=fixed(alt.XValue, "width"), y=alt.Y("at:Q"), text=alt.Text("text:N")
    )
    return layered(rule, words, points, labels, height=CURVE_HEIGHT, width="container")


def _apart(values: list[float], gap: float) -> list[float]:
    """The values, moved up where two would stand nearer than `gap`."""
    out = list(values)
    order: Any = np.argsort(values, kind="stable")
    for before, after in pairwise(order):
        out[after] = max(out[after], out[before] + gap)
    return out
