"""Curves of distance, rotary clocks, staircases, and the skew in frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.curves import LINE_GAP, NARROW, CurveAxis, CurveSeries, curves_chart, spread
from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.theme import SIZES, Theme

HUES = {
    "alibi": "relative",
    "rope": "low_rank",
    "shaw": "lsh",
    "music": "favor",
    "xl": "window",
    "t5": "probsparse",
    "sinusoidal": "exact",
}
"""Whose colour a scheme's curve takes: seven schemes of one mechanism must be told apart."""
SCALED = {"RoPE, interpolated": "segmented", "RoPE, NTK": "routed", "RoPE, YaRN": "memory"}
STAGE_TITLES = {
    "by_distance": "1 · logits by distance",
    "pad": "2 · pad one empty column",
    "reshape": "3 · drop the first numbers, cut the line anew",
    "slice": "4 · keep the first columns: logits by key",
}
MOST_POINTS, FEWER_POINTS, HIT_POINTS = 700, 96, 40
"""Distances that are drawn of the chosen scheme, and of the others, and those that a pointer finds: every row is sent
and laid out again with each move of a dial."""
BIAS_TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000)
BIAS_ENDS = (1, 30, 1000, 30_000)
DISTANCE_TICKS = [sign * 2**i for sign in (-1, 1) for i in range(0, 17)] + [0]
WIDE = "width < 560 ? 0 : 1"
"""On a phone there is no room for words in every cell: a touch shows them."""
Layers = alt.LayerChart | alt.FacetChart


def scheme_colours(table: pd.DataFrame, theme: Theme) -> dict[str, str]:
    """The colour of each scheme of a table with columns `scheme` and `variant`."""
    pairs = table[["scheme", "variant"]].drop_duplicates().itertuples(index=False)
    return {name: theme.style(SCALED.get(name, HUES[variant])).colour for name, variant in pairs}


def bias_chart(curves: pd.DataFrame, theme: Theme, *, height: int = 380) -> Layers:
    """What each scheme adds at each distance; the chosen one thick. Both axes are linear about 0, logarithmic beyond ±1.

    Dashed: a scheme whose numbers are learned in its paper and drawn at random here.
    """
    columns = ["scheme", "variant", "distance", "bias", "parameters", "chosen"]
    shown = _thinned(curves)[columns].assign(
        untrained=lambda t: t["parameters"] != "none",
        label=lambda t: np.where(t["parameters"] != "none", t["scheme"] + " (untrained)", t["scheme"]),
    )
    colours = scheme_colours(shown, theme) if len(shown) else {}
    sent = shown[["scheme", "label", "distance", "bias", "untrained", "chosen"]]
    names = list(colours)
    low, high = (float(shown["bias"].min()), float(shown["bias"].max())) if len(shown) else (-1.0, 1.0)
    # Out to the next of a few ends: the axis stands still while a dial moves, and only the curves are drawn again.
    low, high = -_end_beyond(-low), _end_beyond(high)
    first, last = (int(shown["distance"].min()), int(shown["distance"].max())) if len(shown) else (0, 1)
    bends = alt.Scale(type="symlog", constant=1, domain=[low, high], nice=False)
    x = alt.X(
        "distance:Q",
        title="distance (tokens, beyond 1 logarithmic)",
        scale=alt.Scale(type="symlog", constant=1, domain=[first, last], nice=False),
        axis=alt.Axis(values=[d for d in DISTANCE_TICKS if first <= d <= last], format=",d"),
    )
    y = alt.Y(
        "bias:Q",
        title="added to the score (beyond ±1 logarithmic)",
        scale=bends,
        axis=alt.Axis(values=_symmetric_ticks(low, high), format=",d"),
    )
    colour = alt.Color("scheme:N", scale=alt.Scale(domain=names, range=[colours[name] for name in names]))
    dash = alt.StrokeDash("untrained:N", scale=alt.Scale(domain=[False, True], range=[[1, 0], [5, 4]]))
    tooltip = [
        alt.Tooltip("label:N", title="scheme"),
        alt.Tooltip("distance:Q", title="distance, tokens"),
        alt.Tooltip("bias:Q", title="added to the score", format=".3~g"),
    ]
    # The layers take their rows from the whole: rows of their own would be checked and written once a layer.
    base = alt.Chart()
    zero = alt.Chart(pd.DataFrame({"bias": [0.0]})).mark_rule(color=theme.border).encode(y=y)
    layers: list[Any] = [zero]
    for chosen, untrained, width, opacity in ((0, 1, 1.0, 0.55), (0, 0, 1.5, 0.8), (1, None, 3.5, 1.0)):
        which = f"datum.chosen == {chosen}" + ("" if untrained is None else f" && datum.untrained == {untrained}")
        part = base.transform_filter(which)
        layers.append(part.mark_line(strokeWidth=width, opacity=opacity).encode(x=x, y=y, color=colour, strokeDash=dash))
    hits = sent[sent["distance"].isin(_some(np.unique(sent["distance"]), HIT_POINTS))]
    layers.append(alt.Chart(hits).mark_point(size=160, opacity=0.001).encode(x=x, y=y, color=colour, tooltip=tooltip))
    layers += _ends(shown, names, (low, high), height, theme, y, colour)
    return layered(*layers, data=sent, height=height, width="container")


