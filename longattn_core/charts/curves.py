"""Curves with their intervals, labelled at their ends: error against features, recall against rounds, rank against n."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.style.altair import fixed, layered, without_units
from longattn_core.charts.style.theme import CURVE_HEIGHT, SIZES, Theme

LINE_GAP = 15.0
"""Pixels between two labels at the right end, at 12 px type."""
NARROW = "containerSize()[0] < 420"
"""On a phone the names stand inside, above the ends of their lines, so that the curves keep the width."""
MOST_TICKS = 10
"""Measured places of a logarithmic axis up to which each has a tick of its own."""
LONGEST_LABEL = 30
"""Characters of a label; a longer one is cut, its whole name stands in the tooltip."""
SPARE_HUES = ("window", "favor", "lsh", "memory", "low_rank", "probsparse", "segmented", "routed", "relative", "hierarchical")
"""Whose colours the curves take that stand for no mechanism, in this order: neighbours are far apart."""


def curves_chart(
    table: pd.DataFrame,
    theme: Theme,
    *,
    x: str,
    y: str,
    series: str,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    log_y: bool = False,
    x_ticks: Sequence[float] | None = None,
    y_domain: tuple[float, float] | None = None,
    y_format: str = ".6~g",
    band: tuple[str, str] | None = None,
    dashed: str | None = None,
    colours: Mapping[str, str] | None = None,
    keys: Mapping[str, str] | None = None,
    rules: Sequence[tuple[float, str]] = (),
    points: bool = True,
    labels: bool = True,
    height: int | None = None,
    marked: Sequence[tuple[float, str]] = (),
    crowded: bool = False,
) -> alt.LayerChart:
    """A line a series over `x`, with the interval `band` around it and its name at its right end.

    `keys` gives a series a mechanism's colour and symbol; `colours` a colour of its own; others take spare hues.
    `dashed` names a boolean column: where it is true the line is dashed (a formula outside of its range, a
    recorded value). `rules` are horizontal dashed lines with labels, the controls. `marked` are vertical ones, the
    setting at hand. Where names would cover so many curves on a phone (`crowded`), a touch names them there. Rows
    whose `y` is no number are left out; on a logarithmic axis those that are not positive too.
    """
    shown = _drawable(table, x, y, log_x=log_x, log_y=log_y)
    names = list(dict.fromkeys(shown[series].astype(str)))
    shown = shown.assign(**{series: shown[series].astype(str)})
    inks = _inks(names, theme, colours or {}, keys or {})
    size, tall = SIZES["tick"] * theme.zoom, height or CURVE_HEIGHT
    low_high = _domain(shown, y, band, rules, log_y) if y_domain is None else y_domain
    measured = sorted(set(shown[x].astype(float)))
    if x_ticks is None and log_x and len(measured) <= MOST_TICKS:
        x_ticks = measured
    across_scale = alt.Scale(type="log", nice=False, padding=8) if log_x else alt.Scale(nice=False, zero=False, padding=8)
    across = alt.X(
        field=x,
        type="quantitative",
        title=x_title,
        scale=across_scale,
        axis=alt.Axis(
            format=_numbers(shown[x]) if log_x else ".6~g", values=x_ticks or alt.Undefined, tickCount=7, labelOverlap=True
        ),
    )
    scale_y = alt.Scale(type="log" if log_y else "linear", domain=list(low_high), nice=False, clamp=True)
    down = alt.Y(
        field=y, type="quantitative", title=y_title, scale=scale_y, axis=alt.Axis(format=y_format, tickCount=6, labelOverlap=True)
    )
    colour = alt.Color(field=series, type="nominal", scale=alt.Scale(domain=names, range=[inks[name][0] for name in names]))
    base = alt.Chart(shown)
    tooltip = _tooltip(shown, x, y, series, band, x_title, y_title)
    layers: list[Any] = [*_rules(rules, theme, scale_y, size), *_marked(marked, theme, size)]
    if band is not None:
        layers.append(
            base.mark_area(opacity=0.18).encode(
                x=across, y=alt.Y(field=band[0], type="quantitative", scale=scale_y), y2=alt.Y2(field=band[1]), color=colour
            )
        )
    line = base.mark_line(strokeWidth=2).encode(
        x=across, y=down, color=colour, detail=alt.Detail(field=series, type="nominal"), tooltip=tooltip
    )
    if dashed is not None:
        line = base.mark_line(strokeWidth=2).encode(
            x=across,
            y=down,
            color=colour,
            tooltip=tooltip,
            strokeDash=alt.StrokeDash(
                field=dashed, type="nominal", scale=alt.Scale(domain=[False, True], range=[[1, 0], [5, 4]])
            ),
        )
    layers.append(line)
    if points and len(shown):
        layers.append(_points(base, across, down, colour, series, names, inks, tooltip))
    else:
        # A point that nobody sees makes the line easy to hit with a finger.
        layers.append(base.mark_point(size=160, opacity=0.001).encode(x=across, y=down, color=colour, tooltip=tooltip))
    if labels:
        layers.append(_end_labels(shown, x, y, series, names, colour, low_high, tall, log_y, theme, scale_y, crowded))
    # Said at once: resolve_scale and properties each copy the whole chart.
    chart = layered(
        *layers, resolve={"scale": {"shape": "independent"}}, height=tall, padding={"left": 4, "top": 8, "bottom": 4, "right": 8}
    )
    assert isinstance(chart, alt.LayerChart)
    return chart


def _numbers(values: pd.Series) -> str:
    """Numbers written out, 1,024 and 0.25; only from a million on with a letter, 2M."""
    return ".4~s" if len(values) and float(values.astype(float).max()) >= 1e6 else ",.6~g"


def _drawable(table: pd.DataFrame, x: str, y: str, *, log_x: bool, log_y: bool) -> pd.DataFrame:
    table = without_units(table)
    keep = np.isfinite(table[x].astype(float)) & np.isfinite(table[y].astype(float))
    if log_x:
        keep &= table[x].astype(float) > 0
    if log_y:
        keep &= table[y].astype(float) > 0
    return table[keep].reset_index(drop=True)


def _inks(names: Sequence[str], theme: Theme, colours: Mapping[str, str], keys: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The colour and the symbol of each series."""
    used = {keys[name] for name in names if name in keys}
    spare = [key for key in SPARE_HUES if key not in used] or list(SPARE_HUES)
    inks = {}
    for index, name in enumerate(names):
        style = theme.style(keys.get(name, spare[index % len(spare)]))
        inks[name] = (colours.get(name, style.colour), style.symbol.vega)
    return inks


