"""What a spectrum and its growth say of a map: a kind, which chooses the sentence, and its numbers, by tested rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from longattn_core.studies.base.study import Result
from longattn_core.studies.low_rank.decomposition import rank_of

FEWEST = 4
"""Below this many tokens there is nothing to say about a rank."""
SAME = 1e-3
"""Two spectra are the same where no singular values differ by more than this share of the uniform map's largest."""
DISGUISE = 3.0
"""A low rank is the sinks' doing where the rank without their columns is at least so many times as large."""

Kind = Literal["single", "uniform", "flat", "disguise", "low", "middle", "high"]


@dataclass(frozen=True, kw_only=True)
class RankFinding:
    """What a spectrum says of a map. `rank`, `without` and `uniform` count the directions that hold 99 % of the energy.

    `numbers` is how many numbers the factors of that rank hold, rank·(2n + 1); `held` how many the map holds, its visible
    pairs. `kind`:

    - `single`: too few tokens to say; `uniform`, `flat`: the uniform map, causal or unmasked;
    - `disguise`: low, but only by the sinks; `low`: the factors hold no more numbers than the map;
    - `high`: at least half of n directions; `middle`: between the last two.
    """

    kind: Kind
    n: int
    rank: int
    without: int
    uniform: int
    sinks: int
    numbers: int
    held: int
    causal: bool


def rank_finding(result: Result) -> RankFinding:
    """Read a `Spectrum` result."""
    arrays = result.arrays
    n, causal, sinks = int(arrays["n"]), bool(arrays["causal"]), len(arrays["sinks"])
    values, uniform = arrays["values"], arrays["uniform"]
    rank, without, uniform_rank = (rank_of(spectrum) for spectrum in (values, arrays["without sinks"], uniform))
    held = n * (n + 1) // 2 if causal else n * n
    numbers = rank * (2 * n + 1)
    kind: Kind = "middle"
    if n < FEWEST:
        kind = "single"
    elif float(np.abs(values - uniform).max()) <= SAME * float(uniform[0]):
        kind = "uniform" if causal else "flat"
    elif sinks and without >= DISGUISE * rank:
        kind = "disguise"
    elif numbers <= held:
        kind = "low"
    elif 2 * rank >= n:
        kind = "high"
    return RankFinding(
        kind=kind, n=n, rank=rank, without=without, uniform=uniform_rank, sinks=sinks, numbers=numbers, held=held, causal=causal
    )


@dataclass(frozen=True, kw_only=True)
class GrowthFinding:
    """How the rank grows with the length: from `low` at `first` tokens to `high` at `last`, about n to the `power`.

    `uniform` holds the uniform map's ranks at the two lengths.
    """

    first: int
    last: int
    low: float
    high: float
    power: float
    uniform: tuple[float, float]


def growth_finding(result: Result) -> GrowthFinding | None:
    """Read a `RankAgainstLength` result; None while there are fewer than two lengths."""
    curves = result.tables["curves"]
    own, uniform = (curves[curves["map"] == name].sort_values("n") for name in ("this map", "uniform map"))
    if len(own) < 2:
        return None
    slope = np.polyfit(np.log(own["n"].to_numpy(float)), np.log(own["rank"].to_numpy(float)), 1)[0]
    return GrowthFinding(
        first=int(own["n"].iloc[0]),
        last=int(own["n"].iloc[-1]),
        low=float(own["rank"].iloc[0]),
        high=float(own["rank"].iloc[-1]),
        power=float(slope),
        uniform=(float(uniform["rank"].iloc[0]), float(uniform["rank"].iloc[-1])),
    )
