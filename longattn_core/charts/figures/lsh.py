"""Hashing as pictures: the plane with its sectors, buckets, rounds, angles, collision curves."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.maps import visible
from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.group_colours import group_colours
from longattn_core.charts.style.theme import CURVE_HEIGHT, MECHANISM_COLOURS, Theme

Layered: TypeAlias = alt.LayerChart | alt.FacetChart


def plane_chart(
    points: pd.DataFrame, theme: Theme, *, axes: tuple[int, int], hashing: str, sectors: bool, size: int = 380
) -> Layered:
    """Queries (crosses) and keys (dots) on two axes of the rotation; with `sectors`, coloured by bucket between the borders.

    Tokens whose bucket belongs to another axis are small and grey: their largest coordinate lies outside this plane.
    The tracked query and key have a ring and their names.
    """
    reach = 1.08 * max(0.05, float(np.abs(points[["x", "y"]].to_numpy()).max(initial=0.0)))
    scale = alt.Scale(domain=[-reach, reach], nice=False)
    second = f"axis {axes[1] + 1} of the rotation" if axes[1] >= 0 else "(this hash has one axis only)"
    x = alt.X("x:Q", scale=scale, title=f"axis {axes[0] + 1} of the rotation (direction × axis)", axis=alt.Axis(tickCount=5))
    y = alt.Y("y:Q", scale=scale, title=second, axis=alt.Axis(tickCount=5))
    tooltip = [
        alt.Tooltip("kind:N", title="what"),
        alt.Tooltip("shown:N", title="token"),
        alt.Tooltip("position:Q", title="position"),
        alt.Tooltip("bucket:Q", title="bucket"),
    ]
    table = points.assign(shown=[visible(str(token)) for token in points["token"]])
    inside = table[table["inside"]]
    layers: list[Any] = []
    if sectors:
        layers += _borders(axes, hashing, reach, theme)
    quiet = table[~table["inside"]] if sectors else table[:0]
    plain = inside if sectors else table
    layers.append(
        alt.Chart(quiet).mark_point(size=8, color=theme.hatch, filled=True, opacity=0.8).encode(x=x, y=y, tooltip=tooltip)
    )
    inks = {bucket: _hue(bucket, theme) for bucket in sorted({int(b) for b in plain["bucket"] if b >= 0})}
    colour: Any = (
        alt.Color("bucket:N", scale=alt.Scale(domain=list(inks), range=list(inks.values())))
        if sectors
        else alt.Color("kind:N", scale=alt.Scale(domain=["key", "query"], range=[theme.style("lsh").colour, theme.text]))
    )
    for kind, shape in (("key", "circle"), ("query", "cross")):
        one = plain[plain["kind"] == kind]
        mark = alt.Chart(one).mark_point(shape=shape, size=36, filled=True, opacity=0.85 if sectors else 0.45)
        layers.append(mark.encode(x=x, y=y, color=colour, tooltip=tooltip))
    for kind, ink in (("key", theme.mark), ("query", theme.text)):
        one = table[table["tracked"] & (table["kind"] == kind)]
        layers.append(
            alt.Chart(one)
            .mark_point(size=190, stroke=ink, strokeWidth=2.5, filled=False, opacity=1)
            .encode(x=x, y=y, tooltip=tooltip)
        )
        named = one.assign(label=[f"{kind} “{token}”" for token in one["shown"]])
        left = bool(len(one)) and float(one["x"].iloc[0]) > 0
        layers.append(
            alt.Chart(named)
            .mark_text(
                align="right" if left else "left",
                dx=-13 if left else 13,
                dy=-2 if kind == "key" else 14,
                color=ink,
                fontSize=theme.size("tick"),
                fontWeight="bold",
            )
            .encode(x=x, y=y, text=alt.Text("label:N"))
        )
    drawn: Layered = layered(*layers, height=size, width="container", resolve={"scale": {"color": "independent"}})
    return drawn


def _hue(bucket: int, theme: Theme) -> str:
    """The full hue of which the strips show a quiet tint: a dot is smaller than a word's background."""
    hues = [theme.style(key).colour for key in MECHANISM_COLOURS if key != "exact"]
    return hues[(3 * (bucket % len(hues))) % len(hues)]


