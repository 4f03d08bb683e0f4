"""The ledger of a pattern, its picture beside others of one budget, the sampled measure, and what a swap does to the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.cells import encode
from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.maps import visible
from longattn_core.charts.pixels import paint
from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.colour import blend, hexadecimal
from longattn_core.charts.style.labels import place_labels
from longattn_core.charts.style.png import data_uri
from longattn_core.charts.style.scales import Scale
from longattn_core.charts.style.theme import Theme

Layered: TypeAlias = alt.LayerChart | alt.FacetChart

PART_NAMES = {
    "window": "seen in the window",
    "first tokens": "seen in the first tokens",
    "blocks": "seen in blocks",
    "lost to sinks": "lost, on sinks",
    "lost elsewhere": "lost",
}


def part_colours(theme: Theme) -> dict[str, str]:
    """The parts' colours: what is seen in the mechanism's hue, what is lost in the colour of loss."""
    window, lost = theme.style("window").colour, theme.lost
    pale = hexadecimal(blend(window, theme.background, 100)[55])
    return {
        "window": window,
        "first tokens": pale,
        "blocks": theme.style("segmented").colour,
        "lost to sinks": hexadecimal(blend(lost, theme.background, 100)[60]),
        "lost elsewhere": lost,
    }


BARS = 256
"""More queries than this share a bar with their neighbours: the picture has few more dots across."""


def queries_a_bar(count: int) -> int:
    """How many neighbouring queries stand together in one bar of the ledger, where it has `count` of them."""
    return -(-count // BARS)


def _stacked(ledger: pd.DataFrame, parts: list[str]) -> pd.DataFrame:
    """At most `BARS` bars: each the mean of its neighbours, named after the first of them, its parts one on the other.

    Stacked here and not by the chart, which takes bars with two ends for horizontal ones; as arrays, because groups of rows
    would take longer than all else that a dial sets off here.
    """
    places, first = np.unique(ledger["query"].to_numpy(), return_index=True)
    shares = np.zeros((len(places), len(parts)))
    part = pd.Index(parts).get_indexer(pd.Index(ledger["part"]))
    shares[np.searchsorted(places, ledger["query"]), part] = ledger["share"]
    starts = np.arange(0, len(places), queries_a_bar(len(places)))
    share = np.add.reduceat(shares, starts) / np.diff(starts, append=len(places))[:, None]
    to = share.cumsum(axis=1).clip(max=1.0)
    many = len(parts)
    tokens = ledger["token"].to_numpy()[first[starts]]
    return pd.DataFrame(
        {
            "query": np.repeat(places[starts], many),
            "shown": np.repeat([visible(str(token)) for token in tokens], many),
            "part": np.tile(parts, len(starts)),
            "name": np.tile([PART_NAMES[name] for name in parts], len(starts)),
            "share": share.ravel(),
            "to": to.ravel(),
            "from": (to - share).clip(min=0.0).ravel(),
        }
    )


def ledger_chart(ledger: pd.DataFrame, theme: Theme, *, query: int, token: str, height: int = 300) -> Layered:
    """Each query's weight as a stacked bar, seen parts below, lost ones above; the asked query is marked."""
    inks = part_colours(theme)
    there = set(ledger["part"].unique())
    present = [name for name in inks if name in there]
    table = _stacked(ledger, present)
    several = len(table) < len(ledger)
    places = np.unique(table["query"])
    wide = float(np.median(np.diff(places))) if len(places) > 1 else 1.0
    table["end"] = table["query"] + wide
    last = float(places[-1] + wide)
    x_scale = alt.Scale(domain=[float(places[0]), last], nice=False)
    x = alt.X("query:Q", scale=x_scale, title="query (token position)", axis=alt.Axis(format="d", tickCount=8, grid=False))
    percent = alt.Axis(format="%", tickCount=5)
    bars = (
        alt.Chart(table)
        .mark_rect(strokeWidth=0.6)
        .encode(
            # A line of its own colour around each bar closes the seams between neighbours.
            stroke=alt.Stroke("part:N", scale=alt.Scale(domain=present, range=[inks[name] for name in present])),
            x=x,
            x2=alt.X2("end:Q"),
            y=alt.Y("from:Q", title="share of the query's weight", scale=alt.Scale(domain=[0, 1]), axis=percent),
            y2=alt.Y2("to:Q"),
            color=alt.Color("part:N", scale=alt.Scale(domain=present, range=[inks[name] for name in present])),
            tooltip=[
                alt.Tooltip("shown:N", title="first query of the bar" if several else "query"),
                alt.Tooltip("query:Q", title="position"),
                alt.Tooltip("name:N", title="part"),
                alt.Tooltip("share:Q", title="share of the weight" + (", mean" if several else ""), format=".1%"),
            ],
        )
    )
    own = pd.DataFrame({"query": [query + wide / 2], "label": [f"“{visible(token)}” ({query}) looks back"]})
    far = query > (float(places[0]) + last) / 2
    rule = alt.Chart(own).mark_rule(color=theme.mark, strokeWidth=2).encode(x=x)
    text = (
        alt.Chart(own)
        .mark_text(align="right" if far else "left", baseline="bottom", color=theme.mark, fontSize=theme.size("tick"), dy=-4)
        .encode(x=x, y=fixed(alt.YValue, 0), text=alt.Text("label:N"))
    )
    return layered(bars, rule, text, height=height, width="container", padding={"top": 18, "left": 4, "right": 8, "bottom": 4})


