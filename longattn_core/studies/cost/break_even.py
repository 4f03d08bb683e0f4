"""Which mechanisms are cheaper than exact attention at n tokens, from which length on each is, and which sentence says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Kind = Literal["most", "few", "later", "never", "waiting"]


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """`cheaper` are the mechanisms below exact attention at n tokens, the cheapest first, with `shares` of its cost; `first` and
    `last` the earliest and the latest crossing among the lengths; `never` those that cross at none of them.

    `kind`: "most" when more than half of those that can read n tokens are cheaper there, "few" when some are, "later" when
    none is but one will be, "never" when none ever is, "waiting" while exact attention has no number yet.
    """

    kind: Kind
    n: int
    readable: int
    cheaper: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    first: tuple[str, float] | None = None
    last: tuple[str, float] | None = None
    never: tuple[str, ...] = ()


def break_even(points: pd.DataFrame, crossings: pd.DataFrame, what: str, n: int) -> BreakEven:
    """Read the column `what` of points (`label`, `key`, `approximates`, `n`) and the crossings of that quantity.

    Where n is no measured length, the value comes from a line through its neighbours on logarithmic scales.
    """
    # As arrays: each selection of a table's rows copies its units, which would take most of the time after a dial moves.
    lengths, values = (points[column].to_numpy(dtype=float) for column in ("n", what))
    is_exact, label = points["key"].to_numpy() == "exact", points["label"].to_numpy()
    exact = value_at(lengths[is_exact], values[is_exact], n)
    if not np.isfinite(exact):
        return BreakEven(kind="waiting", n=n, readable=0)
    others = dict.fromkeys(label[points["approximates"].to_numpy(dtype=bool) & ~is_exact])
    costs = {name: value_at(lengths[label == name], values[label == name], n) for name in others}
    shares = {name: cost / exact for name, cost in costs.items() if np.isfinite(cost)}
    cheap = sorted((share, name) for name, share in shares.items() if share < 1)
    crossed = crossings[crossings["n"].notna()].sort_values("n")
    places = [(str(row["label"]), float(row["n"])) for _index, row in crossed.iterrows()]
    if not cheap:
        kind: Kind = "later" if any(place > n for _name, place in places) else "never"
    else:
        kind = "most" if 2 * len(cheap) > len(shares) else "few"
    return BreakEven(
        kind=kind,
        n=n,
        readable=len(shares),
        cheaper=tuple(name for _share, name in cheap),
        shares=tuple(share for share, _name in cheap),
        first=places[0] if places else None,
        last=places[-1] if places else None,
        never=tuple(crossings.loc[crossings["n"].isna(), "label"]),
    )


def value_at(lengths: npt.NDArray[np.float64], values: npt.NDArray[np.float64], n: int) -> float:
    """The quantity at n tokens, on a straight line between measured lengths on logarithmic scales; NaN outside of them.

    Values that are no number, or not above 0, were not measured.
    """
    known = values > 0
    order = np.argsort(lengths[known])
    at, value = lengths[known][order], values[known][order]
    if not len(at) or not at[0] <= n <= at[-1]:
        return np.nan
    return float(np.exp(np.interp(np.log(n), np.log(at), np.log(value))))


def crossing_between(rows: pd.DataFrame, exact: pd.DataFrame, what: str) -> float:
    """Where a measured curve falls below exact attention's for good, on straight lines on logarithmic scales.

    NaN when it lies above at the longest length that both have; the shortest when it lies below at all of them.
    """
    both = rows.merge(exact, on="n", suffixes=("", " exact")).sort_values("n")
    both = both[(both[what] > 0) & (both[f"{what} exact"] > 0)]
    if both.empty:
        return np.nan
    x = np.log(both["n"].to_numpy(dtype=float))
    gap = np.log(both[what].to_numpy(dtype=float)) - np.log(both[f"{what} exact"].to_numpy(dtype=float))
    above = np.flatnonzero(gap >= 0)
    if len(above) == 0:
        return float(np.exp(x[0]))
    last = int(above[-1])
    if last == len(x) - 1:
        return np.nan
    return float(np.exp(x[last] + (x[last + 1] - x[last]) * gap[last] / (gap[last] - gap[last + 1])))


def clock_against_count(by_count: pd.Series, by_clock: pd.Series) -> Literal["later", "sooner", "apart"]:
    """Whether mechanisms begin to pay later by the clock than by counting, sooner, or neither as a rule ("apart").

    A direction is named when more than twice as many mechanisms go that way as the other; a mechanism that never pays by the
    clock, or never by counting, is left out.
    """
    both = pd.DataFrame({"count": by_count.to_numpy(), "clock": by_clock.to_numpy()}).dropna()
    later, sooner = int((both["clock"] > both["count"]).sum()), int((both["clock"] < both["count"]).sum())
    if later > 2 * sooner:
        return "later"
    return "sooner" if sooner > 2 * later else "apart"
