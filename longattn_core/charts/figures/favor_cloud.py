"""The cloud of pairs: exact and estimated values counted into tiles, so that its payload does not grow with the sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from longattn_core.studies.base.study import Result

COLUMNS, ROWS = 42, 24
"""Tiles of the cloud."""
DECADES = 12.0
"""Exact values further below the largest than this are drawn at the edge."""
BEYOND = {"weights": 2.0, "kernel": 18.0}
"""By how many decades estimates may lie outside of the exact values' range and still be drawn in place."""
LANE = 0.055
"""The share of the height that pairs with an estimate below zero have at the foot of the picture."""

What = Literal["weights", "kernel"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cloud:
    """What the picture of the pairs shows.

    `tiles`: `left right low high count`, and `below` where the estimates are negative: these stand in the lane at the foot;
    `strongest`: single pairs with their tokens; `control`: the 5 %, 50 % and 95 % quantiles of what an equal share would be;
    `x` and `y`: the two domains; `negative`: the share of pairs below zero.
    """

    tiles: pd.DataFrame
    strongest: pd.DataFrame
    control: tuple[float, float, float]
    x: tuple[float, float]
    y: tuple[float, float]
    negative: float


def cloud(result: Result, what: What) -> Cloud:
    """Count the pairs of a `Pairs` result into tiles, both axes logarithmic; pairs outside of the domains count at the edge."""
    arrays = result.arrays
    exact_name, name, sign_name = _arrays_of(what)
    # In double precision, because rounding must not move a clipped value out of its domain.
    exact, estimate = (arrays[each].astype(np.float64) / math.log(10) for each in (exact_name, name))
    negative = arrays[sign_name] < 0
    # An equal share of the row's sum: for weights 1/visible; for kernel values the row's mean.
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
        below, _c = np.histogram(at[negative], bins=across)
        filled = below.nonzero()[0]
        foot = pd.DataFrame(
            {
                "left": across[filled],
                "right": across[filled + 1],
                "low": y[0] - lane,
                "high": y[0] - lane * 0.15,
                "count": below[filled].astype(int),
                "below": True,
            }
        )
        tiles = pd.concat([tiles, foot], ignore_index=True)
    for edge in ("left", "right", "low", "high"):
        tiles[edge] = 10.0 ** tiles[edge]
    strongest = _strongest(result, what, x, y)
    low, middle, high = (float(end) for end in 10.0 ** np.quantile(control, (0.05, 0.5, 0.95)))
    return Cloud(
        tiles=tiles,
        strongest=strongest,
        control=(low, middle, high),
        x=(10.0 ** x[0], 10.0 ** x[1]),
        y=(10.0 ** (y[0] - lane), 10.0 ** y[1]),
        negative=float(negative.mean()),
    )


def _arrays_of(what: What) -> tuple[str, str, str]:
    """The names of the exact values, of the estimates and of their signs."""
    if what == "weights":
        return "log_exact", "log_estimate", "sign"
    return "log_kernel", "log_estimated_kernel", "kernel_sign"


def _domains(
    exact: np.ndarray, estimate: np.ndarray, control: np.ndarray, beyond: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The ranges of both axes in decades: of the exact values, and of the estimates at most `beyond` decades outside them."""
    top = max(float(exact.max()), float(control.max()))
    bottom = max(min(float(np.quantile(exact, 0.001)), float(control.min())), top - DECADES)
    margin = max(0.04 * (top - bottom), 0.1)
    x = (bottom - margin, top + margin)
    finite = estimate[np.isfinite(estimate)]
    if len(finite) == 0:
        return x, x
    low, high = np.quantile(finite, (0.001, 0.999))
    # At quarters of a decade, so that small changes of the estimates leave the axis as it is.
    return x, (
        min(x[0], max(math.floor(4 * (float(low) - margin)) / 4, x[0] - beyond)),
        max(x[1], min(math.ceil(4 * (float(high) + margin)) / 4, x[1] + beyond)),
    )


def _strongest(result: Result, what: What, x: tuple[float, float], y: tuple[float, float]) -> pd.DataFrame:
    """The strongest pairs whose estimate is not negative, clipped to the domains."""
    exact_name, name, sign_name = _arrays_of(what)
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
