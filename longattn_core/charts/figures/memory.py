"""Pictures of memory: the timeline over the mass, attention by lag, reach, slots, what a state keeps, error against size."""

from __future__ import annotations

from typing import Any, TypeAlias

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.cells import encode, pool_cells
from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.pixels import data_uri, paint
from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.colour import blend, hexadecimal
from longattn_core.charts.style.scales import Scale
from longattn_core.charts.style.theme import CURVE_HEIGHT, SIZES, Theme

Chart: TypeAlias = alt.LayerChart | alt.FacetChart


MOST_BARS = 256
TOPS = (0.05, 0.1, 0.2, 0.4, 1.0)
"""Where the bars' axis may end: few places, because the chart is built anew when its axis moves."""
FLOOR, ROOF = 0.44, 0.5
"""The bars stand in the lower part of the picture, up to `FLOOR`; the segments' rows from `ROOF` up."""
LABELS = FLOOR + 0.026
"""Where shares are written, between the two."""
STATUSES = ("gone", "blended", "cached", "current", "later")
BLENDED = {"compressed": "summarised", "slots": "in the slots"}


def status_names(variant: str) -> dict[str, str]:
    """The five states of a key in words, for one kind of memory."""
    state = variant in ("state", "decay", "gated", "delta")
    return {
        "current": "current segment" if not state else "current piece",
        "cached": "cached",
        "blended": BLENDED.get(variant, "in the state"),
        "gone": "gone" if not state else "more than half lost",
        "later": "not read yet",
    }


def status_colours(theme: Theme) -> dict[str, str]:
    """One colour a status: the memory's own for what it holds as it was, paler for a blend, none for what is gone."""
    ink = theme.style("memory").colour
    return {
        "current": theme.mark,
        "cached": ink,
        "blended": hexadecimal(blend(theme.background, ink, 5)[2]),
        "gone": theme.never,
        "later": theme.background,
    }


def spans_of(spans: np.ndarray, n: int, *, both_ways: bool = False) -> list[tuple[str, int, int]]:
    """The runs of tokens of each status for one segment: `spans [4]` as in the `MemoryTimeline` study."""
    blended, cached, own, stop = (int(at) for at in spans)
    later = "blended" if both_ways else "later"
    runs = [("gone", 0, blended), ("blended", blended, cached), ("cached", cached, own), ("current", own, stop), (later, stop, n)]
    return [run for run in runs if run[2] > run[1]]


def timeline_chart(
    spans: np.ndarray,
    stops: np.ndarray,
    mass: np.ndarray,
    at: int,
    theme: Theme,
    *,
    variant: str,
    tokens: np.ndarray,
    shares: dict[str, float],
    sinks: np.ndarray,
    both_ways: bool = False,
    height: int = 330,
) -> Chart:
    """Above, a row a segment, read downwards: which tokens it finds current, cached, blended, gone. Below, the exact attention of
    the segment at hand, in the colours of what the memory still holds. Later rows are faint: they have not been read.

    `shares` holds each status' share of that mass, for the labels. Bars are square roots of shares, so that small ones can be
    seen; in a long text a bar is the sum over several tokens. Bars of sinks go beyond the picture, and their share is written.
    """
    n, names, inks = mass.shape[1], status_names(variant), status_colours(theme)
    tall = (1 - ROOF) / len(stops)
    rows = pd.DataFrame(
        [
            {
                "from": a,
                "to": b,
                "low": 1 - (row + 0.92) * tall,
                "high": 1 - (row + 0.08) * tall,
                "status": names[status],
                "ink": status,
                "segment": int(segment) + 1,
                "now": row == at,
                "alpha": 1.0 if row == at else 0.5 if row < at else 0.1,
            }
            for row, segment in enumerate(stops)
            for status, a, b in spans_of(spans[segment], n, both_ways=both_ways)
        ]
    )
    colour = _colour(inks, theme)
    x = alt.X(
        "from:Q", title="token", scale=alt.Scale(domain=[0, n], nice=False), axis=alt.Axis(format="d", tickCount=8, grid=False)
    )
    bars = _bins(mass[at], sinks)
    highest = float(np.sqrt(bars.loc[~bars["sink"], "mass"].max())) if not bars["sink"].all() else 1.0
    top = next(size for size in TOPS if size >= highest or size == TOPS[-1])
    y = alt.Y(
        "low:Q",
        scale=alt.Scale(domain=[0, 1]),
        title="exact attention (√)",
        axis=alt.Axis(values=[0, FLOOR / 2, FLOOR], grid=False, titleAnchor="start", labelExpr=_labels(top)),
    )
    tooltip = [
        alt.Tooltip("segment:Q", title="segment"),
        alt.Tooltip("status:N", title="these tokens are"),
        alt.Tooltip("from:Q", title="from token", format="d"),
        alt.Tooltip("to:Q", title="up to, not with", format="d"),
    ]
    opacity = alt.Opacity("alpha:Q", scale=None)
    layers: list[Any] = [
        alt.Chart(rows)
        .mark_rect()
        .encode(x=x, x2=alt.X2("to:Q"), y=y, y2=alt.Y2("high:Q"), color=colour, opacity=opacity, tooltip=tooltip),
        alt.Chart(rows[rows["now"]])
        .mark_rect(filled=False, stroke=theme.text, strokeWidth=1.5)
        .encode(x=x, x2=alt.X2("to:Q"), y=y, y2=alt.Y2("high:Q")),
    ]
    layers += _bars(bars, spans[stops[at]], n, tokens, theme, names, inks, top, x, both_ways=both_ways)
    layers += _shares(spans[stops[at]], shares, theme, names, n, x, both_ways=both_ways)
    return layered(*layers, height=height)


