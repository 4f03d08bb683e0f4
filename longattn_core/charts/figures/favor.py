"""Random features drawn: what they estimate against what is exact, pair by pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.colour import hexadecimal
from longattn_core.charts.style.theme import HERO_HEIGHT, SIZES, Theme
from longattn_core.studies.base.study import Result

COLUMNS, ROWS = 42, 24
"""Tiles of the cloud of pairs: its payload does not grow with the number of pairs."""
DECADES = 12.0
"""Exact values further below the largest than this are drawn at the edge."""
BEYOND = {"weights": 2.0, "kernel": 18.0}
"""By how many decades estimates may lie outside of the exact values' range and still be drawn in place."""
ROOM = "width < 480 ? 0 : 1"
"""On a phone the words inside the picture would cover it."""
LANE = 0.055
"""The share of the height that pairs with an estimate below zero have at the foot of the picture."""

What = Literal["weights", "kernel"]
Drawn: TypeAlias = alt.LayerChart | alt.FacetChart


@dataclass(frozen=True, kw_only=True, eq=False)
class Cloud:
    """What the picture of the pairs is made of.

    `tiles`: `left right low high count` and `below` (the estimate is negative: the lane at the foot); `strongest`: single
    pairs with their tokens; `control`: 5 %, 50 % and 95 % of what an equal share would be; `x` and `y`: the two domains;
    `negative`: the share of pairs below zero.
    """

    tiles: pd.DataFrame
    strongest: pd.DataFrame
    control: tuple[float, float, float]
    x: tuple[float, float]
    y: tuple[float, float]
    negative: float


def cloud(result: Result, what: What) -> Cloud:
    """Count the pairs of a `Pairs` result into tiles of both logarithms; outside of the domains they stand at the edge."""
    arrays = result.arrays
    exact_name, name, sign_name = _names(what)
    # In double precision: a clipped value must not fall out of its own domain by rounding.
    exact, estimate = (arrays[each].astype(np.float64) / math.log(10) for each in (exact_name, name))
    negative = arrays[sign_name] < 0
    # An equal share of the row's sum: for weights 1/visible; for kernel values the mean of the row's.
    control = -np.log10(arrays["visible"].astype(np.float64))
    if what == "kernel":
        control = control + (arrays["log_kernel"] - arrays["log_exact"]) / math.log(10)
    x, y = _domains(exact, estimate[~negative], control, BEYOND[what])
    lane = (y[1] - y[0]) * LANE / (1 - LANE) if negative.any() else 0.0
    across = np.linspace(*x, COLUMNS + 1)
    down = np.linspace(*y, ROWS + 1)
    at = np.clip(exact, x[0], x[1] - 1e-9)
    up = np.clip(np.nan_to_num(estimate, neginf=y[0]), y[0], y[1] - 1e-9)
    counts, _a, _b = np.histogram2d(at[~negative], up[~negative], bins=(across, down))
    column, row = counts.nonzero()
    tiles = pd.DataFrame(
        {
            "left": across[column],
            "right": across[column + 1],
            "low": down[row],
            "high": down[row + 1],
            "count": counts[column, row].astype(int),
            "below": False,
        }
    )
    if negative.any():
        wrong, _c = np.histogram(at[negative], bins=across)
        some = wrong.nonzero()[0]
        foot = pd.DataFrame(
            {
                "left": across[some],
                "right": across[some + 1],
                "low": y[0] - lane,
                "high": y[0] - lane * 0.15,
                "count": wrong[some].astype(int),
                "below": True,
            }
        )
        tiles = pd.concat([tiles, foot], ignore_index=True)
    for edge in ("left", "right", "low", "high"):
        tiles[edge] = 10.0 ** tiles[edge]
    strongest = _single(result, what, x, y)
    low, middle, high = (float(end) for end in 10.0 ** np.quantile(control, (0.05, 0.5, 0.95)))
    return Cloud(
        tiles=tiles,
        strongest=strongest,
        control=(low, middle, high),
        x=(10.0 ** x[0], 10.0 ** x[1]),
        y=(10.0 ** (y[0] - lane), 10.0 ** y[1]),
        negative=float(negative.mean()),
    )