def _borders(axes: tuple[int, int], hashing: str, reach: float, theme: Theme) -> list[alt.Chart]:
    """The borders between the sectors: the diagonals of a cross-polytope, the axes themselves of two hyperplanes."""
    if axes[1] < 0:
        ends = [((0.0, -reach), (0.0, reach))]
    elif hashing == "hyperplane":
        ends = [((0.0, -reach), (0.0, reach)), ((-reach, 0.0), (reach, 0.0))]
    else:
        ends = [((-reach, -reach), (reach, reach)), ((-reach, reach), (reach, -reach))]
    frame = pd.DataFrame([{"x": a[0], "y": a[1], "x2": b[0], "y2": b[1]} for a, b in ends])
    line = (
        alt.Chart(frame)
        .mark_rule(strokeDash=[5, 4], color=theme.border)
        .encode(x=alt.X("x:Q"), y=alt.Y("y:Q"), x2=alt.X2("x2:Q"), y2=alt.Y2("y2:Q"))
    )
    return [line]


def sizes_chart(sizes: pd.DataFrame, theme: Theme, *, shown: int, height: int = 240) -> Layered:
    """Keys in each bucket of round `shown` as bars in the buckets' colours, queries as ticks, the even share dashed."""
    table = sizes[sizes["round"] == shown]
    inks = group_colours([int(b) for b in table["bucket"]], theme)
    buckets = alt.Axis(labelOverlap=True, labelAngle=0)
    x = alt.X("bucket:O", title="bucket", axis=buckets)
    tooltip = [alt.Tooltip("bucket:O"), alt.Tooltip("keys:Q", title="keys"), alt.Tooltip("queries:Q", title="queries")]
    colour = alt.Color("bucket:N", scale=alt.Scale(domain=list(inks), range=list(inks.values())))
    bars = (
        alt.Chart(table)
        .mark_bar(stroke=theme.border, strokeWidth=0.5)
        .encode(x=x, y=alt.Y("keys:Q", title="tokens in the bucket"), color=colour, tooltip=tooltip)
    )
    ticks = (
        alt.Chart(table).mark_tick(thickness=3, color=theme.text, bandSize=12).encode(x=x, y=alt.Y("queries:Q"), tooltip=tooltip)
    )
    even = float(table["keys"].sum()) / max(1, len(table))
    rule = alt.Chart(pd.DataFrame({"even": [even], "label": ["an even share"]}))
    note = "bars: keys; black ticks: queries" if theme.mode == "light" else "bars: keys; white ticks: queries"
    return layered(
        bars,
        ticks,
        rule.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(y=alt.Y("even:Q")),
        rule.mark_text(align="right", dx=-2, dy=-7, color=theme.muted, fontSize=theme.size("tick")).encode(
            y=alt.Y("even:Q"), text=alt.Text("label:N"), x=fixed(alt.XValue, "width")
        ),
        height=height,
        width="container",
        title=alt.TitleParams(note, fontSize=theme.size("tick"), fontWeight="normal", color=theme.muted),
    )


