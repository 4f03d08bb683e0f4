"""What a comparison finds: its numbers, and which sentence says them, chosen by rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from longattn_core.studies.base.study import Result

STRONG = 0.5
"""From this share of its attention on, a query is said to give it to one key; below, to spread it."""
FINDS = 0.5
"""A mechanism finds a key if it gives it at least this share of its exact weight."""


@dataclass(frozen=True, kw_only=True)
class ComparisonFinding:
    """Exact attention's share on the marked key, how many tokens away it lies, and which mechanisms find it at this budget.

    `found` and `lost` are labels of approximating mechanisms that could read the sequence; exact itself, refused ones, and
    those that compute another score on purpose are in neither.
    """

    kind: Literal["strong", "spread", "alone"]
    share: float
    distance: int
    visible: int
    found: tuple[str, ...]
    lost: tuple[str, ...]


def comparison_finding(result: Result) -> ComparisonFinding:
    """Read a `Compare` result."""
    exact, query, marked = result.arrays["exact"], int(result.arrays["query"]), int(result.arrays["marked"])
    visible = int((~np.isnan(exact)).sum())
    share = float(np.nan_to_num(exact)[marked])
    table = result.tables["mechanisms"]
    judged = table[table["approximates"] & (table["refusal"] == "") & (table["key"] != "exact")]
    finds = judged["weight"] >= FINDS * share
    kind: Literal["strong", "spread", "alone"] = "strong" if share >= STRONG else "spread"
    return ComparisonFinding(
        kind="alone" if visible < 2 else kind,
        share=share,
        distance=abs(query - marked),
        visible=visible,
        found=tuple(judged.loc[finds, "label"]),
        lost=tuple(judged.loc[~finds, "label"]),
    )
