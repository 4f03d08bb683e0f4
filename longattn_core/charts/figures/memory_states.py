"""Pictures of running states: what is left of a write, what a planted word's key reads, the state's size, and rewriting."""

from __future__ import annotations

import altair as alt
import pandas as pd

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.style.theme import Theme

STATE_HUES = {"state": "window", "decay": "favor", "gated": "lsh", "delta": "memory"}
"""The mechanism whose colour each running state borrows."""


def survival_chart(survival: pd.DataFrame, theme: Theme) -> alt.LayerChart:
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


def recall_chart(recall: pd.DataFrame, theme: Theme) -> alt.LayerChart:
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


def norms_chart(norms: pd.DataFrame, theme: Theme) -> alt.LayerChart:
    """How large the state grows, as a share of its last size."""
    colours = {str(label): _ink(str(variant), theme) for label, variant in zip(norms["label"], norms["variant"], strict=True)}
    return curves_chart(
        norms,
        theme,
        x=CurveAxis(column="token", title="tokens read"),
        y=CurveAxis(column="norm", title="size of the state (norm, share of its last)"),
        series=CurveSeries(column="label", colours=colours, points=False),
    )


def rewriting_chart(writes: pd.DataFrame, theme: Theme) -> alt.LayerChart:
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


def _ink(variant: str, theme: Theme) -> str:
    """The colour of a running state, the same in all charts."""
    return theme.style(STATE_HUES[variant]).colour if variant in STATE_HUES else theme.muted