def rounds_chart(rounds: pd.DataFrame, theme: Theme, *, height: int = 260) -> Layered:
    """For each round the pairs it looks at and the weight it finds; the pale part an earlier round had already, and the union."""
    ink = {"pairs looked at": theme.muted, "weight found": theme.style("lsh").colour}
    records = []
    for record in rounds.to_dict("records"):
        for what, new, whole in (
            ("pairs looked at", record["new"], record["alone"]),
            ("weight found", record["recall new"], record["recall alone"]),
        ):
            records.append({"list": record["list"], "what": what, "from": 0.0, "to": new, "part": "new here", "shade": 1.0})
            records.append(
                {"list": record["list"], "what": what, "from": new, "to": whole, "part": "found before", "shade": 0.35}
            )
    last = rounds.iloc[-1]
    for what, column in (("pairs looked at", "union"), ("weight found", "recall union")):
        records.append({"list": "all together", "what": what, "from": 0.0, "to": last[column], "part": "union", "shade": 1.0})
    table = pd.DataFrame(records).dropna(subset=["to"])
    order = [*rounds["list"], "all together"]
    x = alt.X("list:N", sort=order, title=None, axis=alt.Axis(labelAngle=0, labelOverlap=True, labelFontSize=theme.size("tick")))
    base = alt.Chart(table).encode(
        x=x,
        xOffset=alt.XOffset("what:N", sort=list(ink)),
        color=alt.Color("what:N", scale=alt.Scale(domain=list(ink), range=list(ink.values()))),
        tooltip=[
            alt.Tooltip("list:N", title="round"),
            alt.Tooltip("what:N"),
            alt.Tooltip("part:N"),
            alt.Tooltip("to:Q", title="up to", format=".1%"),
        ],
    )
    bars = base.mark_bar().encode(
        y=alt.Y("from:Q", title="share of pairs, of weight", axis=alt.Axis(format="%")),
        y2=alt.Y2("to:Q"),
        opacity=alt.Opacity("shade:Q", scale=None),
    )
    union = table[table["list"] == "all together"]
    text = (
        alt.Chart(union)
        .mark_text(dy=-7, fontSize=theme.size("tick"))
        .encode(
            x=x,
            xOffset=alt.XOffset("what:N", sort=list(ink)),
            y=alt.Y("to:Q"),
            text=alt.Text("to:Q", format=".0%"),
            color=alt.Color("what:N", scale=alt.Scale(domain=list(ink), range=list(ink.values()))),
        )
    )
    words = pd.DataFrame({"label": ["grey: pairs looked at", "colour: weight found", "pale: found before"], "dy": [0, 1, 2]})
    inks = [theme.muted, theme.style("lsh").colour, theme.muted]
    notes = [
        alt.Chart(words.iloc[[i]])
        .mark_text(align="left", color=inks[i], fontSize=theme.size("tick"))
        .encode(x=fixed(alt.XValue, 6), y=fixed(alt.YValue, 8 + 15 * i * theme.zoom), text=alt.Text("label:N"))
        for i in range(3)
    ]
    return layered(bars, text, *notes, height=height, width="container")


def recall_chart(curves: pd.DataFrame, theme: Theme, *, over: str, now: float) -> Layered:
    """Recall and the share of pairs, which is chance, against rounds or buckets, with intervals over seeds."""
    lsh = theme.style("lsh").colour
    table = curves.assign(low=curves["low"].clip(0, 1), high=curves["high"].clip(0, 1))
    ticks = sorted({int(value) for value in table[over]})
    return curves_chart(
        table,
        theme,
        x=CurveAxis(column=over, title=f"{over} (logarithmic)", log=True, ticks=ticks),
        y=CurveAxis(column="value", title="share of weight, of pairs", domain=(0.0, 1.0), format="%"),
        series=CurveSeries(
            column="curve", band=("low", "high"), dashed="chance", colours={"weight found": lsh, "pairs looked at": theme.muted}
        ),
        marked=[(now, "now")] if now in ticks else [],
    )


def seeds_chart(points: pd.DataFrame, theme: Theme, *, now: int, height: int = 300) -> Layered:
    """Each draw as a point: weight found against pairs looked at, with the line of chance on which both are equal."""
    table = points.rename(columns={"recall without sinks": "found", "share without sinks": "looked"})
    table = table[["seed", "found", "looked", "error", "control"]].dropna()
    scale = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("looked:Q", scale=scale, title="share of pairs looked at", axis=alt.Axis(format="%", tickCount=6))
    y = alt.Y("found:Q", scale=scale, title="share of weight found", axis=alt.Axis(format="%", tickCount=6))
    line = alt.Chart(pd.DataFrame({"looked": [0, 1], "found": [0, 1]})).mark_line(strokeDash=[6, 4], color=theme.muted)
    label = alt.Chart(pd.DataFrame({"looked": [0.97], "found": [0.97], "label": ["chance: as much found as looked at"]}))
    tooltip = [
        alt.Tooltip("seed:Q"),
        alt.Tooltip("found:Q", title="weight found", format=".1%"),
        alt.Tooltip("looked:Q", title="pairs looked at", format=".1%"),
        alt.Tooltip("error:Q", title="error", format=".3f"),
        alt.Tooltip("control:Q", title="error of the mean of the visible values", format=".3f"),
    ]
    dots = alt.Chart(table).mark_point(size=80, filled=True, opacity=0.8, color=theme.style("lsh").colour, shape="circle")
    own = alt.Chart(table[table["seed"] == now]).mark_point(size=190, filled=False, stroke=theme.mark, strokeWidth=2.5, opacity=1)
    return layered(
        line.encode(x=x, y=y),
        label.mark_text(align="right", baseline="top", dx=-4, dy=12, color=theme.muted, fontSize=theme.size("tick")).encode(
            x=x, y=y, text=alt.Text("label:N")
        ),
        dots.encode(x=x, y=y, tooltip=tooltip),
        own.encode(x=x, y=y, tooltip=tooltip),
        height=height,
        width="container",
    )


