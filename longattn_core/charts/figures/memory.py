"""The timeline of a memory: which tokens each segment finds current, cached, blended or gone, over the exact attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.style.altair import layered
from longattn_core.charts.style.axes import token_axis
from longattn_core.charts.style.colour import blend, hexadecimal
from longattn_core.charts.style.theme import Theme

MOST_BARS = 256
TOPS = (0.05, 0.1, 0.2, 0.4, 1.0)
"""Where the bars' axis may end: few places, because the chart is built anew when its axis moves."""
FLOOR, ROOF = 0.44, 0.5
"""The bars stand in the lower part of the picture, up to `FLOOR`; the segments' rows from `ROOF` up."""
LABELS = FLOOR + 0.026
"""Where shares are written, between the two."""
ORDER = ("gone", "blended", "cached", "current", "later")
"""The statuses in the order in which their tokens stand in the text."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """What the timeline shows, n tokens and t segments, as in the `MemoryTimeline` study.

    `spans [t 4]`; `stops [k]`, the segments to stand at; `mass [k n]`, the exact attention of each; `tokens [n]`; `sinks`.
    `both_ways`: a state without a mask holds what comes later too.
    """

    spans: np.ndarray
    stops: np.ndarray
    mass: np.ndarray
    tokens: np.ndarray
    sinks: np.ndarray
    variant: str
    both_ways: bool = False

    @property
    def n(self) -> int:
        """How many tokens there are."""
        return int(self.mass.shape[1])

    def runs(self, segment: int) -> list[tuple[str, int, int]]:
        """The runs of tokens of each status for one segment."""
        return spans_of(self.spans[segment], self.n, both_ways=self.both_ways)


def timeline_chart(
    timeline: Timeline, theme: Theme, *, at: int, shares: dict[str, float], height: int = 330
) -> alt.LayerChart | alt.FacetChart:
    """Above, a row a segment, read downwards: which tokens it finds current, cached, blended, gone. Below, the exact attention of
    the stop `at`, in the colours of what the memory still holds. Later rows are faint: they have not been read.

    `shares` holds each status' share of that mass, for the labels. Bars are square roots of shares, so that small ones can be
    seen; in a long text a bar is the sum over several tokens. Bars of sinks go beyond the picture, and their share is written.
    """
    n, stops, names = timeline.n, timeline.stops, status_names(timeline.variant)
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
                "segment": segment + 1,
                "now": row == at,
                "alpha": 1.0 if row == at else 0.5 if row < at else 0.1,
            }
            for row, segment in enumerate(stops.tolist())
            for status, a, b in timeline.runs(segment)
        ]
    )
    colour, x = _colour(theme), token_axis("from", n)
    bars = _bins(timeline.mass[at], timeline.sinks)
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
    layers += _bars(bars, timeline, int(stops[at]), theme, top, x)
    layers.append(_shares(timeline, int(stops[at]), shares, theme, x))
    return layered(*layers, height=height)


def _labels(top: float) -> str:
    """What stands at the three ticks of the bars: squares of equal steps."""
    texts = [f"{(top * share) ** 2:.0%}" if top * share > 0.1 else f"{(top * share) ** 2:.1%}" for share in (0, 0.5, 1)]
    texts[0] = "0 %"
    texts = [text.replace("%", " %").replace("  ", " ") for text in texts]
    return f"datum.value < 0.01 ? '{texts[0]}' : datum.value < {0.75 * FLOOR} ? '{texts[1]}' : '{texts[2]}'"


def _colour(theme: Theme) -> alt.Color:
    """One scale for rows, grounds and bars: what is lost has no ground, but its bars have a colour."""
    inks = status_colours(theme)
    return alt.Color("ink:N", scale=alt.Scale(domain=[*ORDER, "lost"], range=[*(inks[name] for name in ORDER), theme.lost]))


def _bins(mass: np.ndarray, sinks: np.ndarray) -> pd.DataFrame:
    """The mass of each bar, and whether a sink stands in it."""
    n = len(mass)
    edges = np.arange(min(n, MOST_BARS) + 1) * n // min(n, MOST_BARS)
    sink = np.isin(np.arange(n), sinks)
    return pd.DataFrame(
        {
            "from": edges[:-1],
            "to": edges[1:],
            "mass": np.add.reduceat(mass.astype(float), edges[:-1]),
            "sink": np.logical_or.reduceat(sink, edges[:-1]),
        }
    )


def _bars(bars: pd.DataFrame, timeline: Timeline, segment: int, theme: Theme, top: float, x: alt.X) -> list[Any]:
    """The layers of the bars: a ground in the colour of each status, the bars, and words over the sinks beyond the picture."""
    runs, names = timeline.runs(segment), status_names(timeline.variant)
    starts, own = np.array([a for _status, a, _b in runs]), int(timeline.spans[segment, 2])
    statuses = [runs[i][0] for i in np.searchsorted(starts, bars["from"], side="right") - 1]
    bars["ink"] = ["lost" if status in ("gone", "later") else status for status in statuses]
    bars["status"] = [names[status] for status in statuses]
    bars["low"], bars["high"] = 0.0, np.sqrt(bars["mass"]).clip(upper=top) / top * FLOOR
    bars["lag"] = np.maximum(own - bars["from"], 0)
    bars["token"] = [str(timeline.tokens[at]).strip() for at in bars["from"]]
    tooltip = [
        alt.Tooltip("token:N", title="word" if len(bars) == timeline.n else "first word of the bar"),
        alt.Tooltip("from:Q", title="token", format="d"),
        alt.Tooltip("lag:Q", title="tokens before the segment", format="d"),
        alt.Tooltip("status:N", title="it is"),
        alt.Tooltip("mass:Q", title="exact attention", format=".2%"),
    ]
    grounds = pd.DataFrame([{"from": a, "to": b, "low": 0.0, "high": FLOOR, "ink": status} for status, a, b in runs])
    colour = _colour(theme)
    layers: list[Any] = [
        alt.Chart(grounds)
        .mark_rect(opacity=0.18)
        .encode(x=x, x2=alt.X2("to:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour),
        alt.Chart(bars)
        .mark_rect(opacity=1)
        .encode(x=x, x2=alt.X2("to:Q"), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour, tooltip=tooltip),
    ]
    beyond = bars[bars["sink"] & (np.sqrt(bars["mass"]) > top)].head(3)
    words = pd.DataFrame(
        {"from": beyond["from"], "low": LABELS, "text": [f"↑ sink {share:.0%}".replace("%", " %") for share in beyond["mass"]]}
    )
    text = alt.Chart(_one_at_least(words)).mark_text(align="left", dx=1, fontSize=theme.size("tick"), color=theme.text)
    return [*layers, text.encode(x=x, y=alt.Y("low:Q"), text=alt.Text("text:N"))]


def _one_at_least(words: pd.DataFrame) -> pd.DataFrame:
    """The words of a layer, or an empty one: the browser would build the chart anew if a layer came and went."""
    return words if len(words) else pd.DataFrame({"from": [0.0], "low": [LABELS], "text": [""]})


def _shares(timeline: Timeline, segment: int, shares: dict[str, float], theme: Theme, x: alt.X) -> alt.Chart:
    """Each status' share of the attention, written over its tokens where there is room."""
    names = status_names(timeline.variant)
    words = [
        {"from": (a + b) / 2, "low": LABELS, "text": f"{names[status]} {shares.get(status, 0):.0%}".replace("%", " %")}
        for status, a, b in timeline.runs(segment)
        if status != "later" and b - a > 0.115 * timeline.n
    ]
    size = theme.size("tick")
    text = alt.Chart(_one_at_least(pd.DataFrame(words))).mark_text(
        fontSize=size, color=theme.text, opacity=alt.ExprRef("width < 480 ? 0 : 1")
    )
    layer: alt.Chart = text.encode(x=x, y=alt.Y("low:Q"), text=alt.Text("text:N"))
    return layer
