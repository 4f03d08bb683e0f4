"""A map as two thin factors, its singular values, and the error at each rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import numpy.typing as npt
import pandas as pd

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.maps import position_ticks, thinned
from longattn_core.charts.pixels import matrix_uri
from longattn_core.charts.style.theme import CURVE_HEIGHT, Theme

HEIGHT = 336
"""Height of the picture with the factors: about its width beside two others."""
FACTOR_CELLS = 256
"""Cells of a factor's and of the rebuilt map's side: they stand beside two other pictures."""
THINNEST = 1 / 48
"""A factor is drawn at least so wide, as a part of the map, or a single column could not be seen."""
FLOOR = 1e-6
"""Singular values below this part of the largest are rounding, and not drawn."""
KEPT = "directions kept, k (logarithmic)"
KEYS = {
    "SVD (the best there is)": "exact",
    "Linformer, means": "low_rank",
    "Linformer, Gaussian": "favor",
    "Linformer, fitted": "window",
    "Nyström": "lsh",
}
"""Whose colour and symbol each method's curve takes: five of one family must be told apart."""


def factors_chart(
    left: npt.NDArray[np.floating],
    right: npt.NDArray[np.floating],
    rebuilt: npt.NDArray[np.floating],
    theme: Theme,
    *,
    n: int,
    height: int = HEIGHT,
) -> alt.Chart:
    """The rebuilt map with U√Σ `[n k]` at its left and √ΣVᵀ `[k n]` above it, drawn to scale.

    Factors on the scale of differences up to their largest number; the map on that of weights. `rebuilt` may be pooled.
    """
    k = left.shape[1]
    wide, gap = max(k, n * THINNEST), n / 32
    top = factor_top(left, right)
    parts = [
        ("rebuilt", rebuilt, "log", 1.0, (0.0, 0.0, float(n), float(n))),
        ("left", thinned(left, FACTOR_CELLS), "difference", top, (-gap - wide, 0.0, -gap, float(n))),
        ("right", thinned(right, FACTOR_CELLS), "difference", top, (0.0, -gap - wide, float(n), -gap)),
    ]
    ticks = position_ticks(n)
    # The axes take their domains from the pictures' corners, because a domain of their own would change with every rank.
    x = alt.X(
        "x:Q",
        scale=alt.Scale(nice=False, zero=False),
        axis=alt.Axis(title="key (token position)", grid=False, values=ticks, format="d"),
    )
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(nice=False, zero=False, reverse=True),
        axis=alt.Axis(title="query (token position)", grid=False, values=ticks, format="d"),
    )
    records = [
        {
            "x": x0,
            "x2": x1,
            "y": y0,
            "y2": y1,
            "url": matrix_uri(values, theme, kind=kind, top=end),  # type: ignore[arg-type]
            "what": _NAMES[name].format(n=n, k=k),
        }
        for name, values, kind, end, (x0, y0, x1, y1) in parts
    ]
    # One layer for all three: each further layer costs as much again to validate and to send.
    chart = alt.Chart(pd.DataFrame.from_records(records)).mark_image(aspect=False, smooth=False)
    drawn: alt.Chart = chart.encode(
        x=x, x2=alt.X2("x2:Q"), y=y, y2=alt.Y2("y2:Q"), url=alt.Url("url:N"), tooltip=alt.Tooltip("what:N", title="this is")
    )
    return drawn.properties(height=height, width="container")


_NAMES = {
    "left": "U√Σ: {n} queries × {k} directions",
    "right": "√ΣVᵀ: {k} directions × {n} keys",
    "rebuilt": "their product, {n} × {n} weights",
}


def factor_top(left: npt.NDArray[np.floating], right: npt.NDArray[np.floating]) -> float:
    """The number at the strong end of the factors' colours: the largest of both, by size."""
    return max(float(np.abs(left).max()), float(np.abs(right).max()), 0.01)


def scree_chart(spectrum: pd.DataFrame, theme: Theme, *, k: int, height: int = 220) -> alt.LayerChart:
    """Singular values, falling, both axes logarithmic: this map, without its sinks, the uniform map; k marked."""
    y = CurveAxis(column="value", title="singular value σ (logarithmic)", log=True)
    shown = spectrum[spectrum["value"] >= FLOOR * spectrum["value"].max()]
    return _over_directions(shown, theme, "direction (the strongest first; logarithmic)", y, k=k, height=height)