def _labels(top: float) -> str:
    """What stands at the three ticks of the bars: squares of equal steps."""
    texts = [f"{(top * share) ** 2:.0%}" if top * share > 0.1 else f"{(top * share) ** 2:.1%}" for share in (0, 0.5, 1)]
    texts[0] = "0 %"
    texts = [text.replace("%", " %").replace("  ", " ") for text in texts]
    return f"datum.value < 0.01 ? '{texts[0]}' : datum.value < {0.75 * FLOOR} ? '{texts[1]}' : '{texts[2]}'"


def _colour(inks: dict[str, str], theme: Theme) -> alt.Color:
    """One scale for rows, grounds and bars: what is lost has no ground, and a colour where it was looked for."""
    return alt.Color("ink:N", scale=alt.Scale(domain=[*STATUSES, "lost"], range=[*(inks[name] for name in STATUSES), theme.lost]))


def _bins(mass: np.ndarray, sinks: np.ndarray) -> pd.DataFrame:
    """The mass of each bar, and whether a sink stands in it."""
    n = len(mass)
    edges = np.arange(min(n, MOST_BARS) + 1) * n // min(n, MOST_BARS)
    found = np.isin(np.arange(n), sinks)
    return pd.DataFrame(
        {
            "from": edges[:-1],
            "to": edges[1:],
            "mass": np.add.reduceat(mass.astype(float), edges[:-1]),
            "sink": np.logical_or.reduceat(found, edges[:-1]),
        }
    )


