"""What the studies of memory say, in words: which sentence the numbers allow, by rules that are tested."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from longattn_core.studies.base.agreement import Verdict, verdict
from longattn_core.studies.base.study import Result
from longattn_core.studies.memory.held import HALF


@dataclass(frozen=True, kw_only=True)
class MemoryFinding:
    """What a `MemoryTimeline` says, over all queries.

    `kind`: "refused"; "whole" when one segment holds the text; a cache "keeps" at least half of the exact attention outside the
    sinks, or "forgets" more; slots and a lasting state "blend" everything; a state that loses what it held "fades".
    `verdict` compares the output's error with that of the mean of the visible values.
    """

    kind: Literal["refused", "whole", "keeps", "forgets", "blends", "fades"]
    verdict: Verdict
    reached: float
    reached_without: float
    gone: float
    gone_without: float
    cached: float
    blended: float
    agrees: float
    error: float
    control: float
    segments: int
    life: float


def memory_finding(result: Result) -> MemoryFinding:
    """Read a `MemoryTimeline` result. `agrees` (Σ min with exact rows) is not a number where rows are no shares."""
    if "whole" not in result.tables:
        return MemoryFinding(
            kind="refused",
            verdict="even",
            segments=0,
            life=0.0,
            **dict.fromkeys(
                ("reached", "reached_without", "gone", "gone_without", "cached", "blended", "agrees", "error", "control"), 0.0
            ),
        )
    whole, variant = result.tables["whole"].iloc[0], result.words["variant"]
    gone, without = (float(whole["gone" + end] + whole["later" + end]) for end in ("", " without sinks"))
    kind: Literal["whole", "keeps", "forgets", "blends", "fades"]
    if variant in ("cache", "compressed", "slots") and len(result.arrays["spans"]) == 1:
        kind = "whole"
    elif variant in ("cache", "compressed"):
        kind = "keeps" if 1 - without >= HALF else "forgets"
    else:
        kind = "blends" if variant in ("slots", "state") or not math.isfinite(float(result.arrays["life"])) else "fades"
    overlap = whole["overlap"]
    error, control = float(whole["error"]), float(whole["control"])
    return MemoryFinding(
        kind=kind,
        verdict=verdict(error, control),
        reached=1 - gone,
        reached_without=1 - without,
        gone=gone,
        gone_without=without,
        cached=float(whole["cached"]),
        blended=float(whole["blended"]),
        agrees=math.nan if overlap is None or pd.isna(overlap) else float(overlap),
        error=error,
        control=control,
        segments=len(result.arrays["spans"]),
        life=float(result.arrays["life"]),
    )


@dataclass(frozen=True, kw_only=True)
class ComparisonFinding:
    """Which memories err less than the mean of the visible values: "none", "some", "all", or "unknown" if none could read."""

    kind: Literal["none", "some", "all", "unknown"]
    better: tuple[str, ...]
    others: tuple[str, ...]
    refused: tuple[str, ...]
    nearest: str
    error: float
    control: float


def comparison_finding(rows: pd.DataFrame) -> ComparisonFinding:
    """Read the `points` of a `MemoryComparison` result."""
    judged = rows[rows["verdict"] != ""]
    refused = tuple(rows.loc[rows["verdict"] == "", "label"])
    if not len(judged):
        return ComparisonFinding(kind="unknown", better=(), others=(), refused=refused, nearest="", error=0.0, control=0.0)
    wins = judged["verdict"] == "better"
    nearest = judged.iloc[int(judged["error"].to_numpy(dtype=float).argmin())]
    return ComparisonFinding(
        kind="all" if wins.all() else "some" if wins.any() else "none",
        better=tuple(judged.loc[wins, "label"]),
        others=tuple(judged.loc[~wins, "label"]),
        refused=refused,
        nearest=str(nearest["label"]),
        error=float(nearest["error"]),
        control=float(nearest["control"]),
    )