def _thinned(curves: pd.DataFrame) -> pd.DataFrame:
    """All distances of the chosen scheme up to `MOST_POINTS`, fewer of the others: all near ones, ever fewer far ones."""
    distances = np.unique(curves["distance"])
    kept, many = (_some(distances, count) for count in (FEWER_POINTS, MOST_POINTS))
    own = curves["chosen"].astype(bool)
    return curves[(own & curves["distance"].isin(many)) | (~own & curves["distance"].isin(kept))]


def _some(distances: np.ndarray, count: int) -> np.ndarray:
    most = max(2, int(np.abs(distances).max()))
    steps = np.unique(np.concatenate([np.arange(count // 4), np.geomspace(1, most, count)]).round().astype(np.int64))
    return distances if len(distances) <= count else distances[np.isin(np.abs(distances), steps)]


def _symmetric_ticks(low: float, high: float) -> list[float]:
    marks = [0.0]
    for size in BIAS_TICKS:
        marks += [sign * size for sign in (-1, 1) if low <= sign * size <= high]
    return sorted(marks)


def _end_beyond(value: float) -> float:
    return float(next((size for size in BIAS_ENDS if size >= value), max(value, 1.0)))


def _bent(value: float) -> float:
    return float(np.sign(value) * np.log1p(abs(value)))


def _straight(value: float) -> float:
    return float(np.sign(value) * np.expm1(abs(value)))


def _ends(
    shown: pd.DataFrame, names: Sequence[str], domain: tuple[float, float], height: int, theme: Theme, y: alt.Y, colour: alt.Color
) -> list[alt.Chart]:
    """The schemes' names at the ends of their curves; on a phone only the chosen one's, inside. Two layers for all."""
    low, high = _bent(domain[0]), _bent(domain[1])
    ends = shown.sort_values("distance").drop_duplicates("scheme", keep="last").set_index("scheme")
    last = ends.loc[list(names)].reset_index() if names else ends.reset_index()
    room = 0.85 * height  # the axis takes the rest
    wanted = [room * (1 - (_bent(float(bias)) - low) / (high - low)) for bias in last["bias"]]
    places = spread(wanted, LINE_GAP * theme.zoom, room)
    table = pd.DataFrame(
        {
            "label": last["label"],
            "scheme": list(names),
            "chosen": last["chosen"].astype(bool),
            "bias": [_straight(low + (high - low) * (1 - place / room)) for place in places],
        }
    )
    base = alt.Chart(table)
    return [
        base.transform_filter(f"datum.chosen == {int(chosen)}")
        .mark_text(
            align=alt.ExprRef(f"{NARROW} ? 'right' : 'left'"),
            baseline="middle",
            dx=alt.ExprRef(f"{NARROW} ? -6 : 8"),
            fontSize=SIZES["tick"] * theme.zoom,
            fontWeight="bold" if chosen else "normal",
            opacity=1 if chosen else alt.ExprRef(f"{NARROW} ? 0 : 1"),
        )
        .encode(x=fixed(alt.XValue, "width"), y=y, text=alt.Text("label:N"), color=colour)
        for chosen in (False, True)
    ]


def within_chart(within: pd.DataFrame, theme: Theme) -> alt.LayerChart:
    """The share of the weight within each distance, by content alone (dashed) and under each scheme."""
    furthest = int(within["distance"].max())
    drawn = np.unique(np.geomspace(1, max(1, furthest), 160).round().astype(np.int64))
    shown = within[within["distance"].isin(drawn)].assign(alone=lambda t: t["variant"] == "")
    colours = scheme_colours(within[within["variant"] != ""], theme) | {"content alone": theme.text}
    return curves_chart(
        shown,
        theme,
        x=CurveAxis(column="distance", title="distance from the query (tokens, logarithmic)", log=True),
        y=CurveAxis(column="share", title="weight within this distance (share)", domain=(0.0, 1.02), format="~%"),
        series=CurveSeries(column="scheme", dashed="alone", colours=colours, points=False),
        height=360,
    )


def shift_chart(shifts: pd.DataFrame, theme: Theme) -> alt.LayerChart:
    """The share of the weight that goes elsewhere when all positions are moved by the same number."""
    return curves_chart(
        shifts[shifts["shift"] > 0],
        theme,
        x=CurveAxis(column="shift", title="shift of the whole text (tokens, logarithmic)", log=True),
        y=CurveAxis(
            column="moved",
            title="weight that went elsewhere (share)",
            domain=(-0.02, max(0.1, 1.05 * float(shifts["moved"].max()))),
            format="~%",
        ),
        series=CurveSeries(column="scheme", colours=scheme_colours(shifts, theme)),
        height=360,
    )


def clocks_chart(hands: pd.DataFrame, theme: Theme, *, columns: int = 8, height: int = 460) -> Layers:
    """A clock a pair of channels: the query's hand, the key's, and what the pair adds to their score below it."""
    count = len(hands)
    columns = min(columns, count)
    rows = -(-count // columns)
    table = hands.assign(
        column=hands["pair"] % columns,
        row=hands["pair"] // columns,
        added=[f"{value:+.2f}" for value in hands["adds"]],
        wave=[_tokens(value) for value in hands["wavelength"]],
    )
    reach = max(float(table["adds"].abs().max()), 1e-9)
    area = f"pow(max(10, min(width / {columns * 1.5:g}, {height / rows * 0.62:g}) * 0.92), 2)"
    x = alt.X("column:Q", scale=alt.Scale(domain=[-0.55, columns - 0.45], nice=False), axis=None)
    y = alt.Y("row:Q", scale=alt.Scale(domain=[-0.45, rows - 0.4], reverse=True, nice=False), axis=None)
    tooltip = [
        alt.Tooltip("pair:Q", title="pair"),
        alt.Tooltip("wave:N", title="a full turn takes, tokens"),
        alt.Tooltip("query:Q", title="query's hand, degrees", format=".1f"),
        alt.Tooltip("key:Q", title="key's hand, degrees", format=".1f"),
        alt.Tooltip("apart:Q", title="apart, turns", format=".4~g"),
        alt.Tooltip("adds:Q", title="adds to the score", format="+.3f"),
    ]
    tint = alt.Color(
        "adds:Q", scale=alt.Scale(domain=[-reach, 0, reach], range=[theme.lost, theme.surface, theme.added], interpolate="rgb")
    )
    base = alt.Chart(table)
    size = alt.ExprRef(area)
    tick = SIZES["tick"] * theme.zoom

    def hand(angle: str, colour: str, width: float) -> alt.Chart:
        needle = base.mark_point(shape="M0,0L0,-0.92", size=size, stroke=colour, strokeWidth=width, filled=False, opacity=1)
        drawn: alt.Chart = needle.encode(x=x, y=y, angle=alt.Angle(f"{angle}:Q", scale=None), tooltip=tooltip)
        return drawn

    layers = [
        base.mark_point(
            shape="circle", size=size, filled=True, opacity=1, fillOpacity=0.6, stroke=theme.border, strokeWidth=1
        ).encode(x=x, y=y, fill=tint, tooltip=tooltip),
        hand("key", theme.style("window").colour, 3),
        hand("query", theme.text, 1.8),
        base.mark_text(
            dy=alt.ExprRef(f"sqrt({area}) / 2 + 10"), fontSize=tick, color=theme.muted, opacity=alt.ExprRef(WIDE)
        ).encode(x=x, y=y, text=alt.Text("added:N")),
    ]
    chart: Layers = layered(*layers, height=height, width="container", resolve={"scale": {"fill": "independent"}})
    return chart


def _tokens(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def beyond_chart(scores: pd.DataFrame, theme: Theme, *, trained: int) -> alt.LayerChart:
    """The mean query's score with the mean key over a text longer than any in training."""
    return curves_chart(
        scores,
        theme,
        x=CurveAxis(column="distance", title="distance (tokens, logarithmic)", log=True),
        y=CurveAxis(column="score", title="score of the mean query with the mean key"),
        series=CurveSeries(column="scaling", colours=scaling_colours(theme), points=False),
        marked=[(trained, f"trained length {trained:,}")],
        height=360,
    )


def unseen_chart(unseen: pd.DataFrame, theme: Theme) -> alt.LayerChart:
    """How far past the largest angle of training the worst hand goes as the text grows."""
    return curves_chart(
        unseen,
        theme,
        x=CurveAxis(column="length", title="tokens of the text (logarithmic)", log=True),
        y=CurveAxis(column="worst", title="worst hand: angle, of the largest seen (logarithmic)", log=True),
        series=CurveSeries(column="scaling", colours=scaling_colours(theme)),
        rules=[(1.0, "the edge of what training saw")],
    )


def lag_chart(lag: pd.DataFrame, theme: Theme, *, distance: int) -> alt.LayerChart:
    """The score at one distance as the text grows."""
    return curves_chart(
        lag,
        theme,
        x=CurveAxis(column="length", title="tokens of the text (logarithmic)", log=True),
        y=CurveAxis(column="score", title=f"score at distance {distance:,}"),
        series=CurveSeries(column="scaling", colours=scaling_colours(theme)),
    )


def turns_chart(pairs: pd.DataFrame, theme: Theme) -> alt.LayerChart:
    """The angle of each pair's hand at the end of the text, in turns, beside the largest of training."""
    seen = pairs[pairs["scaling"] == pairs["scaling"].iloc[0]].assign(scaling="seen in training")
    seen = seen.assign(turns=seen["trained"])
    shown = pd.concat([pairs.assign(formula=False), seen.assign(formula=True)], ignore_index=True)
    return curves_chart(
        shown,
        theme,
        x=CurveAxis(column="pair", title="pair of channels (the fastest first)"),
        y=CurveAxis(column="turns", title="angle at the last token (turns, logarithmic)", log=True),
        series=CurveSeries(
            column="scaling", dashed="formula", colours={**scaling_colours(theme), "seen in training": theme.muted}, points=False
        ),
        rules=[(1.0, "one full turn: above it, every angle was seen")],
        height=360,
    )


def waves_chart(pairs: pd.DataFrame, theme: Theme, *, tokens: int) -> alt.LayerChart:
    """The tokens that a full turn takes, for each pair and way of scaling."""
    return curves_chart(
        pairs,
        theme,
        x=CurveAxis(column="pair", title="pair of channels (the fastest first)"),
        y=CurveAxis(column="wavelength", title="tokens a full turn takes (logarithmic)", log=True),
        series=CurveSeries(column="scaling", colours=scaling_colours(theme), points=False),
        rules=[(float(tokens), f"the text at hand: {tokens:,} tokens")],
    )


def scaling_colours(theme: Theme) -> dict[str, str]:
    """The colours of the four ways past the trained length."""
    hues = {"RoPE as it is": "low_rank", "interpolated": "segmented", "NTK": "routed", "YaRN": "memory"}
    return {name: theme.style(key).colour for name, key in hues.items()}


def staircase_chart(buckets: pd.DataFrame, theme: Theme, *, reach: int) -> Layers:
    """T5's bucket of each distance: one step a distance, then ever longer steps, then one for all."""
    ahead = bool((buckets["distance"] < 0).any())
    title = "distance (tokens; below 0: the key is ahead)" if ahead else "distance (tokens)"
    x = alt.X("distance:Q", title=title, scale=alt.Scale(nice=False))
    y = alt.Y("bucket:Q", title="bucket (number)", axis=alt.Axis(tickMinStep=1))
    base = alt.Chart(buckets)
    tooltip = [alt.Tooltip("distance:Q", title="distance, tokens"), alt.Tooltip("bucket:Q", title="bucket")]
    line = base.mark_line(interpolate="step-after", color=theme.style("probsparse").colour).encode(x=x, y=y)
    hits = base.mark_point(size=140, opacity=0.001).encode(x=x, y=y, tooltip=tooltip)
    edge = alt.Chart(pd.DataFrame({"distance": [reach], "text": [f"one bucket from {reach:,} on"]}))
    rule = edge.mark_rule(color=theme.mark).encode(x=x)
    words = edge.mark_text(align="right", dx=-6, color=theme.mark, fontSize=SIZES["tick"] * theme.zoom).encode(
        x=x, y=fixed(alt.YValue, 14), text=alt.Text("text:N")
    )
    return layered(line, hits, rule, words, height=300, width="container")


def slopes_chart(slopes: pd.DataFrame, theme: Theme) -> Layers:
    """What each head loses a token of distance under ALiBi; the head at hand is marked."""
    x = alt.X("head:O", title="head (number in its layer)", axis=alt.Axis(labelAngle=0))
    y = alt.Y("slope:Q", title="score lost a token (logarithmic)", scale=alt.Scale(type="log", nice=False, padding=12))
    tooltip = [
        alt.Tooltip("head:O", title="head"),
        alt.Tooltip("slope:Q", title="lost a token", format=".3~g"),
        alt.Tooltip("unit:Q", title="one unit lost after, tokens", format=".3~g"),
    ]
    base = alt.Chart(slopes)
    ink = alt.condition("datum.own", alt.value(theme.mark), alt.value(theme.style("relative").colour))
    dots = base.mark_point(filled=True, size=130, opacity=1).encode(x=x, y=y, color=ink, tooltip=tooltip)
    words = base.mark_text(dy=-14, fontSize=SIZES["tick"] * theme.zoom).encode(
        x=x, y=y, text=alt.Text("slope:Q", format=".2~g"), color=ink
    )
    return layered(dots, words, height=300, width="container")


def skew_chart(cells: pd.DataFrame, theme: Theme, *, stage: str, height: int = 280) -> Layers:
    """One frame of the skew: every number with its distance below it; those that stay are tinted by their distance."""
    shown = cells[cells["stage"] == stage]
    shown = shown.assign(
        number=[("" if d == -99 else f"{v:+.2f}") for v, d in zip(shown["value"], shown["distance"], strict=True)],
        under=[("empty" if d == -99 else f"distance {d}") for d in shown["distance"]],
        place=[d if kept and d != -99 else np.nan for d, kept in zip(shown["distance"], shown["kept"], strict=True)],
    )
    rows, columns = int(shown["row"].max()) + 1, int(shown["column"].max()) + 1
    reach = max(1, int(cells.loc[cells["distance"] != -99, "distance"].abs().max()))
    x = alt.X("column:O", title=_column_title(stage), axis=alt.Axis(labelAngle=0), sort=list(range(columns)))
    y = alt.Y("row:O", title="row (query)", sort=list(range(rows)))
    tick = SIZES["tick"] * theme.zoom
    tint = alt.Color(
        "place:Q",
        scale=alt.Scale(domain=[-reach, 0, reach], range=[theme.lost, theme.background, theme.added], interpolate="rgb"),
    )
    base = alt.Chart(shown)
    opacity = alt.condition("isValid(datum.place)", alt.value(0.55), alt.value(0.0))
    faint = alt.condition("isValid(datum.place)", alt.value(1.0), alt.value(0.55))
    tooltip = [
        alt.Tooltip("number:N", title="score added"),
        alt.Tooltip("under:N", title="it belongs to"),
        alt.Tooltip("line:Q", title="place in the line of all numbers"),
    ]
    layers = [
        base.mark_rect(stroke=theme.border, fillOpacity=0).encode(x=x, y=y, tooltip=tooltip),
        base.mark_rect().encode(x=x, y=y, color=tint, opacity=opacity, tooltip=tooltip),
        base.mark_text(dy=-7, fontSize=tick + 1, color=theme.text).encode(x=x, y=y, text=alt.Text("number:N"), opacity=faint),
        base.mark_text(dy=9, fontSize=tick, color=theme.muted, opacity=alt.ExprRef(WIDE)).encode(
            x=x, y=y, text=alt.Text("under:N")
        ),
    ]
    return layered(*layers, height=height, width="container")


def _column_title(stage: str) -> str:
    return {
        "by_distance": "column (a distance)",
        "pad": "column (a distance, then an empty one)",
        "reshape": "column",
        "slice": "column (key)",
    }[stage]