def pairs_chart(result: Result, theme: Theme, *, what: What = "weights", height: int = HERO_HEIGHT) -> Drawn:
    """Exact against estimated, both logarithmic: the cloud of all pairs, the strongest as marks, diagonal and control.

    `result` is of the `Pairs` study. On the diagonal an estimate is right; the dashed line is what the mean of the visible
    values gives every key.
    """
    made = cloud(result, what)
    tiles = made.tiles
    words = ("weight", "share of the query's attention") if what == "weights" else ("kernel", "e^(q·k/√d)")
    x_title = f"exact {words[0]} ({words[1]}, logarithmic)"
    y_title = f"{words[0]} by random features (logarithmic)"
    x_scale = alt.Scale(type="log", domain=list(made.x), nice=False, clamp=True)
    y_scale = alt.Scale(type="log", domain=list(made.y), nice=False, clamp=True)
    x = alt.X("left:Q", title=x_title, scale=x_scale, axis=_axis(made.x, 11))
    y = alt.Y("low:Q", title=y_title, scale=y_scale, axis=_axis(made.y, 7))
    ramp = [hexadecimal(colour) for colour in theme.weights[70:240:10]]
    tooltip = [
        alt.Tooltip("count:Q", title="pairs", format=","),
        alt.Tooltip("left:Q", title=f"exact {words[0]}, from", format=".2~e"),
        alt.Tooltip("low:Q", title="estimate, from", format=".2~e"),
    ]
    shade = alt.Color("count:Q", scale=alt.Scale(type="log", range=ramp), legend=None)
    base = alt.Chart(tiles[~tiles["below"]])
    layers: list[Any] = [
        _control_band(made, theme, y_scale),
        base.mark_rect().encode(x=x, x2=alt.X2("right:Q"), y=y, y2=alt.Y2("high:Q"), color=shade, tooltip=tooltip),
    ]
    if tiles["below"].any():
        layers += _below(tiles[tiles["below"]], theme, x, y, tooltip, made.negative)
    layers += [
        *_control_line(made, theme, y_scale),
        *_diagonal(made, theme, x_scale, y_scale),
        *_marks(made.strongest, theme, x_scale, y_scale),
    ]
    # Tiles and marks have colours of their own. Said at once, because every later word copies the whole chart.
    apart = {"scale": {"color": "independent", "shape": "independent"}}
    return layered(*layers, resolve=apart, height=height, width="container")


def note(**values: float | str) -> alt.Chart:
    """A chart of a single row, for a line or a label. Cheaper than a table: it is drawn with every move of a dial."""
    return alt.Chart(alt.InlineData(values=[values]))


def _names(what: What) -> tuple[str, str, str]:
    if what == "weights":
        return "log_exact", "log_estimate", "sign"
    return "log_kernel", "log_estimated_kernel", "kernel_sign"


