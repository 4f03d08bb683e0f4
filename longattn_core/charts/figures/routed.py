"""Pictures of routing: load bars, shares along the text, the flow from token kinds to paths, errors, cluster sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.colour import hexadecimal, rgb
from longattn_core.charts.style.group_colours import group_colours
from longattn_core.charts.style.labels import Align
from longattn_core.charts.style.theme import CURVE_HEIGHT, SIZES, Theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_STEPS = 512
"""Stretches of the text that the shares are drawn for; longer texts are averaged."""


def path_colours(paths: Sequence[str], theme: Theme) -> dict[str, str]:
    """A quiet colour for each path, the same as in the text picture, where paths are numbered in this order."""
    inks = group_colours(range(len(paths)), theme)
    return {path: inks[index] for index, path in enumerate(paths)}


def load_chart(paths: pd.DataFrame, theme: Theme, *, other: str, other_name: str) -> alt.LayerChart:
    """The load of each path as a bar, the load under another router (column `other`) as a tick, the even share dashed."""
    names = list(paths["path"])
    colours = path_colours(names, theme)
    size = SIZES["tick"] * theme.zoom
    x = alt.X(
        "load:Q", title="mean share of the tokens", scale=alt.Scale(domain=[0, 1.0]), axis=alt.Axis(format=".0%", tickCount=4)
    )
    y = alt.Y("path:N", sort=names, title=None, axis=alt.Axis(grid=False, labelLimit=110))
    base = alt.Chart(paths)
    tooltip = [
        alt.Tooltip("path:N", title="path"),
        alt.Tooltip("load:Q", title="load", format=".1%"),
        alt.Tooltip(f"{other}:Q", title=other_name, format=".1%"),
        alt.Tooltip("chosen:Q", title="largest share for", format=".1%"),
        alt.Tooltip("best:Q", title="serves best", format=".1%"),
    ]
    bars = base.mark_bar(size=22 * theme.zoom).encode(
        x=x, y=y, color=alt.Color("path:N", scale=alt.Scale(domain=names, range=list(colours.values()))), tooltip=tooltip
    )
    ticks = base.mark_tick(thickness=3, size=30 * theme.zoom, color=theme.muted).encode(
        x=alt.X(f"{other}:Q"), y=y, tooltip=tooltip
    )
    inside = base.transform_calculate(
        shown="format(datum.load, '.1%')", at="datum.load > 0.7 ? 0.02 : datum.load + 0.02"
    ).mark_text(align="left", fontSize=size, color=theme.text)
    texts = inside.encode(x=alt.X("at:Q"), y=y, text=alt.Text("shown:N"))
    even = alt.Chart(pd.DataFrame({"load": [1 / len(names)]}))
    rule = even.mark_rule(strokeDash=[5, 4], color=theme.muted).encode(x=x)
    return layered(bars, rule, ticks, texts, height=max(110, 46 * len(names)) * theme.zoom, width="container")


def probabilities_chart(shares: np.ndarray, paths: Sequence[str], theme: Theme) -> alt.LayerChart:
    """The shares of the paths stacked along the text: at each token they add up to 1. Beyond 512 tokens, means of stretches."""
    n = len(shares)
    edges = np.unique(np.linspace(0, n, min(n, MOST_STEPS) + 1).astype(int))
    stretch = np.add.reduceat(shares, edges[:-1], axis=0) / np.diff(edges)[:, None]
    above = np.cumsum(stretch, axis=1)
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "x": edges[:-1],
                    "x2": edges[1:],
                    "y": above[:, index] - stretch[:, index],
                    "y2": above[:, index],
                    "path": path,
                    "share": stretch[:, index],
                }
            )
            for index, path in enumerate(paths)
        ],
        ignore_index=True,
    )
    colours = path_colours(paths, theme)
    chart = (
        alt.Chart(table)
        .mark_rect()
        .encode(
            x=alt.X("x:Q", title="token position", scale=alt.Scale(domain=[0, n], nice=False), axis=alt.Axis(format="d")),
            x2=alt.X2("x2:Q"),
            y=alt.Y("y:Q", title="share of the paths (stacked)", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")),
            y2=alt.Y2("y2:Q"),
            color=alt.Color("path:N", scale=alt.Scale(domain=list(paths), range=list(colours.values()))),
            tooltip=[
                alt.Tooltip("path:N", title="path"),
                alt.Tooltip("x:Q", title="from token"),
                alt.Tooltip("share:Q", title="share", format=".1%"),
            ],
        )
    )
    return layered(chart, height=220 * theme.zoom, width="container")


def flow_figure(flow: pd.DataFrame, theme: Theme) -> go.Figure:
    """Token kinds on the left, paths on the right, ribbons as wide as the tokens that go that way."""
    import plotly.graph_objects as go

    shown = flow[flow["of"] > 0]
    kinds, paths = list(dict.fromkeys(shown["kind"])), list(dict.fromkeys(shown["path"]))
    colours = path_colours(paths, theme)
    loads = shown.groupby("path", sort=False)["tokens"].sum()
    counts = shown.groupby("kind", sort=False)["of"].first()
    labels = [f"{kind} ({int(counts[kind]):,})" for kind in kinds] + [f"{path} ({loads[path]:,.0f})" for path in paths]
    drawn = shown[shown["tokens"] > 0]
    figure = go.Figure(
        go.Sankey(
            arrangement="fixed",
            node={
                "label": labels,
                "pad": 14,
                "thickness": 14,
                "line": {"width": 0},
                "color": [theme.border] * len(kinds) + [colours[path] for path in paths],
                "x": [0.001] * len(kinds) + [0.999] * len(paths),
                "y": _heights(counts[kinds]) + _heights(loads[paths]),
                "hovertemplate": "%{label}<extra></extra>",
            },
            link={
                "source": [kinds.index(kind) for kind in drawn["kind"]],
                "target": [len(kinds) + paths.index(path) for path in drawn["path"]],
                "value": list(drawn["tokens"]),
                "color": [_mixed(colours[path], theme.background, 0.6) for path in drawn["path"]],
                "customdata": list(drawn["share"]),
                "hovertemplate": "%{source.label} → %{target.label}: %{value:,.1f} tokens, %{customdata:.1%} of the kind"
                "<extra></extra>",
            },
            textfont={"size": theme.size("tick"), "color": theme.text},
        )
    )
    # The room below is for the figure's menu.
    tall = 32 + int(max(240, 46 * max(len(kinds), len(paths))) * theme.zoom)
    figure.update_layout(height=tall, margin={"l": 4, "r": 4, "t": 12, "b": 44})
    return figure


def _heights(sizes: pd.Series) -> list[float]:
    """The middle of each node's place, from the top, for nodes stacked without gaps."""
    shares = sizes.to_numpy(dtype=float) / max(float(sizes.sum()), 1e-12)
    middles = np.cumsum(shares) - shares / 2
    # Plotly drops nodes at exactly 0 or 1, and lets small ones fall onto each other: at least a little apart.
    least = np.linspace(0.02, 0.98, len(shares))
    return [float(value) for value in np.clip(0.75 * middles + 0.25 * least, 0.01, 0.99)]