def recall_chart(curves: pd.DataFrame, theme: Theme, *, now: float) -> Layered:
    """Weight found against the window's width, beside the share of pairs, which is chance."""
    window = theme.style("window").colour
    names = list(dict.fromkeys(curves["curve"]))
    colours = {
        name: theme.muted if "chance" in name else theme.lost if "outside" in name else theme.style("segmented").colour
        for name in names
    }
    colours |= {"window alone": window}
    return curves_chart(
        curves,
        theme,
        x=CurveAxis(column="width", title="window width (tokens, logarithmic)", log=True),
        y=CurveAxis(column="value", title="share of weight, of pairs", domain=(0.0, 1.0), format="%"),
        series=CurveSeries(column="curve", dashed="chance", colours=colours),
        marked=[(now, "now")],
    )


def error_chart(errors: pd.DataFrame, theme: Theme, *, control: float, now: float) -> Layered:
    """The output's relative error against the window's width, with the mean of the visible values as control."""
    names = list(dict.fromkeys(errors["pattern"]))
    window, beside = theme.style("window").colour, theme.style("segmented").colour
    colours = {name: window if name == "window alone" else beside for name in names}
    rules = [(control, "mean of the visible values")] if math.isfinite(control) else []
    return curves_chart(
        errors,
        theme,
        x=CurveAxis(column="width", title="window width (tokens, logarithmic)", log=True),
        y=CurveAxis(column="error", title="relative error of the output"),
        series=CurveSeries(column="pattern", colours=colours),
        rules=rules,
        marked=[(now, "now")],
    )


def patterns_chart(table: pd.DataFrame, theme: Theme, *, height: int = 340) -> Layered:
    """Each pattern as a point: weight found outside the sinks against pairs looked at, with the line of chance."""
    shown = table.rename(columns={"recall without sinks": "found", "share without sinks": "looked"}).dropna(
        subset=["found", "looked"]
    )
    top = min(1.0, 1.25 * float(shown[["found", "looked"]].to_numpy().max(initial=0.1)))
    side = min(1.0, 1.3 * float(shown["looked"].max()) if len(shown) else 1.0)
    x = alt.X(
        "looked:Q",
        scale=alt.Scale(domain=[0, side], nice=False),
        title="share of pairs looked at",
        axis=alt.Axis(format="%", tickCount=6),
    )
    y = alt.Y(
        "found:Q",
        scale=alt.Scale(domain=[0, top], nice=False),
        title="share of the weight outside the sinks",
        axis=alt.Axis(format="%", tickCount=6),
    )
    keys = list(dict.fromkeys(shown["key"]))
    colour = alt.Color("key:N", scale=alt.Scale(domain=keys, range=[theme.style(key).colour for key in keys]))
    tooltip = [
        alt.Tooltip("name:N", title="pattern"),
        alt.Tooltip("found:Q", title="weight found", format=".1%"),
        alt.Tooltip("looked:Q", title="pairs looked at", format=".1%"),
        alt.Tooltip("error:Q", title="error", format=".3f"),
        alt.Tooltip("control:Q", title="error of the mean of the visible values", format=".3f"),
        alt.Tooltip("cost:Q", title="operations, of exact", format=".0%"),
    ]
    end = min(side, top)
    line = (
        alt.Chart(pd.DataFrame({"looked": [0, end], "found": [0, end]}))
        .mark_line(strokeDash=[6, 4], color=theme.muted)
        .encode(x=x, y=y)
    )
    label = (
        alt.Chart(pd.DataFrame({"looked": [0.25 * end], "found": [0.25 * end], "label": ["chance"]}))
        .mark_text(align="left", dx=8, dy=8, color=theme.muted, fontSize=theme.size("tick"))
        .encode(x=x, y=y, text=alt.Text("label:N"))
    )
    dots = [
        alt.Chart(shown[shown["key"] == key])
        .mark_point(
            size=90, filled=not theme.style(key).symbol.open, shape=theme.style(key).symbol.vega, strokeWidth=2, opacity=1
        )
        .encode(x=x, y=y, color=colour, tooltip=tooltip)
        for key in keys
    ]
    places = place_labels(
        [np.array([[looked / side, 1 - found / top]]) for looked, found in shown[["looked", "found"]].to_numpy(dtype=float)],
        list(shown["name"]),
        (700, height),
        zoom=theme.zoom,
    )
    texts = [
        alt.Chart(shown.iloc[[row]])
        .mark_text(align=align, dx=dx, dy=dy, fontSize=theme.size("tick"))
        .encode(x=x, y=y, text=alt.Text("name:N"), color=colour)
        for row, (_index, dx, dy, align) in enumerate(places)
    ]
    return layered(line, label, *dots, *texts, height=height, width="container")


