"""Pictures of what memories measure: attention by lag, reach, error against size, all at one budget, and slots."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.cells import encode, pool_cells
from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.memory_states import STATE_HUES
from longattn_core.charts.pixels import paint
from longattn_core.charts.style.altair import fixed, layered
from longattn_core.charts.style.axes import token_axis
from longattn_core.charts.style.png import data_uri
from longattn_core.charts.style.scales import Scale
from longattn_core.charts.style.theme import CURVE_HEIGHT, Theme


def lags_chart(lags: pd.DataFrame, theme: Theme, *, without_sinks: bool, label: str) -> alt.LayerChart | alt.FacetChart:
    """Mass by lag in bins that double: exact attention, what of it the memory can still look at, and the memory's own."""
    end = " without sinks" if without_sinks else ""
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


def reach_chart(reach: pd.DataFrame, theme: Theme, *, n: int, names: dict[str, str]) -> alt.LayerChart | alt.FacetChart:
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


def sizes_chart(rows: pd.DataFrame, theme: Theme, *, control: float | None, size: float) -> alt.LayerChart | alt.FacetChart:
    """Error against how many tokens' worth of numbers are remembered, a line a memory; a state has one size and is dashed."""
    kinds = rows["variant"].isin(STATE_HUES)
    ends = [rows[kinds].assign(held=float(end)) for end in (rows["held"].min(), rows["held"].max())]
    ordered = pd.concat([rows, *ends]).assign(one_size=lambda t: t["variant"].isin(STATE_HUES))
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


def comparison_chart(rows: pd.DataFrame, theme: Theme, *, control: float) -> alt.LayerChart | alt.FacetChart:
    """A dot a memory at one budget, and the control as a rule: what stands left of it carries information."""
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
    size = theme.size("tick")
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


def slots_chart(held: np.ndarray, theme: Theme, *, start: int) -> alt.LayerChart | alt.FacetChart:
    """Each slot as a row over the tokens that it is blended of, `held [s n]`; tokens from `start` on are not in it yet."""
    slots, n = held.shape
    cells = pool_cells(held, (slots, min(n, 1024)), "max")
    coded = encode(cells, Scale(kind="log"))
    factor = (max(1, -(-320 // slots)), max(1, -(-960 // cells.shape[1])))
    frame = pd.DataFrame(
        {"x": [0], "x2": [n], "y": [0], "y2": [slots], "url": [data_uri(paint(coded, theme=theme, kind="log", factor=factor))]}
    )
    x = token_axis("x", n)
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