def cosines_chart(cosines: pd.DataFrame, theme: Theme, *, centred: bool, height: int = 220) -> Layered:
    """The distribution of the cosines of three kinds of pairs, as curves, as the head has them or centred."""
    table = cosines[cosines["centred"] == centred].assign(middle=lambda t: (t["low"] + t["high"]) / 2)
    inks = {
        "query and key": theme.style("lsh").colour,
        "key and key": theme.style("window").colour,
        "query and query": theme.muted,
    }
    top = float(cosines["share"].max())
    x = alt.X("middle:Q", scale=alt.Scale(domain=[-1, 1]), title="cosine of the angle (1: same direction, 0: at right angles)")
    y = alt.Y("share:Q", scale=alt.Scale(domain=[0, top * 1.1]), title="share of pairs", axis=alt.Axis(format="%", tickCount=5))
    colour = alt.Color("pairs:N", scale=alt.Scale(domain=list(inks), range=list(inks.values())))
    tooltip = ["pairs:N", alt.Tooltip("middle:Q", title="cosine", format=".2f"), alt.Tooltip("share:Q", format=".1%")]
    area = (
        alt.Chart(table)
        .mark_area(opacity=0.18, interpolate="monotone", line=True)
        .encode(x=x, y=alt.Y("share:Q", stack=None, scale=alt.Scale(domain=[0, top * 1.1])), color=colour, tooltip=tooltip)
    )
    lines = alt.Chart(table).mark_line(interpolate="monotone").encode(x=x, y=y, color=colour, tooltip=tooltip)
    labels = [
        alt.Chart(pd.DataFrame({"label": [f"{name} (mean {_mean(table, name):z.2f})"]}))
        .mark_text(align="left", color=ink, fontSize=theme.size("tick"))
        .encode(x=fixed(alt.XValue, 6), y=fixed(alt.YValue, 8 + 15 * index * theme.zoom), text=alt.Text("label:N"))
        for index, (name, ink) in enumerate(inks.items())
    ]
    zero = alt.Chart(pd.DataFrame({"middle": [0.0]})).mark_rule(color=theme.border).encode(x=x)
    return layered(zero, area, lines, *labels, height=height, width="container")


def _mean(table: pd.DataFrame, name: str) -> float:
    one = table[table["pairs"] == name]
    total = float(one["share"].sum())
    return float((one["middle"] * one["share"]).sum() / total) if total > 0 else math.nan


def collision_chart(curves: pd.DataFrame, simulated: pd.DataFrame, theme: Theme, *, marked: list[tuple[float, str]]) -> Layered:
    """The chance of meeting against the angle: closed forms as lines, the simulation as points with intervals."""
    lsh, window = theme.style("lsh").colour, theme.style("window").colour
    names = list(dict.fromkeys(curves["curve"]))
    colours = {name: lsh if name.startswith("nearest") else window for name in names}
    table = curves.assign(many=curves["rounds"] > 1)
    chart = curves_chart(
        table,
        theme,
        x=CurveAxis(column="angle", title="angle between the two vectors (degrees)", ticks=[0, 30, 60, 90, 120, 150, 180]),
        y=CurveAxis(column="chance", title="chance of one bucket", domain=(0.0, 1.02), format="%"),
        series=CurveSeries(column="curve", dashed="many", colours=colours, points=False),
        marked=marked,
        height=CURVE_HEIGHT,
    )
    if not len(simulated):
        return chart
    base = alt.Chart(simulated)
    scale = alt.Scale(domain=[0.0, 1.02], nice=False, clamp=True)
    colour = alt.Color("curve:N", scale=alt.Scale(domain=names, range=[colours[name] for name in names]))
    tooltip = [
        "curve:N",
        alt.Tooltip("angle:Q", title="degrees"),
        alt.Tooltip("chance:Q", title="counted", format=".3f"),
        alt.Tooltip("low:Q", title="95 % from", format=".3f"),
        alt.Tooltip("high:Q", title="95 % to", format=".3f"),
    ]
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("angle:Q"), y=alt.Y("low:Q", scale=scale), y2=alt.Y2("high:Q"), color=colour
    )
    dots = base.mark_point(size=44, filled=True, opacity=1).encode(
        x=alt.X("angle:Q"), y=alt.Y("chance:Q", scale=scale), color=colour, tooltip=tooltip
    )
    both: Layered = chart + bars + dots
    return both.properties(height=CURVE_HEIGHT, padding=chart.padding)