def pattern_picture(name: str, idea: str, seen: np.ndarray, theme: Theme, *, causal: bool, size: int) -> alt.Chart:
    """A small map of what one pattern looks at: dark where all of a cell's pairs are, paper where none, the future hatched."""
    future = np.isnan(seen)
    cells = encode(np.where(future, 0.0, seen), Scale(kind="linear", top=1.0), future=future if causal else None)
    factor = max(1, -(-2 * size // len(seen)))
    uri = data_uri(paint(cells, theme=theme, kind="linear", factor=(factor, factor)))
    frame = pd.DataFrame({"x": [0], "x2": [1], "y": [0], "y2": [1], "url": [uri]})
    down = alt.Scale(domain=[0, 1], reverse=True, nice=False)
    title = alt.TitleParams(
        text=name,
        subtitle=[idea],
        fontSize=theme.size("label"),
        subtitleFontSize=theme.size("tick"),
        anchor="start",
        offset=4,
        limit=size,
    )
    image = (
        alt.Chart(frame)
        .mark_image(aspect=False, smooth=False)
        .encode(
            x=alt.X("x:Q", scale=alt.Scale(domain=[0, 1], nice=False), axis=None),
            x2=alt.X2("x2:Q"),
            y=alt.Y("y:Q", scale=down, axis=None),
            y2=alt.Y2("y2:Q"),
            url=alt.Url("url:N"),
        )
    )
    drawn: alt.Chart = image.properties(width=size, height=size, title=title)
    return drawn


def pattern_pictures(
    names: Sequence[str], ideas: Sequence[str], seen: np.ndarray, theme: Theme, *, causal: bool, columns: int = 5, size: int = 180
) -> alt.ConcatChart:
    """All patterns' small maps on one sheet, for print."""
    charts = [
        pattern_picture(name, idea, picture, theme, causal=causal, size=size)
        for name, idea, picture in zip(names, ideas, seen, strict=True)
    ]
    drawn: alt.ConcatChart = alt.concat(*charts, columns=columns, spacing=20)
    return drawn


def active_chart(queries: pd.DataFrame, theme: Theme, *, height: int = 340) -> Layered:
    """Each query's measure on the sample against its measure on all keys; colour and shape say who attends, and rightly."""
    looks = {
        "active, rightly": (theme.style("probsparse").colour, "circle"),
        "missed": (theme.lost, "cross"),
        "active, needlessly": (theme.added, "triangle-up"),
        "lazy, rightly": (theme.hatch, "circle"),
    }
    table = queries.assign(shown=[visible(str(token)) for token in queries["token"]])
    table = table[np.isfinite(table["sampled"]) & np.isfinite(table["exact"])]
    x = alt.X("exact:Q", title="measure on all visible keys (largest less mean score)", scale=alt.Scale(nice=True))
    y = alt.Y("sampled:Q", title="measure on the sampled keys", scale=alt.Scale(nice=True))
    tooltip = [
        alt.Tooltip("shown:N", title="query"),
        alt.Tooltip("position:Q"),
        alt.Tooltip("exact:Q", title="measure, exact", format=".2f"),
        alt.Tooltip("sampled:Q", title="measure, sampled", format=".2f"),
        alt.Tooltip("verdict:N", title=""),
    ]
    low, high = (float(f(table[["exact", "sampled"]].to_numpy())) if len(table) else 0.0 for f in (np.min, np.max))
    line = alt.Chart(pd.DataFrame({"exact": [low, high], "sampled": [low, high]})).mark_line(strokeDash=[6, 4], color=theme.muted)
    layers: list[Any] = [line.encode(x=x, y=y)]
    for index, (verdict, (ink, shape)) in enumerate(reversed(looks.items())):
        one = table[table["verdict"] == verdict]
        layers.append(
            alt.Chart(one).mark_point(shape=shape, size=44, filled=True, color=ink, opacity=0.9).encode(x=x, y=y, tooltip=tooltip)
        )
        # The names stand in the legible colours of text; the mark before each is the class's own.
        at = 8 + 16 * (len(looks) - 1 - index) * theme.zoom
        words = pd.DataFrame({"label": [f"{verdict}: {len(one):,}"]})
        layers.append(
            alt.Chart(words)
            .mark_point(shape=shape, size=44, filled=True, color=ink, opacity=1)
            .encode(x=fixed(alt.XValue, 10), y=fixed(alt.YValue, at))
        )
        layers.append(
            alt.Chart(words)
            .mark_text(align="left", color=theme.text, fontSize=theme.size("tick"))
            .encode(x=fixed(alt.XValue, 20), y=fixed(alt.YValue, at), text=alt.Text("label:N"))
        )
    return layered(*layers, height=height, width="container")


def swaps_chart(
    swaps: pd.DataFrame, theme: Theme, *, column: str, ends: tuple[str, str], title: str, log: bool, names: bool = True
) -> Layered:
    """One measure of the swapped models, a row a pattern, with the range over seeds; the exact model's value dashed."""
    table = swaps.assign(shown=swaps[column])
    order = list(table["name"])
    y = alt.Y(
        "name:N",
        sort=order,
        title=None,
        axis=alt.Axis(labelFontSize=theme.size("tick"), labelLimit=190, labels=names, ticks=names),
    )
    values = table[[column, *ends]].to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if log:
        low, high = (float(values.min()), float(values.max())) if len(values) else (1.0, 10.0)
        scale = alt.Scale(type="log", domain=[low / 1.25, high * 2.2], nice=False)
    else:
        scale = alt.Scale(domain=[0, 1.12], nice=False)
    x = alt.X("shown:Q", scale=scale, title=title, axis=alt.Axis(tickCount=5, format="~g"))
    keys = list(dict.fromkeys(table["key"]))
    colour = alt.Color("key:N", scale=alt.Scale(domain=keys, range=[theme.style(key).colour for key in keys]))
    tooltip = [
        alt.Tooltip("name:N", title="in every layer"),
        alt.Tooltip("perplexity:Q", format=".2f"),
        alt.Tooltip("probability:Q", title="probability of what should come", format=".4f"),
        alt.Tooltip("seeds:Q"),
    ]
    layers: list[Any] = [
        alt.Chart(table)
        .mark_rule(strokeWidth=2)
        .encode(y=y, x=alt.X(field=ends[0], type="quantitative", scale=scale), x2=ends[1], color=colour),
        *(
            alt.Chart(table[table["key"] == key])
            .mark_point(size=110, filled=not theme.style(key).symbol.open, strokeWidth=2, shape=_dot(theme, key), opacity=1)
            .encode(y=y, x=x, color=colour, tooltip=tooltip)
            for key in keys
        ),
        alt.Chart(table.assign(label=[_number(v, log) for v in table["shown"]]))
        .mark_text(align="left", dx=9, fontSize=theme.size("tick"))
        .encode(y=y, x=x, text=alt.Text("label:N"), color=colour),
    ]
    exact = table[table["key"] == "exact"]
    if len(exact):
        layers.insert(0, alt.Chart(exact).mark_rule(strokeDash=[6, 4], color=theme.muted).encode(x=x))
    return layered(*layers, height=30 * len(table) + 24, width="container")


def _dot(theme: Theme, key: str) -> str:
    # A line as a symbol would vanish on its own rule.
    return "circle" if key == "exact" else theme.style(key).symbol.vega


def _number(value: float, log: bool) -> str:
    if log:
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.005 else "< .01"


def reach_chart(reach: pd.DataFrame, theme: Theme) -> Layered:
    """Tokens back against layers, a line a width; the setting at hand in the mechanism's colour."""
    own = str(reach.loc[reach["now"], "curve"].iloc[0])
    return curves_chart(
        reach,
        theme,
        x=CurveAxis(column="layers", title="layers"),
        y=CurveAxis(column="tokens", title="tokens back (at most)"),
        series=CurveSeries(column="curve", colours={own: theme.style("window").colour}, points=False),
    )


def verdict_colours(theme: Theme) -> dict[str, str]:
    """Quiet colours behind the words, by what became of them as queries: the same hues as in the chart."""
    inks = {"active, rightly": theme.style("probsparse").colour, "missed": theme.lost, "active, needlessly": theme.added}
    return {name: hexadecimal(blend(ink, theme.background, 100)[45]) for name, ink in inks.items()}
