"""What hashing found, in words: which sentence stands on the page is decided here, from the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from longattn_core.studies.base.recall_point import Kind, judged, lift, number
from longattn_core.studies.base.study import Result

Pair = Literal["found", "overflowed", "apart", "always", "itself"]


@dataclass(frozen=True, kw_only=True)
class HashingFinding:
    """Recall and share of pairs outside the sinks, and how the tracked pair fared.

    `kind`: "everything" looks at nearly all pairs; "finds" sees most of the weight, far above chance; "chance" no more than
    a blind choice of as many pairs; "little" what lies between. `pair`: "found" in a round, only "always" visible
    (sinks, window), met but "overflowed" (too far along the bucket), or "apart" in every round.
    """

    kind: Kind
    recall: float
    share: float
    error: float
    control: float
    weight: float
    distance: int
    met: int
    found: int
    rounds: int
    pair: Pair

    @property
    def lift(self) -> float:
        """0 at chance, 1 where everything is found."""
        return lift(self.recall, self.share)


def hashing_finding(result: Result) -> HashingFinding:
    """Read an `LshStrips` result."""
    arrays = result.arrays
    query, marked = int(arrays["query"]), int(arrays["marked"])
    weight = float(np.nan_to_num(arrays["exact"])[marked])
    distance = abs(query - marked)
    if "refusal" in result.words:
        nothing = float("nan")
        return HashingFinding(
            kind="refused",
            recall=nothing,
            share=nothing,
            error=nothing,
            control=nothing,
            weight=weight,
            distance=distance,
            met=0,
            found=0,
            rounds=0,
            pair="apart",
        )
    rounds, agreement = result.tables["rounds"], result.tables["agreement"]
    met, found = int(rounds["met"].sum()), int(rounds["found"].sum())
    seen = int(arrays["found"][marked]) > 0
    pair: Pair = "found" if found else "itself" if query == marked else "always" if seen else "overflowed" if met else "apart"
    recall, share = (number(agreement, name, which="without sinks") for name in ("recall", "share"))
    return HashingFinding(
        kind=judged(recall, share),
        recall=recall,
        share=share,
        error=number(agreement, "error", which="whole"),
        control=number(agreement, "control", which="whole"),
        weight=weight,
        distance=distance,
        met=met,
        found=found,
        rounds=len(rounds),
        pair=pair,
    )


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Why: where queries stand to keys, and keys to one another.

    `kind`: "cone" when keys all point one way and queries away from them; "cone_near" keys in one cone but queries not far;
    "spread" when keys point in many directions.
    """

    kind: Literal["cone", "cone_near", "spread"]
    query_key: float
    key_key: float
    centred_key_key: float
    weighted_angle: float
    centred_weighted_angle: float


CONE = 0.3
"""A mean cosine of keys with keys from which on they are said to point one way."""
ACROSS = 0.2
"""A mean cosine of queries with keys up to which they are said to point elsewhere."""


def directions_finding(result: Result) -> Directions:
    """Read an `LshAngles` result."""
    table = result.tables["angles"]

    def of(pairs: str, centred: bool, column: str = "mean cosine") -> float:
        return number(table, column, pairs=pairs, centred=centred)

    query_key, key_key = of("query and key", False), of("key and key", False)
    kind: Literal["cone", "cone_near", "spread"] = "spread"
    if key_key >= CONE:
        kind = "cone" if query_key <= ACROSS else "cone_near"
    return Directions(
        kind=kind,
        query_key=query_key,
        key_key=key_key,
        centred_key_key=of("key and key", True),
        weighted_angle=of("query and key", False, "weighted angle"),
        centred_weighted_angle=of("query and key", True, "weighted angle"),
    )