def energy_chart(spectrum: pd.DataFrame, theme: Theme, *, k: int, share: float) -> alt.LayerChart:
    """The share of Σσ² that the strongest k directions hold."""
    y = CurveAxis(column="energy", title="energy held (share of Σσ²)", domain=(0.0, 1.02), format="~%")
    return _over_directions(spectrum, theme, KEPT, y, k=k, rules=[(share, f"{share:.0%}")])


def tail_chart(spectrum: pd.DataFrame, theme: Theme, *, k: int) -> alt.LayerChart:
    """The relative error of stopping at k, from the singular values alone (Eckart and Young)."""
    y = CurveAxis(column="error", title="error of the map (relative, logarithmic)", log=True)
    return _over_directions(spectrum[spectrum["error"] >= 1e-4], theme, KEPT, y, k=k, rules=[(0.1, "10 %")])


def _over_directions(
    spectrum: pd.DataFrame,
    theme: Theme,
    x_title: str,
    y: CurveAxis,
    *,
    k: int,
    rules: Sequence[tuple[float, str]] = (),
    height: int = CURVE_HEIGHT,
) -> alt.LayerChart:
    """A line a map over its directions, k marked."""
    return curves_chart(
        _enough(spectrum),
        theme,
        x=CurveAxis(column="direction", title=x_title, log=True),
        y=y,
        series=CurveSeries(column="map", colours=map_colours(theme), points=False),
        rules=rules,
        marked=[(k, f"k = {k:,}")],
        height=height,
    )


def _enough(spectrum: pd.DataFrame) -> pd.DataFrame:
    """Enough directions for a smooth line: all of the first ones, a sample of the many that follow."""
    n = int(spectrum["direction"].max())
    steps = np.concatenate([np.geomspace(1, n, 120), np.linspace(1, n, 60)])
    return spectrum[spectrum["direction"].isin(np.unique(steps.round().astype(np.int64)))]


def map_colours(theme: Theme) -> Mapping[str, str]:
    """This map in the colour of its mechanism, the sinks' absence in another, the control in grey."""
    return {
        "this map": theme.style("low_rank").colour,
        "without its sinks": theme.style("lsh").colour,
        "uniform map": theme.muted,
    }


def error_chart(curves: pd.DataFrame, theme: Theme, *, value: str, control: float, what: str, k: int) -> alt.LayerChart:
    """Error against rank, a line a method, with the interval over draws and the control, the mean of the visible values."""
    names = [name for name in KEYS if name in set(curves["method"])]
    shown = curves[curves[value] >= 1e-4]
    return curves_chart(
        shown,
        theme,
        x=CurveAxis(column="rank", title="rank k: columns kept (logarithmic)", log=True),
        y=CurveAxis(column=value, title=f"error of {what} (relative, logarithmic)", log=True),
        series=CurveSeries(column="method", band=("low", "high"), keys={name: KEYS[name] for name in names}),
        rules=[(control, "mean of the visible values")],
        marked=[(k, f"k = {k:,}")],
        height=380,
    )


def length_chart(curves: pd.DataFrame, theme: Theme) -> alt.LayerChart:
    """Rank against length, both logarithmic; the dashed line is a rank as large as the map itself."""
    n = np.unique(curves["n"])
    full = pd.DataFrame({"n": n, "rank": n, "low": n, "high": n, "count": 1, "map": "every direction", "formula": True})
    shown = pd.concat([curves.assign(formula=False), full], ignore_index=True)
    return curves_chart(
        shown,
        theme,
        x=CurveAxis(column="n", title="tokens n (logarithmic)", log=True),
        y=CurveAxis(column="rank", title="directions for 99 % of the energy (logarithmic)", log=True),
        series=CurveSeries(
            column="map", band=("low", "high"), dashed="formula", colours={**map_colours(theme), "every direction": theme.border}
        ),
    )


def law_chart(curves: pd.DataFrame, theme: Theme, *, shared: float, apart: float) -> alt.LayerChart:
    """The error of Gaussian Linformer against its rank, with the two limits of the law."""
    return curves_chart(
        curves,
        theme,
        x=CurveAxis(column="rank", title="rank k, up to n"),
        y=CurveAxis(column="error", title="error of the output (relative, logarithmic)", log=True),
        series=CurveSeries(
            column="projections",
            band=("low", "high"),
            colours={"E and F apart": theme.style("low_rank").colour, "E = F": theme.style("lsh").colour},
        ),
        rules=[(apart, f"limit, E and F apart: {apart:.2f}"), (shared, f"limit, E = F: {shared:.2f}")],
    )
