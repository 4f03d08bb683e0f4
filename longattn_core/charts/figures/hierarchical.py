"""Pictures of hierarchical attention: the icicle of one query's mass, its choices level by level, blocks, where descents end."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.maps import visible
from longattn_core.charts.style.altair import fixed, layered, selecting
from longattn_core.charts.style.colour import hexadecimal, rgb
from longattn_core.charts.style.theme import CURVE_HEIGHT, SIZES, Theme

ROW = 34
"""Pixels of one level of the icicle."""
TITLE = 24
THIN = 0.003
"""Groups below this share of the width are joined into one, which says how many they are."""
CHARACTER_WIDTH = 6.4
"""Pixels of an average character of 12 px type, for cutting labels to their box."""
SELECTED = "node"
"""The name of the selection that a click on the icicle makes."""
MOST_BARS = 10


def role_colours(theme: Theme) -> dict[str, str]:
    """The fill of each role in the icicle: where exact attention looks most, the query's own groups, a sink, the rest."""
    return {
        "target": _mixed(theme.mark, theme.background, 0.55),
        "own": _mixed(theme.style("hierarchical").colour, theme.background, 0.42),
        "sink": _mixed(theme.muted, theme.background, 0.30),
        "rest": theme.surface,
    }


def roles_of(nodes: pd.DataFrame, best: int) -> list[str]:
    """The role of each node: on the way to token `best`, on the query's own way, a sink alone, or none of these."""
    target = (nodes["first"] <= best) & (nodes["last"] >= best)
    alone = nodes["sink"] & (nodes["depth"] == nodes["depth"].max())
    return list(np.select([target, nodes["own"], alone], ["target", "own", "sink"], "rest"))


def laid_out(nodes: pd.DataFrame, column: str, focus: int = -1) -> pd.DataFrame:
    """Boxes of an icicle: every node below `focus` (−1: all), as wide as its share of the focus' mass in `column`.

    Children stand in their order, from their parent's left edge. Neighbours thinner than `THIN` are joined into one box
    without an `id` (−1), whose label counts them. `x0`, `x1` are shares of the width, `row` counts from 0 at the top.
    """
    mass = nodes[column].to_numpy(dtype=float)
    children: dict[int, list[int]] = {}
    for index, parent in enumerate(nodes["parent"].tolist()):
        children.setdefault(int(parent), []).append(index)
    begin = [focus] if focus >= 0 else children.get(-1, [])
    whole = float(mass[begin].sum())
    if whole <= 0:
        return pd.DataFrame(columns=["id", "row", "x0", "x1", "count", "mass", "of parent"])
    boxes: list[dict[str, float]] = []
    waiting: list[tuple[list[int], float, int, float]] = [(begin, 0.0, 0, whole)]
    while waiting:
        siblings, left, row, parent_mass = waiting.pop()
        thin: list[int] = []
        for index in [*siblings, -1]:
            wide = index >= 0 and mass[index] / whole >= THIN
            if index >= 0 and not wide:
                thin.append(index)
                continue
            if thin:
                total = float(mass[thin].sum())
                if total / whole >= THIN / 2:
                    boxes.append(_box(-1, row, left, total, whole, parent_mass, len(thin)))
                left += total / whole
                thin = []
            if wide:
                boxes.append(_box(index, row, left, mass[index], whole, parent_mass, 1))
                waiting.append((children.get(index, []), left, row + 1, float(mass[index])))
                left += mass[index] / whole
    return pd.DataFrame.from_records(boxes)


def _box(index: int, row: int, left: float, mass: float, whole: float, parent_mass: float, count: int) -> dict[str, float]:
    return {
        "id": index,
        "row": row,
        "x0": left,
        "x1": min(1.0, left + float(mass) / whole),
        "count": count,
        "mass": float(mass),
        "of parent": float(mass) / parent_mass if parent_mass > 0 else 0.0,
    }


