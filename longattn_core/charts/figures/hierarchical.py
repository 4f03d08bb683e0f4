"""The icicle of one query's mass, from paragraph to token: a box a group, as wide as its share."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.maps import visible
from longattn_core.charts.style.altair import fixed, layered, selecting
from longattn_core.charts.style.colour import hexadecimal, rgb
from longattn_core.charts.style.theme import Theme

ROW = 34
"""Pixels of one level of the icicle."""
TITLE = 24
"""Pixels of an icicle's title."""
THIN = 0.003
"""Groups below this share of the width are joined into one, which says how many they are."""
CHARACTER_WIDTH = 6.4
"""Pixels of an average character of 12 px type, for cutting labels to their box."""
SELECTED = "node"
"""The name of the selection that a click on the icicle makes."""


def role_colours(theme: Theme) -> dict[str, str]:
    """The fill of each role in the icicle: where exact attention looks most, the query's own groups, a sink, the rest."""
    return {
        "target": mixed(theme.mark, theme.background, 0.55),
        "own": mixed(theme.style("hierarchical").colour, theme.background, 0.42),
        "sink": mixed(theme.muted, theme.background, 0.30),
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
        .mark_text(align="left", baseline="middle", dx=4, fontSize=theme.size("tick"), color=theme.text, clip=True)
        .encode(x=x, y=alt.Y("y_middle:Q"), text=alt.Text("shown:N"))
    )
    shares = (
        base.transform_filter("datum.id >= 0 && datum.room >= 10")
        .transform_calculate(y_middle="(datum.y0 + datum.y1) / 2")
        .mark_text(align="right", baseline="middle", dx=-5, fontSize=theme.size("tick"), color=theme.text)
        .encode(x=alt.X("x1:Q"), y=alt.Y("y_middle:Q"), text=alt.Text("mass:Q", format=".0%"))
    )
    head = (
        alt.Chart(pd.DataFrame(heads))
        .mark_text(align="left", baseline="alphabetic", fontSize=theme.size("label"), fontWeight=600)
        .encode(x=fixed(alt.XValue, 0), y=alt.Y("y:Q"), text=alt.Text("text:N"))
    )
    return layered(
        boxes_drawn, texts, shares, head, height=height, width="container", data=table, params=[selecting(select, "boxes")]
    )


def mixed(hue: str, ground: str, strength: float) -> str:
    """A hue laid over a ground: 1 is the hue alone, 0 the ground."""
    return hexadecimal([round(strength * h + (1 - strength) * g) for h, g in zip(rgb(hue), rgb(ground), strict=True)])