def attend_chart(table: pd.DataFrame, theme: Theme, *, height: int | None = None) -> Layered:
    """The keys that matter to the query: exact weight as a bar, the mechanism's as a dot, "never looked at" said.

    `table`: `token`, `position`, `exact`, `weight` (NaN where never looked at), heaviest first.
    """
    shown = table.assign(name=[f"{visible(str(t), 12)} ({p})" for t, p in zip(table["token"], table["position"], strict=True)])
    order = list(shown["name"])
    y = alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelFontSize=theme.size("tick"), labelLimit=150))
    x_scale = alt.Scale(domain=[0, 1])
    tooltip = [
        alt.Tooltip("name:N", title="key"),
        alt.Tooltip("exact:Q", title="exact", format=".4f"),
        alt.Tooltip("weight:Q", title="hashing", format=".4f"),
    ]
    bars = (
        alt.Chart(shown)
        .mark_bar(color=theme.muted, opacity=0.45, height=12)
        .encode(y=y, x=alt.X("exact:Q", scale=x_scale, title="weight (bar: exact, dot: hashing)"), tooltip=tooltip)
    )
    seen = shown[shown["weight"].notna()]
    dots = (
        alt.Chart(seen)
        .mark_point(size=80, filled=True, opacity=1, shape="circle", color=theme.style("lsh").colour)
        .encode(y=y, x=alt.X("weight:Q"), tooltip=tooltip)
    )
    never = shown[shown["weight"].isna()].assign(label="never looked at")
    # Beside a short bar, inside a long one: on a phone there is no room behind it.
    short, long = never[never["exact"] < 0.5], never[never["exact"] >= 0.5]
    size = theme.size("tick")
    words = [
        alt.Chart(short).mark_text(align="left", dx=6, color=theme.mark, fontSize=size),
        alt.Chart(long).mark_text(align="right", dx=-6, color=theme.text, fontSize=size),
    ]
    words = [one.encode(y=y, x=alt.X("exact:Q"), text=alt.Text("label:N")) for one in words]
    return layered(bars, dots, *words, height=height or 24 * len(shown) + 20, width="container")


def along_chart(table: pd.DataFrame, theme: Theme, *, height: int = 260) -> Layered:
    """The coordinates of the tracked query and key, a pair of bars a bucket (or a hyperplane); what decides is filled."""
    ink = {"query": theme.text, "key": theme.mark}
    colour = alt.Color("what:N", scale=alt.Scale(domain=list(ink), range=list(ink.values())))
    base = alt.Chart(table).encode(
        x=alt.X("bucket:O", title="bucket (one direction of an axis each)", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        xOffset=alt.XOffset("what:N", sort=list(ink)),
        y=alt.Y("along:Q", title="coordinate"),
        color=colour,
        tooltip=[
            alt.Tooltip("what:N"),
            alt.Tooltip("bucket:O"),
            alt.Tooltip("along:Q", title="coordinate", format=".2f"),
            alt.Tooltip("chosen:N"),
        ],
    )
    bars = base.mark_bar(stroke=None).encode(
        opacity=alt.Opacity("chosen:N", scale=alt.Scale(domain=[False, True], range=[0.28, 1.0]))
    )
    words = [
        alt.Chart(pd.DataFrame({"label": [label]}))
        .mark_text(align="left", color=ink[kind], fontSize=theme.size("tick"))
        .encode(x=fixed(alt.XValue, 6), y=fixed(alt.YValue, 8 + 15 * index * theme.zoom), text=alt.Text("label:N"))
        for index, (kind, label) in enumerate((("query", "the query"), ("key", "the key")))
    ]
    return layered(bars, *words, height=height, width="container")
