"""Where the weight goes as a text grows: stacked shares, what each part adds to the denominator, and every head's spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.maps import visible
from longattn_core.charts.style.altair import layered
from longattn_core.charts.style.colour import hexadecimal
from longattn_core.charts.style.theme import SIZES, Theme

__all__ = ["PARTS", "denominator_chart", "every_head_chart", "part_colours", "rank_table", "remedy_table", "shares_chart"]

PARTS = ("needle", "sinks", "rest")
LABELLED = 0.07
"""From this share on, a bar shows its number."""
PALE = 0.35
"""Opacity of the points of earlier lengths."""


def part_colours(theme: Theme) -> dict[str, str]:
    """The needle in the colour of marks, the sinks in grey, the rest in the middle colour of the weights' scale."""
    return {"needle": theme.mark, "sinks": theme.border, "rest": hexadecimal(theme.weights[128])}


def shares_chart(
    points: pd.DataFrame,
    theme: Theme,
    *,
    names: Mapping[str, str],
    lengths: Sequence[int] | None = None,
    height: int = 300,
    labels: bool = True,
    y_title: str = "share of the last token's weight",
) -> alt.LayerChart | alt.FacetChart:
    """One bar a length: the needle's share at the bottom, then the sinks', then that of all other keys; together 1.

    `points` has `n`, `needle`, `sinks`, `rest`, one row a length; `names` names the three in the picture; `lengths` reserves
    places for lengths that are not measured yet.
    """
    table = _long(points, names)
    order = [f"{n:,}" for n in (lengths or sorted(points["n"].unique()))]
    colours, size = part_colours(theme), SIZES["tick"] * theme.zoom
    x = alt.X(
        "length:N",
        sort=order,
        title="tokens of the text",
        scale=alt.Scale(domain=order, paddingInner=0.16, paddingOuter=0.08),
        axis=alt.Axis(labelAngle=0, ticks=False, labelOverlap="greedy", labelSeparation=6),
    )
    scale = alt.Scale(domain=[0, 1], nice=False)
    y = alt.Y(
        "low:Q", title=y_title if labels else None, scale=scale, axis=alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1.0])
    )
    colour = _part_colour(theme)
    tooltip = [
        alt.Tooltip("length:N", title="tokens of the text"),
        alt.Tooltip("name:N", title="part"),
        alt.Tooltip("share:Q", title="share of the weight", format=".1%"),
    ]
    bars = alt.Chart(table).mark_bar().encode(x=x, y=y, y2=alt.Y2("high:Q"), color=colour, tooltip=tooltip)
    numbers = (
        alt.Chart(table[table["share"] >= LABELLED])
        .mark_text(fontSize=size, baseline="middle")
        .encode(
            x=x,
            y=alt.Y("middle:Q", scale=scale),
            text=alt.Text("share:Q", format=".0%"),
            color=alt.Color("ink:N", scale=None),
            tooltip=tooltip,
        )
    )
    numbers.data = numbers.data.assign(ink=[theme.ink_on(colours[part]) for part in numbers.data["part"]])
    return layered(bars, *([numbers] if labels else []), height=height, width="container")


def _part_colour(theme: Theme) -> alt.Color:
    colours = part_colours(theme)
    return alt.Color("part:N", scale=alt.Scale(domain=list(PARTS), range=[colours[part] for part in PARTS]), legend=None)


