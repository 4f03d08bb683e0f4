"""Means over repeated draws, with the interval that says how far they can be trusted.

Source: Student's t interval of the mean, 95 %; for positive quantities that are drawn on a logarithmic axis the interval is
that of the mean of the logarithms, so that it cannot reach below zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

LEVEL = 0.95


def interval(values: Sequence[float] | np.ndarray, *, log: bool = False) -> tuple[float, float, float]:
    """Mean, low and high end of the 95 % interval of the mean; NaN values are left out.

    One value alone has no interval: all three are the value. `log` gives the geometric mean and its interval; values
    that are not positive are then left out too. No value at all gives three NaN.
    """
    from scipy import stats

    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    if log:
        x = np.log(x[x > 0])
    if len(x) == 0:
        return math.nan, math.nan, math.nan
    mean = float(x.mean())
    half = 0.0 if len(x) < 2 else float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    ends = (mean, mean - half, mean + half)
    return tuple(math.exp(end) for end in ends) if log else ends  # type: ignore[return-value]


def summarised(rows: pd.DataFrame, *, by: Sequence[str], value: str, log: bool = False) -> pd.DataFrame:
    """One row a group of `by`: `value` (its mean), `low`, `high` and `count`, groups in their order of appearance."""
    records = []
    for name, group in rows.groupby(list(by), sort=False, dropna=False):
        mean, low, high = interval(group[value].to_numpy(), log=log)
        names = dict(zip(by, name if isinstance(name, tuple) else (name,), strict=True))
        records.append({**names, value: mean, "low": low, "high": high, "count": int(group[value].notna().sum())})
    table = pd.DataFrame.from_records(records, columns=[*by, value, "low", "high", "count"])
    unit = rows.attrs.get("units", {}).get(value)
    table.attrs["units"] = {**rows.attrs.get("units", {}), **({} if unit is None else {"low": unit, "high": unit})}
    return table