def _domain(
    shown: pd.DataFrame, y: str, band: tuple[str, str] | None, rules: Sequence[tuple[float, str]], log: bool
) -> tuple[float, float]:
    columns = [y, *(band or ())]
    values = np.concatenate([*(shown[name].to_numpy(dtype=float) for name in columns), [value for value, _ in rules]])
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    if len(values) == 0:
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log:
        margin = max((high / low) ** 0.06, 1.1)
        return low / margin, high * margin
    margin = 0.05 * (high - low or abs(high) or 1.0)
    return (0.0 if 0 <= low < 0.4 * high else low - margin), high + margin


def _points(
    base: alt.Chart,
    across: alt.X,
    down: alt.Y,
    colour: alt.Color,
    series: str,
    names: Sequence[str],
    inks: Mapping[str, tuple[str, str]],
    tooltip: list[alt.Tooltip],
) -> alt.Chart:
    shape = alt.Shape(series, type="nominal", scale=alt.Scale(domain=list(names), range=[inks[name][1] for name in names]))
    drawn: alt.Chart = base.mark_point(size=46, filled=True).encode(x=across, y=down, color=colour, shape=shape, tooltip=tooltip)
    return drawn


def _tooltip(
    shown: pd.DataFrame, x: str, y: str, series: str, band: tuple[str, str] | None, x_title: str, y_title: str
) -> list[alt.Tooltip]:
    found = [
        alt.Tooltip(field=series, type="nominal", title="curve"),
        alt.Tooltip(field=x, type="quantitative", title=x_title, format=".4~g"),
        alt.Tooltip(field=y, type="quantitative", title=y_title, format=".3~g"),
    ]
    if band is not None:
        found += [
            alt.Tooltip(field=band[0], type="quantitative", title="95 % from", format=".3~g"),
            alt.Tooltip(field=band[1], type="quantitative", title="95 % to", format=".3~g"),
        ]
    if "count" in shown.columns:
        found.append(alt.Tooltip("count:Q", title="seeds"))
    return found