def _long(points: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """One row a length and part, with the ends and the middle of its piece of the bar."""
    rows: list[dict[str, Any]] = []
    for _, point in points.sort_values("n").iterrows():
        low = 0.0
        for part in PARTS:
            share = float(np.nan_to_num(point[part]))
            rows.append(
                {
                    "n": int(point["n"]),
                    "length": f"{int(point['n']):,}",
                    "part": part,
                    "name": names[part],
                    "share": share,
                    "low": low,
                    "high": low + share,
                    "middle": low + share / 2,
                }
            )
            low += share
    return pd.DataFrame(rows, columns=["n", "length", "part", "name", "share", "low", "high", "middle"])


def denominator_chart(
    points: pd.DataFrame, at: int, theme: Theme, *, names: Mapping[str, str], height: int = 200
) -> alt.LayerChart | alt.FacetChart:
    """What needle, sinks and rest each add to the softmax's denominator at length `at`, with earlier lengths pale behind it.

    In units of what the needle adds at the shortest length; logarithmic, because the exponentials of scores span decades.
    """
    ordered = points.sort_values("n")
    unit = float(ordered["score needle"].iloc[0])
    rows = [
        {
            "part": part,
            "name": names[part],
            "n": int(point["n"]),
            "added": float(np.exp(point[f"score {part}"] - unit)),
            "share": float(np.nan_to_num(point[part])),
        }
        for _, point in ordered.iterrows()
        for part in PARTS
        if int(point["n"]) <= at and np.isfinite(point[f"score {part}"])
    ]
    # The axis holds all lengths, so that it stays the same from frame to frame.
    scores = [ordered[f"score {part}"] for part in PARTS if ordered[f"score {part}"].notna().any()]
    most = [float(np.exp(score.max() - unit)) for score in scores]
    least = [float(np.exp(score.min() - unit)) for score in scores]
    table = pd.DataFrame(rows, columns=["part", "name", "n", "added", "share"])
    table = table[table["added"] > 0]
    now, before = table[table["n"] == at], table[table["n"] < at]
    domain = [max(min(least, default=1.0), 1e-12) / 2, max(most, default=1.0) * 2]
    size = SIZES["tick"] * theme.zoom
    x = alt.X(
        "added:Q",
        title="what it adds (1: the first, at the shortest length)",
        scale=alt.Scale(type="log", domain=domain, nice=False),
        axis=alt.Axis(format="~g", tickCount=6, labelOverlap=True),
    )
    y = alt.Y(
        "name:N",
        sort=[names[part] for part in PARTS],
        title=None,
        axis=alt.Axis(labelLimit=220, labelFontSize=SIZES["label"] * theme.zoom),
    )
    colour = _part_colour(theme)
    tooltip = [
        alt.Tooltip("name:N", title="part"),
        alt.Tooltip("n:Q", title="tokens", format=","),
        alt.Tooltip("added:Q", title="adds", format=".3~g"),
        alt.Tooltip("share:Q", title="share", format=".1%"),
    ]
    trail = alt.Chart(before).mark_point(size=70, filled=True, opacity=PALE).encode(x=x, y=y, color=colour, tooltip=tooltip)
    dots = alt.Chart(now).mark_point(size=190, filled=True, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltip)
    words = (
        alt.Chart(now).mark_text(dy=-16, fontSize=size, color=theme.text).encode(x=x, y=y, text=alt.Text("share:Q", format=".1%"))
    )
    return layered(trail, dots, words, height=height, width="container")


def every_head_chart(
    heads: pd.DataFrame, theme: Theme, *, y: str, y_title: str, named: Mapping[str, str], height: int = 420
) -> alt.LayerChart | alt.FacetChart:
    """A thin line a head over the lengths; the heads of `named` (name → label) are drawn thick and labelled at their ends.

    `y` is a column of the table: "effective", "effective without sinks", "entropy" or "sinks". The dashed line is the bound: n
    effective tokens, ln n nats.
    """
    is_share = y == "sinks"
    log = not is_share and y != "entropy"
    table = heads.assign(value=heads[y].clip(lower=1.0 if log else 0.0), label=heads["name"].map(dict(named)).fillna(""))
    table = table[["name", "label", "n", "value"]]
    lengths = np.array(sorted(table["n"].unique()))
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(domain=[0, 1] if is_share else alt.Undefined)
    across = alt.X(
        "n:Q",
        title="tokens of the text (logarithmic)",
        axis=alt.Axis(values=lengths.tolist(), format=","),
        scale=alt.Scale(type="log", nice=False, padding=6),
    )
    down = alt.Y("value:Q", title=y_title, scale=scale, axis=alt.Axis(format="%" if is_share else "~g", tickCount=6))
    tooltip = [
        alt.Tooltip("name:N", title="head"),
        alt.Tooltip("n:Q", title="tokens", format=","),
        alt.Tooltip("value:Q", title=y_title, format=".1%" if is_share else ".3~g"),
    ]
    base = alt.Chart(table)
    layers: list[Any] = [
        base.mark_line(strokeWidth=0.8, opacity=0.22, color=hexadecimal(theme.weights[150])).encode(
            x=across, y=down, detail=alt.Detail("name:N"), tooltip=tooltip
        )
    ]
    if not is_share:
        bound = pd.DataFrame({"n": lengths, "value": np.log(lengths) if y == "entropy" else lengths.astype(float)})
        dashed = alt.Chart(bound).mark_line(strokeDash=[6, 4], color=theme.muted, strokeWidth=1.5)
        layers.append(dashed.encode(x=across, y=down))
    inks = [theme.mark, *(theme.style(key).colour for key in ("window", "favor", "lsh", "memory", "segmented", "routed"))]
    strong = [label for name, label in named.items() if (table["name"] == name).any()]
    colour = alt.Color("label:N", scale=alt.Scale(domain=strong, range=inks[: len(strong)]), legend=None)
    bold = table[table["label"] != ""]
    layers.append(alt.Chart(bold).mark_line(strokeWidth=2.5).encode(x=across, y=down, color=colour, tooltip=tooltip))
    ends = bold[bold["n"] == bold["n"].max()]
    layers.append(
        alt.Chart(_apart(ends, log=log, height=height))
        .mark_text(align="right", dx=-4, dy=-9, fontSize=SIZES["tick"] * theme.zoom, fontWeight=600)
        .encode(x=across, y=alt.Y("place:Q", scale=scale), text=alt.Text("label:N"), color=colour)
    )
    return layered(*layers, height=height, width="container")


def _apart(ends: pd.DataFrame, *, log: bool, height: int) -> pd.DataFrame:
    """The labels' places: at their values, moved up where two would overlap."""
    if ends.empty:
        return ends.assign(place=[])
    ordered = ends.sort_values("value").reset_index(drop=True)
    values = ordered["value"].clip(lower=1e-6).to_numpy(dtype=float)
    at = np.log(values) if log else values.copy()
    span = (np.log(max(values.max(), 1000.0)) if log else max(at.max(), 1.0)) or 1.0
    gap = 15 * span / height
    for index in range(1, len(at)):
        at[index] = max(at[index], at[index - 1] + gap)
    return ordered.assign(place=np.exp(at) if log else at)


def rank_table(points: pd.DataFrame) -> pd.DataFrame:
    """The sorted weights as one row a length and rank: `series` (the length), `rank`, `weight`."""
    names = [str(name) for name in points.columns if str(name).startswith("rank ")]
    rows = [
        {"series": f"{int(point['n']):,} tokens", "rank": int(name.removeprefix("rank ")), "weight": float(point[name])}
        for _, point in points.sort_values("n").iterrows()
        for name in names
        if np.isfinite(point[name]) and point[name] > 0
    ]
    return pd.DataFrame(rows, columns=["series", "rank", "weight"])


def remedy_table(points: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """The needle's share under each remedy as one row a length: `series`, `n`, `share`. `labels` names them."""
    rows = [
        {"series": label, "n": int(point["n"]), "share": float(point["needle" if key == "none" else f"needle:{key}"])}
        for _, point in points.sort_values("n").iterrows()
        for key, label in labels.items()
    ]
    return pd.DataFrame(rows, columns=["series", "n", "share"])


def shown_token(token: str) -> str:
    """A token as a label of a chart."""
    return visible(token)
