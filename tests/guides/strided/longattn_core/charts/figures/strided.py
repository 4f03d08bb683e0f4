"""The picture of strides: the weight they find, beside what chance would find."""

from __future__ import annotations

import altair as alt
import pandas as pd

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.style.theme import Theme


def strides_chart(table: pd.DataFrame, theme: Theme, *, stride: int) -> alt.LayerChart:
    """Weight found and keys read against the stride; the keys read, which is chance, dashed."""
    return curves_chart(
        table.assign(chance=table["curve"] == "keys read"),
        theme,
        x=CurveAxis(column="stride", title="stride s (tokens, logarithmic)", log=True),
        y=CurveAxis(column="share", title="share", domain=(0, 1), format="%"),
        series=CurveSeries(column="curve", dashed="chance", keys={"weight found": "strided"}),
        marked=[(stride, f"s = {stride:,}")],
    )
