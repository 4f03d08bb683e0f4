"""What random features do to a whole head: the sums that are divided by, and which heads of the model they suit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.figures.favor import ROOM, Drawn, name_above, note
from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.labels import CHARACTER, place_labels
from longattn_core.charts.style.theme import CURVE_HEIGHT, SIZES, Theme

ABOVE = {"left": 4, "right": 12, "bottom": 4, "top": 26}
"""Padding: room for the kinds' names above the picture."""
WIDEST = 1e3
"""Ratios and weights beyond this are drawn on it."""
HUES = {"positive": "favor", "hyperbolic": "low_rank", "trigonometric": "lsh"}
"""Whose colours the three kinds of feature take."""


def kind_colours(theme: Theme) -> dict[str, str]:
    """The colour of each kind of feature, the same in all charts of the page."""
    return {name: theme.style(key).colour for name, key in HUES.items()} | {
        "Gaussian kernel": theme.style("memory").colour,
        "ReLU": theme.style("window").colour,
    }


_ENDS = (
    f"datum.value >= {WIDEST} ? '≥ 1,000' : datum.value <= -{WIDEST} ? '≤ −1,000' : replace(format(datum.value, '~g'), '-', '−')"
)


def denominators_chart(sums: pd.DataFrame, theme: Theme, *, height: int = CURVE_HEIGHT) -> Drawn:
    """A mark a query and kind of feature: its estimated sum of weights over the exact one, and its largest weight.

    `sums` is the table of the `Denominators` study. Near 0 the division explodes, unless no weight can be negative.
    """
    table = sums.assign(across=sums["ratio"].clip(-WIDEST, WIDEST), up=sums["largest"].clip(1e-4, WIDEST))
    kinds = list(dict.fromkeys(table["features"]))
    inks = kind_colours(theme)
    colour, shape = _by_kind("features", kinds, inks, {kind: theme.style(HUES[kind]).symbol.vega for kind in kinds})
    scale = alt.Scale(type="symlog", constant=0.1, domain=_symmetric(table["across"]), nice=False)
    ticks = [-1000, -100, -10, -1, -0.1, 0, 0.1, 1, 10, 100, 1000]
    x = alt.X(
        "across:Q",
        title="estimated sum of weights, of the exact sum (symmetric logarithm)",
        scale=scale,
        axis=alt.Axis(values=ticks, labelExpr=_ENDS, labelOverlap=True),
    )
    y = alt.Y(
        "up:Q",
        title="largest |weight| (logarithmic)",
        scale=alt.Scale(type="log", nice=False, domain=_reach(table["up"])),
        axis=alt.Axis(format="~g", tickCount=5),
    )
    tooltip = [
        alt.Tooltip("features:N", title="features"),
        alt.Tooltip("query:Q", title="query"),
        alt.Tooltip("ratio:Q", title="sum, of the exact", format=".3~g"),
        alt.Tooltip("largest:Q", title="largest |weight|", format=".3~g"),
    ]
    zero = note(at=0.0, text="0: nothing to divide by")
    exact = note(at=1.0, text="exact")
    most = note(top=1.0, text="1: no share can be more")
    size = SIZES["tick"] * theme.zoom
    label: dict[str, Any] = {"align": "left", "dx": 4, "dy": 8, "fontSize": size}
    at = alt.X("at:Q", scale=scale)
    at_top: dict[str, Any] = {"x": at, "y": fixed(alt.YValue, 0), "text": alt.Text("text:N")}
    return layered(
        zero.mark_rule(color=theme.mark, strokeWidth=1.5).encode(x=at),
        zero.mark_text(color=theme.mark, opacity=alt.ExprRef(ROOM), **label).encode(**at_top),
        exact.mark_rule(color=theme.text, strokeDash=[2, 3]).encode(x=at),
        exact.mark_text(color=theme.text, **label).encode(**at_top),
        most.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(y=alt.Y("top:Q")),
        most.mark_text(align="left", dx=4, dy=-7, color=theme.muted, fontSize=size, opacity=alt.ExprRef(ROOM)).encode(
            y=alt.Y("top:Q"), x=fixed(alt.XValue, 0), text=alt.Text("text:N")
        ),
        alt.Chart(table)
        .mark_point(size=34, filled=True, opacity=0.5)
        .encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip),
        *_names_above(inks, kinds, theme),
        height=height,
        width="container",
        padding=ABOVE,
    )


def _by_kind(
    column: str, kinds: Sequence[str], inks: Mapping[str, str], symbols: Mapping[str, str]
) -> tuple[alt.Color, alt.Shape]:
    """The colour and the symbol of each kind; the names above the picture are the legend."""
    colour = alt.Scale(domain=list(kinds), range=[inks[kind] for kind in kinds])
    symbol = alt.Scale(domain=list(kinds), range=[symbols[kind] for kind in kinds])
    return alt.Color(f"{column}:N", scale=colour, legend=None), alt.Shape(f"{column}:N", scale=symbol, legend=None)