def errors_chart(errors: pd.DataFrame, theme: Theme, *, recall: str = "recall") -> alt.LayerChart:
    """The error of each way of choosing as a point on its own line, with its recall and share of pairs; the control dashed.

    `recall` is the column of the recall that is said: "recall" or "recall without sinks".
    """
    table = errors[errors["group"] != "control"].reset_index(drop=True)
    control = float(errors.loc[errors["group"] == "control", "error"].iloc[0])
    hues = {"router": "routed", "path": "window", "wide": "segmented", "hindsight": "exact"}
    colours = [theme.style(hues[group]).colour for group in hues]
    table["said"] = [
        f"{error:.2f}" if np.isnan(found) else f"{error:.2f}  ·  {found:.0%} of the mass, {share:.0%} of the pairs"
        for error, found, share in zip(table["error"], table[recall], table["share"], strict=True)
    ]
    top = max(float(table["error"].max()), control) * 1.02
    x = alt.X("error:Q", title="relative error of the output", scale=alt.Scale(domain=[0, top], nice=False))
    y = alt.Y("way:N", sort=list(table["way"]), title=None, axis=alt.Axis(labelLimit=190, grid=True))
    colour = alt.Color("group:N", scale=alt.Scale(domain=list(hues), range=colours))
    size = SIZES["tick"] * theme.zoom
    base = alt.Chart(table)
    tooltip = [
        alt.Tooltip("way:N", title="way"),
        alt.Tooltip("error:Q", title="relative error", format=".3f"),
        alt.Tooltip("recall:Q", title="exact mass on pairs looked at", format=".1%"),
        alt.Tooltip("recall without sinks:Q", title="the same without sinks", format=".1%"),
        alt.Tooltip("share:Q", title="pairs looked at", format=".1%"),
    ]
    points = base.mark_point(filled=True, size=90).encode(x=x, y=y, color=colour, tooltip=tooltip)
    right = f"datum.error > {0.45 * top}"
    sides: list[tuple[str, Align, int]] = [(right, "right", -10), (f"!({right})", "left", 10)]
    texts = [
        base.transform_filter(rule)
        .mark_text(align=align, dx=dx, fontSize=size, color=theme.muted, opacity=alt.ExprRef("width < 420 ? 0 : 1"))
        .encode(x=x, y=y, text=alt.Text("said:N"))
        for rule, align, dx in sides
    ]
    line = alt.Chart(pd.DataFrame({"error": [control], "text": ["mean of the visible values"]}))
    rule = line.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(x=x)
    tall = 26 * len(table) * theme.zoom
    aside: Align = "left" if control < top / 2 else "right"
    label = line.mark_text(align=aside, dx=4 if aside == "left" else -4, color=theme.muted, fontSize=size).encode(
        x=x, y=fixed(alt.YValue, -8), text=alt.Text("text:N")
    )
    return layered(rule, *texts, points, label, height=tall, width="container")


