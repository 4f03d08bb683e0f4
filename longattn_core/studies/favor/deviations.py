"""How far single estimates of the kernel deviate from it, against the norm of their pair, beside the paper's closed form.

Source: Choromanski et al. 2020, arXiv:2009.14794, lemma 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from longattn_core.mechanisms.favor.deviation import relative_deviation
from longattn_core.mechanisms.favor.features import UNBIASED
from longattn_core.studies.base.study import Result
from longattn_core.studies.favor.pairs import Pairs

BINS = 24
COLUMNS = ("norm", "deviation", "low", "high", "curve", "count")


def deviations(result: Result) -> pd.DataFrame:
    """Relative deviations of the estimates in a `Pairs` result, in bins of the norm that they depend on.

    The norm is ‖x + y‖², for sines and cosines ‖x − y‖². One row a bin and `curve`: "half of the pairs stray less" (the
    median, with the 10 % and 90 % of the pairs as `low` and `high`), "measured" (root mean square), "expected" (the closed
    form for independent directions at the bin's median norm). Empty for features that estimate another kernel.
    """
    favor = result.study_as(Pairs).mechanism()
    empty = pd.DataFrame(columns=list(COLUMNS))
    if favor.variant not in UNBIASED or favor.kernel != "softmax":
        return empty
    arrays = result.arrays
    norm = arrays["difference_norm" if favor.variant == "trigonometric" else "sum_norm"].astype(np.float64)
    with np.errstate(over="ignore"):
        ratio = np.exp(arrays["log_estimated_kernel"].astype(np.float64) - arrays["log_kernel"].astype(np.float64))
    deviation = np.abs(arrays["kernel_sign"] * ratio - 1)
    keep = np.isfinite(deviation) & (norm > 0)
    norm, deviation = norm[keep], deviation[keep]
    if len(norm) == 0:
        return empty
    bounds = np.unique(np.quantile(norm, np.linspace(0, 1, BINS + 1)))
    place = np.clip(np.searchsorted(bounds, norm, side="right") - 1, 0, max(0, len(bounds) - 2))
    d, rows = result.study.sequence().d, []
    for index in np.unique(place):
        inside, at = deviation[place == index], float(np.median(norm[place == index]))
        low, middle, high = np.quantile(inside, (0.1, 0.5, 0.9))
        expected = relative_deviation(
            favor.variant, m=favor.features, d=d, sum_norm=at, difference_norm=at, regularised=favor.regularised
        )
        for curve, value, ends in (
            ("half of the pairs stray less", middle, (low, high)),
            ("measured", float(np.sqrt(np.mean(inside**2))), (math.nan, math.nan)),
            ("expected", expected, (math.nan, math.nan)),
        ):
            rows.append((at, value, *ends, curve, len(inside)))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs["units"] = {"norm": "‖q±k‖²/√d", "deviation": "of the kernel"}
    return table


@dataclass(frozen=True, kw_only=True)
class DeviationFinding:
    """How far a single estimate is expected to deviate at the median norm, and how many features half of its value takes.

    `median` is the median deviation that was measured there, `needed` the number of directions that bring the expected one to
    half of the kernel's value. `kind`: "gentle": at most half of its value; "noisy": at most ten times; "hopeless": more;
    "other": another kernel is estimated.
    """

    kind: Literal["gentle", "noisy", "hopeless", "other"]
    norm: float
    expected: float
    median: float
    needed: float


def deviation_finding(table: pd.DataFrame, m: int) -> DeviationFinding:
    """Read the table of `deviations`; `m` is the number of directions that it was measured with."""
    if table.empty:
        return DeviationFinding(kind="other", norm=math.nan, expected=math.nan, median=math.nan, needed=math.nan)
    wide = table.pivot_table(index="norm", columns="curve", values="deviation", dropna=False)
    middle = wide.iloc[len(wide) // 2]
    expected = float(middle["expected"])
    kind: Literal["gentle", "noisy", "hopeless"] = "gentle" if expected <= 0.5 else "noisy"
    return DeviationFinding(
        kind="hopeless" if expected > 10 else kind,
        norm=float(wide.index[len(wide) // 2]),
        expected=expected,
        median=float(middle["half of the pairs stray less"]),
        needed=m * (expected / 0.5) ** 2,
    )