def icicle_chart(nodes: pd.DataFrame, theme: Theme, *, best: int, titles: Mapping[str, str], focus: int = -1) -> alt.LayerChart:
    """Icicles under one another, one for each column of `titles` (column → title): a box's width is its share of the mass.

    Boxes carry their text as far as it fits; a click selects one (`SELECTED`, the node's row). `best` is the token that
    exact attention weighs most: the way to it is drawn in the mark's colour in every icicle.
    """
    nodes = nodes.assign(role=roles_of(nodes, best))
    rows = int(nodes["depth"].max()) + 1 - (int(nodes["depth"].iloc[focus]) if focus >= 0 else 0)
    row = ROW * theme.zoom
    panel = TITLE * theme.zoom + rows * row
    frames, heads = [], []
    for place, (column, title) in enumerate(titles.items()):
        top = place * (panel + 10)
        boxes = laid_out(nodes, column, focus)
        known = (boxes["id"] >= 0).to_numpy()
        index = boxes["id"].clip(lower=0).to_numpy(dtype=int)
        labels = nodes["label"].to_numpy()[index]
        counts = boxes["count"].tolist()
        # One table with all columns: added one after the other they would take ten times as long.
        frames.append(
            pd.DataFrame(
                {
                    **{name: boxes[name].to_numpy() for name in boxes.columns},
                    "y0": top + TITLE * theme.zoom + boxes["row"].to_numpy() * row,
                    "y1": top + TITLE * theme.zoom + (boxes["row"].to_numpy() + 1) * row - 2,
                    "panel": title,
                    "level": np.where(known, nodes["level"].to_numpy()[index], "several"),
                    "role": np.where(known, nodes["role"].to_numpy()[index], "rest"),
                    "text": np.where(
                        known, [visible(label, 60) for label in labels], ["…" if count > 1 else "" for count in counts]
                    ),
                    "name": np.where(
                        known,
                        [visible(label, 80) for label in labels],
                        [f"{int(count):,} thin ones together" for count in counts],
                    ),
                }
            )
        )
        heads.append({"text": title, "y": top + TITLE * theme.zoom - 8})
    table = pd.concat(frames, ignore_index=True)
    height = len(titles) * (panel + 10) - 10
    colours = role_colours(theme)
    select = alt.selection_point(name=SELECTED, fields=["id"], on="click", clear=False)
    x = alt.X("x0:Q", scale=alt.Scale(domain=[0, 1], nice=False), axis=None)
    y = alt.Y("y0:Q", scale=alt.Scale(domain=[0, height], reverse=True, nice=False), axis=None)
    fit = f"floor((datum.x1 - datum.x0) * width / {CHARACTER_WIDTH * theme.zoom:.2f}) - 1"
    # The layers share one table, which is then written out once and not four times.
    base = alt.Chart().transform_calculate(room=fit)
    boxes_drawn = (
        base.mark_rect(stroke=theme.background, strokeWidth=1, cursor="pointer")
        .encode(
            x=x,
            x2=alt.X2("x1:Q"),
            y=y,
            y2=alt.Y2("y1:Q"),
            color=alt.Color("role:N", scale=alt.Scale(domain=list(colours), range=list(colours.values()))),
            tooltip=[
                alt.Tooltip("panel:N", title="map"),
                alt.Tooltip("level:N", title="level"),
                alt.Tooltip("name:N", title="begins with"),
                alt.Tooltip("mass:Q", title="share of the query's attention", format=".2~%"),
                alt.Tooltip("of parent:Q", title="share of what arrives above", format=".2~%"),
            ],
        )
        .properties(name="boxes")
    )
    texts = (
        base.transform_filter("datum.room >= 2")
        .transform_calculate(
            # Where there is room for it, the share stands at the right end and the label gives way.
            kept="datum.id >= 0 && datum.room >= 10 ? datum.room - 6 : datum.room",
            y_middle="(datum.y0 + datum.y1) / 2",
        )
        .transform_calculate(shown="length(datum.text) <= datum.kept ? datum.text : truncate(datum.text, max(2, datum.kept))")
        .mark_text(align="left", baseline="middle", dx=4, fontSize=SIZES["tick"] * theme.zoom, color=theme.text, clip=True)
        .encode(x=x, y=alt.Y("y_middle:Q"), text=alt.Text("shown:N"))
    )
    shares = (
        base.transform_filter("datum.id >= 0 && datum.room >= 10")
        .transform_calculate(y_middle="(datum.y0 + datum.y1) / 2")
        .mark_text(align="right", baseline="middle", dx=-5, fontSize=SIZES["tick"] * theme.zoom, color=theme.text)
        .encode(x=alt.X("x1:Q"), y=alt.Y("y_middle:Q"), text=alt.Text("mass:Q", format=".0%"))
    )
    head = (
        alt.Chart(pd.DataFrame(heads))
        .mark_text(align="left", baseline="alphabetic", fontSize=SIZES["label"] * theme.zoom, fontWeight=600)
        .encode(x=fixed(alt.XValue, 0), y=alt.Y("y:Q"), text=alt.Text("text:N"))
    )
    return layered(
        boxes_drawn, texts, shares, head, height=height, width="container", data=table, params=[selecting(select, "boxes")]
    )


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
    texts = base.mark_text(align="left", dx=4, baseline="middle", fontSize=SIZES["tick"] * theme.zoom).encode(
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
        align="right" if left else "left", dx=-6 if left else 6, color=theme.mark, fontSize=SIZES["tick"] * theme.zoom
    ).encode(x=x, y=fixed(alt.YValue, -8), text=alt.Text("text:N"))
    return layered(boxes, rule, label, height=max(120.0, 34.0 * len(names)) * theme.zoom, width="container")