def sizes_chart(sizes: pd.DataFrame, theme: Theme, *, colours: Mapping[int, str]) -> alt.LayerChart:
    """How many keys each cluster holds, in the clusters' own colours, the even size dashed; queries as a tick."""
    table = sizes.assign(colour=[colours[number] for number in sizes["cluster"]])
    mean = float(sizes["keys"].mean())
    x = alt.X("cluster:O", title="cluster", axis=alt.Axis(labelAngle=0, labelOverlap=True, grid=False))
    y = alt.Y("keys:Q", title="tokens", axis=alt.Axis(format="d", tickMinStep=1))
    tooltip = [
        alt.Tooltip("cluster:O", title="cluster"),
        alt.Tooltip("keys:Q", title="keys"),
        alt.Tooltip("queries:Q", title="queries"),
        alt.Tooltip("kept:Q", title="exact mass that stays inside", format=".1%"),
        alt.Tooltip("chance:Q", title="visible keys inside", format=".1%"),
    ]
    base = alt.Chart(table)
    bars = base.mark_bar(stroke=theme.border, strokeWidth=0.5).encode(
        x=x, y=y, color=alt.Color("colour:N", scale=None), tooltip=tooltip
    )
    ticks = base.mark_tick(thickness=2, color=theme.text).encode(x=x, y=alt.Y("queries:Q"), tooltip=tooltip)
    even = alt.Chart(pd.DataFrame({"keys": [mean], "text": [f"all even: {mean:.0f}"]}))
    rule = even.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(y=y)
    label = even.mark_text(align="right", dx=-4, dy=-8, color=theme.muted, fontSize=SIZES["tick"] * theme.zoom).encode(
        x=fixed(alt.XValue, "width"), y=y, text=alt.Text("text:N")
    )
    return layered(bars, ticks, rule, label, height=CURVE_HEIGHT * 0.75 * theme.zoom, width="container")


def _mixed(hue: str, ground: str, strength: float) -> str:
    return hexadecimal([round(strength * h + (1 - strength) * g) for h, g in zip(rgb(hue), rgb(ground), strict=True)])