def _reach(values: pd.Series) -> list[float]:
    """A logarithmic domain that holds the values, and 1 with room above it."""
    return [min(0.5, float(values.min()) / 1.3), max(3.0, float(values.max()) * 1.3)]


def _names_above(inks: Mapping[str, str], kinds: Sequence[str], theme: Theme) -> list[alt.Chart]:
    """Each kind by its name in its colour, one after the other above the picture."""
    left, layers = 0.0, []
    for kind in kinds:
        layers.append(name_above(f"● {kind}", inks[kind], left, 12, theme))
        left += ((len(kind) + 2) * CHARACTER + 14) * theme.zoom
    return layers


def _symmetric(values: pd.Series) -> list[float]:
    """A domain that holds 0, 1 and the values."""
    return [min(-0.2, float(values.min()) * 2), max(2.0, float(values.max()) * 2)]


# ----------------------------------------------------------------------------------------------------------- heads


def heads_chart(points: pd.DataFrame, theme: Theme, *, marked: str = "", height: int = CURVE_HEIGHT) -> Drawn:
    """A mark a head of the model: error less control against the median norm of its pairs; below 0 beats the mean.

    `points` is the table of the `HeadsSuited` study; `marked` the name of the head at hand, such as "L2H0".
    """
    inks = {
        "closer than the mean": theme.style("memory").colour,
        "finds only sinks": theme.mark,
        "worse than the mean": theme.style("low_rank").colour,
    }
    shapes = {"closer than the mean": "circle", "finds only sinks": "diamond", "worse than the mean": "triangle-down"}
    kinds = [kind for kind in inks if kind in set(points["kind"])]
    colour, shape = _by_kind("kind", kinds, inks, shapes)
    x = alt.X(
        "norm:Q",
        title="median ‖q+k‖²/√d of the head's pairs (logarithmic)",
        scale=alt.Scale(type="log", nice=False, padding=16),
        axis=alt.Axis(format="~g", tickCount=6),
    )
    y = alt.Y("gain:Q", title="error − error of the mean (relative)", scale=alt.Scale(nice=True), axis=alt.Axis(format="+.1f"))
    tooltip = [
        alt.Tooltip("name:N", title="head"),
        alt.Tooltip("kind:N", title="random features"),
        alt.Tooltip("error:Q", title="error", format=".2f"),
        alt.Tooltip("control:Q", title="mean of visible values", format=".2f"),
        alt.Tooltip("error without sinks:Q", title="error without sinks", format=".2f"),
        alt.Tooltip("norm:Q", title="‖q+k‖²/√d", format=".1f"),
        alt.Tooltip("sinks:Q", title="sinks"),
    ]
    size = SIZES["tick"] * theme.zoom
    zero = note(at=0.0, text="as good as the mean of the visible values")
    named = _named(points, marked)
    return layered(
        zero.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(y=alt.Y("at:Q")),
        zero.mark_text(align="left", dy=-7, color=theme.muted, fontSize=size, opacity=alt.ExprRef(ROOM)).encode(
            y=alt.Y("at:Q"), x=fixed(alt.XValue, alt.expr("0.12 * width")), text=alt.Text("text:N")
        ),
        alt.Chart(points)
        .mark_point(size=60, filled=True, opacity=0.75)
        .encode(x=x, y=y, color=colour, shape=shape, tooltip=tooltip),
        *_head_labels(named, points, theme, height, x, y),
        *_names_above(inks, kinds, theme),
        height=height,
        width="container",
        padding=ABOVE,
    )


def _named(points: pd.DataFrame, marked: str) -> pd.DataFrame:
    """The heads that are named in the picture: the one at hand, the best, the worst, and the gentlest."""
    order = points.sort_values("gain")
    names = [marked, *order["name"].head(2), *order["name"].tail(2), *points.sort_values("norm")["name"].head(2)]
    return points[points["name"].isin(names)].reset_index(drop=True)


def _head_labels(named: pd.DataFrame, points: pd.DataFrame, theme: Theme, height: int, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    width = 1000.0

    def places(table: pd.DataFrame) -> np.ndarray:
        across, up = np.log(points["norm"]), points["gain"]
        spread = (float(across.max() - across.min()) or 1.0, float(up.max() - up.min()) or 1.0)
        return np.stack([(np.log(table["norm"]) - across.min()) / spread[0], 1 - (table["gain"] - up.min()) / spread[1]], axis=1)

    if named.empty:
        return []
    chosen = place_labels(
        [places(named.iloc[[row]]) for row in range(len(named))], named["name"].tolist(), (width, height), zoom=theme.zoom
    )
    return [
        alt.Chart(named.iloc[[row]])
        .mark_text(align=align, dx=dx, dy=dy, fontSize=SIZES["tick"] * theme.zoom, color=theme.text, opacity=alt.ExprRef(ROOM))
        .encode(x=x, y=y, text=alt.Text("name:N"))
        for row, (_index, dx, dy, align) in enumerate(chosen)
    ]
