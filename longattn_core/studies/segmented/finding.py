"""What the studies of segments say, in words: which sentence the numbers allow, by rules that are tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from longattn_core.studies.base.agreement import Verdict, verdict
from longattn_core.studies.base.study import Result

MOST, SOME = 0.5, 0.1
"""Shares of the attention outside the sinks from which on the cuts take "most" or "some" of it."""


@dataclass(frozen=True, kw_only=True)
class CutFinding:
    """What a `Cuts` result says: how much is lost, at how many cuts, where most, and whether the output beats the mean.

    `kind`: "refused", "uncut" (one segment, exact), or how much of the attention outside the sinks is lost: "most" from
    one half on, "some" from a tenth, else "little".
    """

    kind: Literal["refused", "uncut", "most", "some", "little"]
    verdict: Verdict
    lost: float
    without_sinks: float
    never: float
    cuts: int
    width: float
    worst: int
    worst_lost: float
    words: str
    error: float
    control: float
    sinks: int


def cut_finding(result: Result) -> CutFinding:
    """Read a `Cuts` result."""
    if "whole" not in result.tables:
        nothing = dict.fromkeys(("lost", "without_sinks", "never", "width", "worst_lost", "error", "control"), 0.0)
        return CutFinding(kind="refused", verdict="even", cuts=0, worst=0, words="", sinks=0, **nothing)
    whole, cuts = result.tables["whole"].iloc[0], result.tables["cuts"]
    count, n = len(cuts), len(result.arrays["tokens"])
    without = float(whole["without sinks"])
    kind: Literal["uncut", "most", "some", "little"] = (
        "uncut" if count == 0 else "most" if without >= MOST else "some" if without >= SOME else "little"
    )
    error, control = float(whole["error"]), float(whole["control"])
    worst = None if count == 0 else cuts.iloc[int(cuts["without sinks"].to_numpy().argmax())]
    return CutFinding(
        kind=kind,
        verdict=verdict(error, control),
        lost=float(whole["attention"]),
        without_sinks=without,
        never=float(whole["never"]),
        cuts=count,
        width=n / (count + 1),
        worst=0 if worst is None else int(worst["cut"]),
        worst_lost=0.0 if worst is None else float(worst["without sinks"]),
        words="" if worst is None else str(worst["pairs"]),
        error=error,
        control=control,
        sinks=len(result.arrays["sinks"]),
    )


@dataclass(frozen=True, kw_only=True)
class PlaceFinding:
    """Whether cuts at sentence ends lose less than the same lengths in any order: "less", "more", or "alike"."""

    kind: Literal["refused", "less", "alike", "more"]
    sentences: float
    shuffled: float
    low: float
    high: float
    fixed: float
    length: float


def place_finding(result: Result) -> PlaceFinding:
    """Read a `SentenceCuts` result, by the mass outside the sinks: outside the middle 95 % of the orders counts."""
    if "kinds" not in result.tables:
        return PlaceFinding(kind="refused", sentences=0, shuffled=0, low=0, high=0, fixed=0, length=0)
    own, shuffled, fixed = (row for _index, row in result.tables["kinds"].iterrows())
    lost, low, high = float(own["without sinks"]), float(shuffled["low without"]), float(shuffled["high without"])
    return PlaceFinding(
        kind="less" if lost < low else "more" if lost > high else "alike",
        sentences=lost,
        shuffled=float(shuffled["without sinks"]),
        low=low,
        high=high,
        fixed=float(fixed["without sinks"]),
        length=float(own["length"]),
    )


@dataclass(frozen=True, kw_only=True)
class WidthFinding:
    """From which width on any integration errs less than the mean of the visible values; None if only the whole text.

    `kind`: "early" when a width below n does, "whole" when only the one segment of all tokens does, "unknown" when
    nothing could be measured.
    """

    kind: Literal["early", "whole", "unknown"]
    width: int
    label: str
    control: float


def width_finding(rows: pd.DataFrame, n: int) -> WidthFinding:
    """Read the `points` of a `SegmentWidths` result."""
    measured = rows[rows["error"].notna()] if "error" in rows else rows.iloc[:0]
    if not len(measured):
        return WidthFinding(kind="unknown", width=0, label="", control=0.0)
    control = float(measured["control"].iloc[0])
    better = measured[measured["error"] < measured["control"]].sort_values(["width", "error"])
    if not len(better):
        return WidthFinding(kind="unknown", width=0, label="", control=control)
    least = better.iloc[0]
    return WidthFinding(
        kind="early" if int(least["width"]) < n else "whole",
        width=int(least["width"]),
        label=str(least["label"]),
        control=control,
    )
