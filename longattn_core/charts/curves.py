"""Curves with their intervals, labelled at their ends: error against features, recall against rounds, rank against n."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, kw_only=True)
class CurveAxis:
    """One axis of the curves: the column of the table that it shows, the title, and the scale.

    `ticks`, `domain` and `format` (a d3 number format) are chosen from the values where they are None.
    """

    column: str
    title: str
    log: bool = False
    ticks: Sequence[float] | None = None
    domain: tuple[float, float] | None = None
    format: str | None = None


@dataclass(frozen=True, kw_only=True)
class CurveSeries:
    """Which column tells the curves apart, and how each curve is drawn.

    `band` names the two columns of an interval around a curve. `dashed` names a boolean column: where it is true the line is
    dashed (a formula outside of its range, a recorded value). `keys` gives a series a mechanism's colour and symbol; `colours`
    a colour of its own; others take spare hues. `labels` writes a series' name at its right end. Where names would cover too
    many curves on a phone (`crowded`), a touch names them there.
    """

    column: str
    band: tuple[str, str] | None = None
    dashed: str | None = None
    colours: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    points: bool = True
    labels: bool = True
    crowded: bool = False


def curves_chart(
    table: pd.DataFrame,
    theme: Theme,
    *,
    x: CurveAxis,
    y: CurveAxis,
    series: CurveSeries,
    rules: Sequence[tuple[float, str]] = (),
    marked: Sequence[tuple[float, str]] = (),
    height: int = CURVE_HEIGHT,
) -> alt.LayerChart:
    """One line a series of `y` over `x`.

    `rules` are horizontal dashed lines with labels, the controls. `marked` are vertical ones, the setting at hand. Rows whose
    `y` is no number are left out; on a logarithmic axis those that are not positive too.
    """
    shown = _drawable(table, x, y)
    shown = shown.assign(**{series.column: shown[series.column].astype(str)})
    inks = _inks(list(dict.fromkeys(shown[series.column])), series, theme)
    names, size = list(inks), SIZES["tick"] * theme.zoom
    domain = y.domain or _domain(shown, y, series.band, rules)
    across = _across(shown, x)
    scale_y = alt.Scale(type="log" if y.log else "linear", domain=list(domain), nice=False, clamp=True)
    down = alt.Y(
        field=y.column,
        type="quantitative",
        title=y.title,
        scale=scale_y,
        axis=alt.Axis(format=y.format or ".6~g", values=y.ticks or alt.Undefined, tickCount=6, labelOverlap=True),
    )
    colour = alt.Color(
        field=series.column, type="nominal", scale=alt.Scale(domain=names, range=[inks[name][0] for name in names])
    )
    base = alt.Chart(shown)
    tooltip = _tooltip(shown, x, y, series)
    layers: list[Any] = [*_rules(rules, theme, scale_y, size), *_marked(marked, theme, size)]
    if series.band is not None:
        low, high = series.band
        layers.append(
            base.mark_area(opacity=0.18).encode(
                x=across, y=alt.Y(field=low, type="quantitative", scale=scale_y), y2=alt.Y2(field=high), color=colour
            )
        )
    line = base.mark_line(strokeWidth=2).encode(
        x=across, y=down, color=colour, detail=alt.Detail(field=series.column, type="nominal"), tooltip=tooltip
    )
    if series.dashed is not None:
        line = base.mark_line(strokeWidth=2).encode(
            x=across,
            y=down,
            color=colour,
            tooltip=tooltip,
            strokeDash=alt.StrokeDash(
                field=series.dashed, type="nominal", scale=alt.Scale(domain=[False, True], range=[[1, 0], [5, 4]])
            ),
        )
    layers.append(line)
    if series.points and len(shown):
        symbols = alt.Scale(domain=names, range=[inks[name][1] for name in names])
        shape = alt.Shape(series.column, type="nominal", scale=symbols)
        mark = base.mark_point(size=46, filled=True)
        layers.append(mark.encode(x=across, y=down, color=colour, shape=shape, tooltip=tooltip))
    else:
        # A point that nobody sees makes the line easy to hit with a finger.
        layers.append(base.mark_point(size=160, opacity=0.001).encode(x=across, y=down, color=colour, tooltip=tooltip))
    if series.labels:
        places = _label_places(_ends(shown, x, y, series), domain, log=y.log, height=height, gap=LINE_GAP * theme.zoom)
        layers.append(_end_labels(places, series, y=scale_y, colour=colour, size=size))
    # Given at once: `resolve_scale` and `properties` would each copy the whole chart.
    chart = layered(
        *layers,
        resolve={"scale": {"shape": "independent"}},
        height=height,
        padding={"left": 4, "top": 8, "bottom": 4, "right": 8},
    )
    assert isinstance(chart, alt.LayerChart)
    return chart


def _numbers(values: pd.Series) -> str:
    """Numbers written out, 1,024 and 0.25; only from a million on with a letter, 2M."""
    return ".4~s" if len(values) and float(values.astype(float).max()) >= 1e6 else ",.6~g"


def _drawable(table: pd.DataFrame, *axes: CurveAxis) -> pd.DataFrame:
    """The rows whose numbers have a place on both axes."""
    table = without_units(table)
    keep = pd.Series(True, index=table.index)
    for axis in axes:
        values = table[axis.column].astype(float)
        keep &= np.isfinite(values) & (values > 0 if axis.log else True)
    return table[keep].reset_index(drop=True)


def _across(shown: pd.DataFrame, x: CurveAxis) -> alt.X:
    values = shown[x.column].astype(float)
    measured = sorted(set(values))
    ticks = measured if x.ticks is None and x.log and len(measured) <= MOST_TICKS else x.ticks
    domain = alt.Undefined if x.domain is None else list(x.domain)
    log = alt.Scale(type="log", domain=domain, nice=False, padding=8)
    linear = alt.Scale(domain=domain, nice=False, zero=False, padding=8)
    form = x.format or (_numbers(values) if x.log else ".6~g")
    return alt.X(
        field=x.column,
        type="quantitative",
        title=x.title,
        scale=log if x.log else linear,
        axis=alt.Axis(format=form, values=ticks or alt.Undefined, tickCount=7, labelOverlap=True),
    )


def _inks(names: Sequence[str], series: CurveSeries, theme: Theme) -> dict[str, tuple[str, str]]:
    """The colour and the symbol of each series."""
    keys = series.keys
    used = {keys[name] for name in names if name in keys}
    spare = [key for key in SPARE_HUES if key not in used] or list(SPARE_HUES)
    inks = {}
    for index, name in enumerate(names):
        style = theme.style(keys.get(name, spare[index % len(spare)]))
        inks[name] = (series.colours.get(name, style.colour), style.symbol.vega)
    return inks


def _domain(
    shown: pd.DataFrame, y: CurveAxis, band: tuple[str, str] | None, rules: Sequence[tuple[float, str]]
) -> tuple[float, float]:
    columns, log = [y.column, *(band or ())], y.log
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


def _tooltip(shown: pd.DataFrame, x: CurveAxis, y: CurveAxis, series: CurveSeries) -> list[alt.Tooltip]:
    fields = [
        alt.Tooltip(field=series.column, type="nominal", title="curve"),
        alt.Tooltip(field=x.column, type="quantitative", title=x.title, format=".4~g"),
        alt.Tooltip(field=y.column, type="quantitative", title=y.title, format=".3~g"),
    ]
    for column, title in zip(series.band or (), ("95 % from", "95 % to"), strict=False):
        fields.append(alt.Tooltip(field=column, type="quantitative", title=title, format=".3~g"))
    if "count" in shown.columns:
        fields.append(alt.Tooltip("count:Q", title="seeds"))
    return fields


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


def _ends(shown: pd.DataFrame, x: CurveAxis, y: CurveAxis, series: CurveSeries) -> dict[str, float]:
    """The last `y` of each series."""
    label, at, value = shown[series.column].to_numpy(), shown[x.column].to_numpy(float), shown[y.column].to_numpy(float)
    return {name: float(value[label == name][at[label == name].argmax()]) for name in dict.fromkeys(label)}


def _label_places(
    ends: Mapping[str, float], domain: tuple[float, float], *, log: bool, height: int, gap: float
) -> dict[str, float]:
    """Where each series' name stands on the `y` scale: at its end, pushed apart where two would cover one another."""
    low, high = (math.log(end) if log else end for end in domain)
    span = (high - low) or 1.0
    shares = [((math.log(max(end, domain[0])) if log else end) - low) / span for end in ends.values()]
    # The axis and its title take a part of the height; the places go back onto the scale, which fits whatever is left.
    room = 0.85 * height
    places = spread([room * (1 - min(max(share, 0.0), 1.0)) for share in shares], gap, room)
    values = [low + span * (1 - place / room) for place in places]
    return dict(zip(ends, [math.exp(value) if log else value for value in values], strict=True))


def _end_labels(places: Mapping[str, float], series: CurveSeries, *, y: alt.Scale, colour: alt.Color, size: float) -> alt.Chart:
    # One layer for all names: each would cost as much as a curve.
    frame = pd.DataFrame(
        {"its end": list(places.values()), "its label": [_cut(name) for name in places], series.column: list(places)}
    )
    drawn: alt.Chart = (
        alt.Chart(frame)
        .mark_text(
            align=alt.ExprRef(f"{NARROW} ? 'right' : 'left'"),
            baseline="middle",
            fontSize=size,
            dx=alt.ExprRef(f"{NARROW} ? -6 : 8"),
            dy=alt.ExprRef(f"{NARROW} ? -9 : 0"),
            opacity=alt.ExprRef(f"{NARROW} ? 0 : 1") if series.crowded else alt.Undefined,
        )
        .encode(
            x=fixed(alt.XValue, "width"),
            y=alt.Y("its end:Q", scale=y),
            text=alt.Text("its label:N"),
            color=colour,
            tooltip=alt.Tooltip(field=series.column, type="nominal", title="curve"),
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