def _domains(
    exact: np.ndarray, estimate: np.ndarray, control: np.ndarray, beyond: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of both axes, in decades: of the exact values, and of estimates that are not absurdly far from them."""
    top = max(float(exact.max()), float(control.max()))
    bottom = max(min(float(np.quantile(exact, 0.001)), float(control.min())), top - DECADES)
    margin = max(0.04 * (top - bottom), 0.1)
    x = (bottom - margin, top + margin)
    found = estimate[np.isfinite(estimate)]
    if len(found) == 0:
        return x, x
    low, high = np.quantile(found, (0.001, 0.999))
    # At quarters of a decade, so that the axis stands still while the estimates move a little.
    return x, (
        min(x[0], max(math.floor(4 * (float(low) - margin)) / 4, x[0] - beyond)),
        max(x[1], min(math.ceil(4 * (float(high) + margin)) / 4, x[1] + beyond)),
    )


def _single(result: Result, what: What, x: tuple[float, float], y: tuple[float, float]) -> pd.DataFrame:
    exact_name, name, sign_name = _names(what)
    table = result.tables["strongest"]
    shown = pd.DataFrame(
        {
            "exact": 10.0 ** np.clip(table[exact_name] / math.log(10), *x),
            "estimate": 10.0 ** np.clip(np.nan_to_num(table[name] / math.log(10), neginf=y[0]), *y),
            "pair": table["query token"].str.strip() + " → " + table["key token"].str.strip(),
            "places": table["query"].astype(str) + " → " + table["key"].astype(str),
            "sink": table["sink"],
            "norm": table["sum_norm"],
        }
    )
    return shown[table[sign_name].to_numpy() >= 0].reset_index(drop=True)


def _axis(domain: tuple[float, float], most: int) -> alt.Axis:
    """Ticks at whole decades, at 1, 2 and 5 where there are few, at every second or third where there are many."""
    low, high = (math.log10(end) for end in domain)
    decades = range(math.floor(low), math.ceil(high) + 1)
    digits = (1, 2, 5) if high - low < 0.5 * most else (1,)
    step = max(1, math.ceil((high - low) / most))
    values = [digit * 10.0**decade for decade in decades if decade % step == 0 for digit in digits]
    label = "datum.value >= 0.001 && datum.value < 10000 ? format(datum.value, '~g') : format(datum.value, '.0e')"
    inside = [value for value in values if domain[0] <= value <= domain[1]]
    return alt.Axis(values=inside, labelExpr=label, grid=False, labelOverlap=True)


def _control_band(made: Cloud, theme: Theme, scale: alt.Scale) -> alt.Chart:
    low, _middle, high = made.control
    drawn: alt.Chart = (
        note(low=low, high=high)
        .mark_rect(color=theme.muted, opacity=0.15)
        .encode(y=alt.Y("low:Q", scale=scale), y2=alt.Y2("high:Q"), x=fixed(alt.XValue, 0), x2=fixed(alt.X2Value, "width"))
    )
    return drawn


def _control_line(made: Cloud, theme: Theme, scale: alt.Scale) -> list[alt.Chart]:
    """The dashed line and its words, over the tiles, with a rim in the page's colour so that they can be read there."""
    chart = alt.Chart(pd.DataFrame({"middle": [made.control[1]], "text": ["mean of the visible values: every key alike"]}))
    at = alt.Y("middle:Q", scale=scale)
    words: dict[str, Any] = {"align": "left", "dx": 6, "dy": -9, "fontSize": SIZES["tick"] * theme.zoom}
    where: dict[str, Any] = {"y": at, "x": fixed(alt.XValue, 0), "text": alt.Text("text:N")}
    rim = chart.mark_text(stroke=theme.background, strokeWidth=4, opacity=alt.ExprRef(ROOM), **words)
    return [
        chart.mark_rule(color=theme.background, strokeWidth=3, opacity=0.7).encode(y=at),
        chart.mark_rule(strokeDash=[6, 4], color=theme.mark, strokeWidth=1.5).encode(y=at),
        rim.encode(**where),
        chart.mark_text(color=theme.mark, opacity=alt.ExprRef(ROOM), **words).encode(**where),
    ]


def _diagonal(made: Cloud, theme: Theme, x_scale: alt.Scale, y_scale: alt.Scale) -> list[alt.Chart]:
    low, high = max(made.x[0], made.y[0]), min(made.x[1], made.y[1])
    line = alt.Chart(alt.InlineData(values=[{"at": low}, {"at": high}]))
    size = SIZES["tick"] * theme.zoom
    corner = note(over="estimate too large", under="estimate too small")
    said: dict[str, Any] = {"color": theme.muted, "fontSize": size, "opacity": alt.ExprRef(ROOM)}
    label = note(at=low, text="estimate = exact")
    words: dict[str, Any] = {"align": "left", "dx": 56, "dy": -6, "baseline": "bottom", "fontSize": size}
    words["opacity"] = alt.ExprRef(ROOM)
    x, y = (alt.X("at:Q", scale=x_scale), alt.Y("at:Q", scale=y_scale))
    where: dict[str, Any] = {"x": x, "y": y, "text": alt.Text("text:N")}
    return [
        line.mark_line(color=theme.text, strokeWidth=1.5).encode(x=x, y=y),
        label.mark_text(stroke=theme.background, strokeWidth=4, **words).encode(**where),
        label.mark_text(color=theme.text, **words).encode(**where),
        corner.mark_text(align="left", dx=8, dy=10, **said).encode(
            x=fixed(alt.XValue, 0), y=fixed(alt.YValue, 0), text=alt.Text("over:N")
        ),
        corner.mark_text(align="right", dx=-8, dy=-10, **said).encode(
            x=fixed(alt.XValue, "width"), y=fixed(alt.YValue, "height"), text=alt.Text("under:N")
        ),
    ]


def _marks(strongest: pd.DataFrame, theme: Theme, x_scale: alt.Scale, y_scale: alt.Scale) -> list[alt.Chart]:
    """The strongest pairs one by one: sinks as filled diamonds, others as the mechanism's open triangle."""
    style = theme.style("favor")
    tooltip = [
        alt.Tooltip("pair:N", title="query → key"),
        alt.Tooltip("places:N", title="positions"),
        alt.Tooltip("exact:Q", title="exact", format=".3~g"),
        alt.Tooltip("estimate:Q", title="estimate", format=".3~g"),
        alt.Tooltip("norm:Q", title="‖q+k‖²/√d", format=".3~g"),
    ]
    x = alt.X("exact:Q", scale=x_scale)
    y = alt.Y("estimate:Q", scale=y_scale)
    others, sinks = strongest[~strongest["sink"].astype(bool)], strongest[strongest["sink"].astype(bool)]
    layers = [
        alt.Chart(others)
        .mark_point(shape=style.symbol.vega, filled=False, color=style.colour, size=46, strokeWidth=1.5, opacity=0.9)
        .encode(x=x, y=y, tooltip=tooltip)
    ]
    if len(sinks):
        layers.append(
            alt.Chart(sinks)
            .mark_point(shape="diamond", filled=True, color=theme.added, size=46, opacity=0.9)
            .encode(x=x, y=y, tooltip=tooltip)
        )
    return layers


def _below(tiles: pd.DataFrame, theme: Theme, x: alt.X, y: alt.Y, tooltip: list[alt.Tooltip], share: float) -> list[alt.Chart]:
    depth = alt.Opacity("count:Q", scale=alt.Scale(type="log", range=[0.35, 1]), legend=None)
    label = note(text=f"below zero: {share:.0%} of the pairs")
    return [
        alt.Chart(tiles)
        .mark_rect(color=theme.lost)
        .encode(x=x, x2=alt.X2("right:Q"), y=y, y2=alt.Y2("high:Q"), opacity=depth, tooltip=tooltip[:2]),
        label.mark_text(align="left", dx=6, dy=-28, color=theme.lost, fontSize=SIZES["tick"] * theme.zoom).encode(
            x=fixed(alt.XValue, 0), y=fixed(alt.YValue, "height"), text=alt.Text("text:N")
        ),
    ]