def _bars(
    bars: pd.DataFrame,
    spans: np.ndarray,
    n: int,
    tokens: np.ndarray,
    theme: Theme,
    names: dict[str, str],
    inks: dict[str, str],
    top: float,
    x: alt.X,
    *,
    both_ways: bool,
) -> list[Any]:
    runs = spans_of(spans, n, both_ways=both_ways)
    starts, own = np.array([a for _status, a, _b in runs]), int(spans[2])
    statuses = [runs[i][0] for i in np.searchsorted(starts, bars["from"], side="right") - 1]
    bars["ink"] = ["lost" if status in ("gone", "later") else status for status in statuses]
    bars["status"] = [names[status] for status in statuses]
    bars["low"], bars["high"] = 0.0, np.sqrt(bars["mass"]).clip(upper=top) / top * FLOOR
    bars["lag"] = np.maximum(own - bars["from"], 0)
    bars["token"] = [str(tokens[at]).strip() for at in bars["from"]]
    tooltip = [
        alt.Tooltip("token:N", title="word" if len(bars) == n else "first word of the bar"),
        alt.Tooltip("from:Q", title="token", format="d"),
        alt.Tooltip("lag:Q", title="tokens before the segment", format="d"),
        alt.Tooltip("status:N", title="it is"),
        alt.Tooltip("mass:Q", title="exact attention", format=".2%"),
    ]
    grounds = pd.DataFrame([{"from": a, "to": b, "low": 0.0, "high": FLOOR, "ink": status} for status, a, b in runs])
    colour = _colour(inks, theme)
    layers: list[Any] = [
        alt.Chart(grounds)
        .mark_rect(opacity=0.18)
        .encode(x=x, x2=alt.X2("to:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour),
        alt.Chart(bars)
        .mark_rect(opacity=1)
        .encode(x=x, x2=alt.X2("to:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour, tooltip=tooltip),
    ]
    beyond = bars[bars["sink"] & (np.sqrt(bars["mass"]) > top)].head(3)
    said = pd.DataFrame(
        {"from": beyond["from"], "low": LABELS, "text": [f"↑ sink {share:.0%}".replace("%", " %") for share in beyond["mass"]]}
    )
    text = alt.Chart(_one_at_least(said)).mark_text(align="left", dx=1, fontSize=SIZES["tick"] * theme.zoom, color=theme.text)
    return [*layers, text.encode(x=x, y=alt.Y("low:Q"), text=alt.Text("text:N"))]


def _one_at_least(words: pd.DataFrame) -> pd.DataFrame:
    """The words of a layer, or an empty one: with a layer that came and went the chart would be built anew."""
    return words if len(words) else pd.DataFrame({"from": [0.0], "low": [LABELS], "text": [""]})


def _shares(
    spans: np.ndarray, shares: dict[str, float], theme: Theme, names: dict[str, str], n: int, x: alt.X, *, both_ways: bool
) -> list[Any]:
    """Each status' share of the attention, written over its tokens where there is room."""
    found = [
        {"from": (a + b) / 2, "low": LABELS, "text": f"{names[status]} {shares.get(status, 0):.0%}".replace("%", " %")}
        for status, a, b in spans_of(spans, n, both_ways=both_ways)
        if status != "later" and b - a > 0.115 * n
    ]
    size = SIZES["tick"] * theme.zoom
    return [
        alt.Chart(_one_at_least(pd.DataFrame(found)))
        .mark_text(fontSize=size, color=theme.text, opacity=alt.ExprRef("width < 480 ? 0 : 1"))
        .encode(x=x, y=alt.Y("low:Q"), text=alt.Text("text:N"))
    ]


def lags_chart(lags: pd.DataFrame, theme: Theme, *, bare: bool, label: str) -> Chart:
    """Mass by lag in bins that double: exact attention, what of it the memory can still look at, and the memory's own."""
    end = " without sinks" if bare else ""
    parts = {
        "exact attention": lags[f"exact{end}"],
        "of it, still in reach": lags[f"exact{end}"] * lags["reached"].fillna(0.0),
        label: lags[f"memory{end}"],
    }
    rows = pd.concat([lags[["middle"]].assign(mass=values, curve=name) for name, values in parts.items()])
    ticks = [4**power for power in range(8) if 4**power <= float(lags["high"].max())]
    return curves_chart(
        rows,
        theme,
        x=CurveAxis(column="middle", title="tokens back (logarithmic, bins that double)", log=True, ticks=ticks or None),
        y=CurveAxis(column="mass", title="share of a query's attention", format=".0%"),
        series=CurveSeries(column="curve", keys={"exact attention": "exact", label: "memory"}),
        rules=[(0.0, "")] if float(rows["mass"].min()) < 0 else (),
    )


def reach_chart(reach: pd.DataFrame, theme: Theme, *, n: int, names: dict[str, str]) -> Chart:
    """Tokens back against layers; the common rule, layers × M, dashed."""
    shown = reach[(reach["layer"] > 0) & reach["kind"].isin(list(names))]
    shown = shown.assign(label=shown["kind"].map(names), dashed=shown["kind"].isin(["rule", "blended"]))
    return curves_chart(
        shown,
        theme,
        x=CurveAxis(column="layer", title="layers"),
        y=CurveAxis(column="back", title="reaches so many tokens back", domain=(0, 1.08 * max(1, n - 1))),
        series=CurveSeries(column="label", dashed="dashed"),
        rules=[(n - 1, "the first token")],
    )


def sizes_chart(rows: pd.DataFrame, theme: Theme, *, control: float | None, size: float) -> Chart:
    """Error against how many tokens' worth of numbers are remembered, a line a memory; a state has one size and is dashed."""
    kinds = rows["variant"].isin(_HUES)
    ends = [rows[kinds].assign(held=float(end)) for end in (rows["held"].min(), rows["held"].max())]
    ordered = pd.concat([rows, *ends]).assign(one_size=lambda t: t["variant"].isin(_HUES))
    ordered = ordered.drop_duplicates(["label", "held"]).sort_values(["label", "held"], kind="stable")
    rules = [] if control is None else [(control, "mean of the visible values")]
    return curves_chart(
        ordered,
        theme,
        x=CurveAxis(column="held", title="remembered, in tokens of keys and values (logarithmic)", log=True),
        y=CurveAxis(column="error", title="relative error of the output"),
        series=CurveSeries(column="label", dashed="one_size"),
        rules=rules,
        marked=[(size, "here")],
    )


def standing_chart(rows: pd.DataFrame, theme: Theme, *, control: float) -> Chart:
    """A dot a memory at one budget, and the control as a rule: left of it something has been learnt."""
    ink = theme.style("memory").colour
    shown = rows[rows["error"].notna()].sort_values("error")
    y = alt.Y("label:N", title=None, sort=list(shown["label"]), axis=alt.Axis(grid=True, labelLimit=160))
    high = 1.12 * max(float(shown["error"].max()), control)
    x = alt.X(
        "error:Q", title="relative error of the output", scale=alt.Scale(domain=[0, high], nice=False), axis=alt.Axis(tickCount=6)
    )
    tooltip = [
        alt.Tooltip("label:N", title="memory"),
        alt.Tooltip("error:Q", title="error", format=".3f"),
        alt.Tooltip("control:Q", title="mean of the visible values", format=".3f"),
        alt.Tooltip("error without sinks:Q", title="error without sinks", format=".3f"),
        alt.Tooltip("looked:Q", title="looked at"),
        alt.Tooltip("unit:N", title="of"),
    ]
    rule = alt.Chart(pd.DataFrame({"error": [control], "text": ["mean of the visible values"]}))
    size = SIZES["tick"] * theme.zoom
    return layered(
        rule.mark_rule(color=theme.muted, strokeDash=[6, 4]).encode(x=alt.X("error:Q")),
        rule.mark_text(color=theme.muted, align="right", dx=-6, dy=8, fontSize=size).encode(
            x=alt.X("error:Q"), y=fixed(alt.YValue, 0), text=alt.Text("text:N")
        ),
        alt.Chart(shown).mark_point(size=120, filled=True, opacity=1, color=ink).encode(x=x, y=y, tooltip=tooltip),
        alt.Chart(shown)
        .mark_text(align="left", dx=10, fontSize=size, color=theme.text)
        .encode(x=x, y=y, text=alt.Text("error:Q", format=".2f")),
        height=34 * len(shown) + 40,
    )


def survival_chart(survival: pd.DataFrame, theme: Theme) -> Chart:
    """What is left of a write after so many tokens: measured, and dashed by the closed form where that differs."""
    rows = _measured_and_closed(survival, "left")
    rows = rows[rows["lag"] > 0]
    colours = {}
    for variant, group in rows.groupby("variant", sort=False):
        for name in group["curve"].unique():
            colours[str(name)] = _ink(str(variant), theme)
    return curves_chart(
        rows,
        theme,
        x=CurveAxis(column="lag", title="tokens since it was written (logarithmic)", log=True),
        y=CurveAxis(column="share", title="left of what was written", domain=(0, 1.05), format=".0%"),
        series=CurveSeries(column="curve", dashed="closed", colours=colours, points=False),
    )


def _measured_and_closed(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The measured curves, and those closed forms that differ from them by more than a hundredth somewhere."""
    differs = (table[column] - table["formula"]).abs().groupby(table["variant"]).transform("max") > 0.01
    measured = table.assign(share=table[column], closed=False, curve=table["label"])
    closed = table[differs].assign(share=table["formula"], closed=True, curve=table["label"] + ", by formula")
    return pd.concat([measured, closed])


def recall_chart(recall: pd.DataFrame, theme: Theme) -> Chart:
    """How nearly what the planted key reads points to its own value, as the state goes on; the mean of all values dashed."""
    control = recall.drop_duplicates("age").assign(
        cosine=lambda t: t["control"], label="mean of all values so far", variant="control"
    )
    rows = pd.concat([recall.assign(dashed=False), control.assign(dashed=True)]).sort_values(["label", "age"])
    colours = {str(label): _ink(str(variant), theme) for label, variant in zip(rows["label"], rows["variant"], strict=True)}
    return curves_chart(
        rows,
        theme,
        x=CurveAxis(column="age", title="tokens since the word was read"),
        y=CurveAxis(column="cosine", title="cosine with the word's own value"),
        series=CurveSeries(column="label", dashed="dashed", colours=colours, points=False),
    )


def norms_chart(norms: pd.DataFrame, theme: Theme) -> Chart:
    """How large the state grows, as a share of its last size."""
    colours = {str(label): _ink(str(variant), theme) for label, variant in zip(norms["label"], norms["variant"], strict=True)}
    return curves_chart(
        norms,
        theme,
        x=CurveAxis(column="token", title="tokens read"),
        y=CurveAxis(column="norm", title="size of the state (norm, share of its last)"),
        series=CurveSeries(column="label", colours=colours, points=False),
    )


def rewriting_chart(writes: pd.DataFrame, theme: Theme) -> Chart:
    """The share that the first of several writes under one key still has; the closed form dashed where it differs."""
    rows = _measured_and_closed(writes, "first")
    colours = {str(name): _ink(str(variant), theme) for name, variant in zip(rows["curve"], rows["variant"], strict=True)}
    return curves_chart(
        rows,
        theme,
        x=CurveAxis(column="writes", title="times the same key has been written"),
        y=CurveAxis(column="share", title="share of the first value in what is read", domain=(0, 1.05), format=".0%"),
        series=CurveSeries(column="curve", dashed="closed", colours=colours),
    )


_HUES = {"state": "window", "decay": "favor", "gated": "lsh", "delta": "memory"}


def _ink(variant: str, theme: Theme) -> str:
    """The colour of a running state, the same in all charts."""
    return theme.style(_HUES[variant]).colour if variant in _HUES else theme.muted


def slots_chart(held: np.ndarray, theme: Theme, *, start: int) -> Chart:
    """Each slot as a row over the tokens that it is blended of; what comes from the segment on is not in it yet."""
    slots, n = held.shape
    cells = pool_cells(held, (slots, min(n, 1024)), "max")
    coded = encode(cells, Scale(kind="log"))
    factor = (max(1, -(-320 // slots)), max(1, -(-960 // cells.shape[1])))
    frame = pd.DataFrame(
        {"x": [0], "x2": [n], "y": [0], "y2": [slots], "url": [data_uri(paint(coded, theme=theme, kind="log", factor=factor))]}
    )
    x = alt.X(
        "x:Q", title="token", scale=alt.Scale(domain=[0, n], nice=False), axis=alt.Axis(format="d", tickCount=8, grid=False)
    )
    y = alt.Y(
        "y:Q",
        title="slot",
        scale=alt.Scale(domain=[0, slots], nice=False, reverse=True),
        axis=alt.Axis(format="d", tickMinStep=1, tickCount=6, grid=False),
    )
    rule = alt.Chart(pd.DataFrame({"x": [start]}))
    return layered(
        alt.Chart(frame)
        .mark_image(aspect=False, smooth=False)
        .encode(x=x, x2=alt.X2("x2:Q"), y=y, y2=alt.Y2("y2:Q"), url=alt.Url("url:N")),
        rule.mark_rule(color=theme.mark, strokeWidth=2).encode(x=x),
        height=min(CURVE_HEIGHT, max(90, 14 * slots)),
    )