def outcomes_chart(outcomes: pd.DataFrame, theme: Theme, *, names: Mapping[str, str]) -> alt.LayerChart:
    """Where descents end, as shares of those with a target in the own outermost group and in another one.

    `names` gives each outcome its words, in the order in which a descent meets them.
    """
    shown = outcomes[outcomes["of"] > 0]
    fills = [_mixed(theme.lost, theme.background, strength) for strength in (0.75, 0.5, 0.28)]
    inks = [*fills[: len(names) - 1], _mixed(theme.style("hierarchical").colour, theme.background, 0.45)]
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
    size = SIZES["tick"] * theme.zoom
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
    size = SIZES["tick"] * theme.zoom
    places = _apart([float(value) for value in shown[error]], 16 * top / CURVE_HEIGHT)
    labels = (
        alt.Chart(shown.assign(at=places))
        .mark_text(align="left", dx=10, fontSize=size, color=theme.text)
        .encode(x=x, y=alt.Y("at:Q"), text=alt.Text("label:N"))
    )
    line = alt.Chart(pd.DataFrame({"at": [float(shown[control].iloc[0])], "text": ["mean of the visible values"]}))
    rule = line.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(y=alt.Y("at:Q"))
    said = line.mark_text(align="right", dx=-4, dy=-7, color=theme.muted, fontSize=size).encode(
        x=fixed(alt.XValue, "width"), y=alt.Y("at:Q"), text=alt.Text("text:N")
    )
    return layered(rule, said, points, labels, height=CURVE_HEIGHT, width="container")


def _apart(values: list[float], gap: float) -> list[float]:
    """The values, moved up where two would stand nearer than `gap`."""
    out = list(values)
    order: Any = np.argsort(values, kind="stable")
    for before, after in pairwise(order):
        out[after] = max(out[after], out[before] + gap)
    return out


def _mixed(hue: str, ground: str, strength: float) -> str:
    return hexadecimal([round(strength * h + (1 - strength) * g) for h, g in zip(rgb(hue), rgb(ground), strict=True)])