def _rules(rules: Sequence[tuple[float, str]], theme: Theme, scale: alt.Scale, size: float) -> list[alt.Chart]:
    if not rules:
        return []
    every = alt.Chart(pd.DataFrame(list(rules), columns=["value", "label"]))
    at = alt.Y("value:Q", scale=scale)
    text = every.mark_text(align="right", dx=-4, dy=-7, color=theme.muted, fontSize=size)
    return [
        every.mark_rule(strokeDash=[6, 4], color=theme.muted).encode(y=at),
        text.encode(y=at, text=alt.Text("label:N"), x=fixed(alt.XValue, "width")),
    ]


def _marked(marked: Sequence[tuple[float, str]], theme: Theme, size: float) -> list[alt.Chart]:
    if not marked:
        return []
    every, at = alt.Chart(pd.DataFrame(list(marked), columns=["at", "label"])), alt.X("at:Q")
    text = every.mark_text(align="left", dx=4, dy=8, color=theme.mark, fontSize=size)
    return [
        every.mark_rule(strokeWidth=1.5, color=theme.mark).encode(x=at),
        text.encode(x=at, y=fixed(alt.YValue, 0), text=alt.Text("label:N")),
    ]


def _end_labels(
    shown: pd.DataFrame,
    x: str,
    y: str,
    series: str,
    names: Sequence[str],
    colour: alt.Color,
    domain: tuple[float, float],
    height: int,
    log: bool,
    theme: Theme,
    scale: alt.Scale,
    crowded: bool,
) -> alt.Chart:
    """Each series' name at the height of its last point, pushed apart where two would cover one another."""
    label, at, value = shown[series].to_numpy(), shown[x].to_numpy(dtype=float), shown[y].to_numpy(dtype=float)
    ends = [float(value[label == name][at[label == name].argmax()]) for name in names]
    low, high = (math.log(end) if log else end for end in domain)
    span = (high - low) or 1.0
    shares = [((math.log(max(end, domain[0])) if log else end) - low) / span for end in ends]
    # The axis and its title take a part of the height; the places go back onto the scale, which fits whatever is left.
    room = 0.85 * height
    places = spread([room * (1 - min(max(share, 0.0), 1.0)) for share in shares], LINE_GAP * theme.zoom, room)
    values = [low + span * (1 - place / room) for place in places]
    size = SIZES["tick"] * theme.zoom
    heights = [math.exp(value) if log else value for value in values]
    # One layer for all names: each would cost as much as a curve.
    drawn: alt.Chart = (
        alt.Chart(pd.DataFrame({"its end": heights, "its label": [_cut(name) for name in names], series: list(names)}))
        .mark_text(
            align=alt.ExprRef(f"{NARROW} ? 'right' : 'left'"),
            baseline="middle",
            fontSize=size,
            dx=alt.ExprRef(f"{NARROW} ? -6 : 8"),
            dy=alt.ExprRef(f"{NARROW} ? -9 : 0"),
            opacity=alt.ExprRef(f"{NARROW} ? 0 : 1") if crowded else alt.Undefined,
        )
        .encode(
            x=fixed(alt.XValue, "width"),
            y=alt.Y("its end:Q", scale=scale),
            text=alt.Text("its label:N"),
            color=colour,
            tooltip=alt.Tooltip(field=series, type="nominal", title="curve"),
        )
    )
    return drawn


def spread(places: Sequence[float], gap: float, height: float) -> list[float]:
    """Places as near as they can be to those asked for, at least `gap` apart (closer only where `height` is too small)."""
    if not places:
        return []
    gap = min(gap, height / max(1, len(places)))
    order = np.argsort(places, kind="stable")
    wanted = np.array(places, dtype=float)[order] - gap * np.arange(len(places))
    # Least squares under "never falling" is the pooling of neighbours that would pass one another.
    groups: list[list[float]] = []
    for value in wanted:
        groups.append([value, 1.0])
        while len(groups) > 1 and groups[-2][0] >= groups[-1][0]:
            (a, m), (b, k) = groups[-2], groups[-1]
            groups[-2:] = [[(a * m + b * k) / (m + k), m + k]]
    fitted = np.concatenate([np.full(int(count), value) for value, count in groups]) + gap * np.arange(len(places))
    steps = gap * np.arange(len(places))
    fitted = np.clip(fitted, steps, height - steps[::-1])
    out = np.empty(len(places))
    out[order] = fitted
    return [float(value) for value in out]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"
