"""What became of the needle as the text grew, and whether a remedy helps: chosen by rules on the measured shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

__all__ = ["KEEPS", "MOSTLY", "SEEN", "DilutionFinding", "Kind", "RemedyFinding", "dilution_finding", "remedy_finding"]

SEEN = 0.1
"""A key whose weight never reaches this is not what the query looks for."""
KEEPS = 0.8
"""A needle keeps its weight if at the longest length it has at least this part of its largest share."""
MOSTLY = 2 / 3
"""If at least this part of the loss went to the sinks, it is called theirs; likewise for the other keys."""
MANY = 32.0
"""From so many effective tokens on, the other keys are called a crowd."""

Kind = Literal["holds", "sinks", "crowd", "both", "never_sinks", "never_crowd", "never_few", "alone"]


@dataclass(frozen=True, kw_only=True)
class DilutionFinding:
    """The needle's largest share and its share at the longest length, and who took what it lost.

    `kind`: it holds; it lost to the sinks, to the crowd of other keys, or to both; or it was never seen, and the sinks, a
    crowd, or a few other keys hold the weight. "alone" where there are not two lengths to compare. `to_sinks` is the part of
    the loss that went to the sinks.
    """

    kind: Kind
    best: float
    best_n: int
    last: float
    last_n: int
    sinks: float
    rest: float
    to_sinks: float
    effective: float


def dilution_finding(points: pd.DataFrame) -> DilutionFinding:
    """Read a table of shares over lengths, of one head. Raises: ValueError when it is empty."""
    if points.empty:
        raise ValueError("Nothing has been measured yet.")
    ordered = points.sort_values("n")
    last, best = ordered.iloc[-1], ordered.iloc[int(ordered["needle"].to_numpy().argmax())]
    lost = float(best["needle"] - last["needle"])
    gained = max(float(last["sinks"] - best["sinks"]), 0.0)
    to_sinks = min(gained / lost, 1.0) if lost > 0 else 0.0
    return DilutionFinding(
        kind=_kind(ordered, float(best["needle"]), float(last["needle"]), to_sinks, last),
        best=float(best["needle"]),
        best_n=int(best["n"]),
        last=float(last["needle"]),
        last_n=int(last["n"]),
        sinks=float(last["sinks"]),
        rest=float(last["rest"]),
        to_sinks=to_sinks,
        effective=float(last["effective without sinks"]),
    )


def _kind(ordered: pd.DataFrame, best: float, final: float, to_sinks: float, last: pd.Series) -> Kind:
    if len(ordered) < 2 or int(last["n"]) < 2:
        return "alone"
    if best < SEEN:
        if float(last["sinks"]) >= 0.5:
            return "never_sinks"
        return "never_crowd" if float(last["effective without sinks"]) >= MANY else "never_few"
    if final >= KEEPS * best:
        return "holds"
    if to_sinks >= MOSTLY:
        return "sinks"
    return "crowd" if to_sinks <= 1 - MOSTLY else "both"


@dataclass(frozen=True, kw_only=True)
class RemedyFinding:
    """The needle's share at the longest length without and with each remedy; `kind` says whether one helps.

    "helps" where some remedy adds at least `CHANGES`, "hurts" where none does and one takes as much away, else "little".
    """

    kind: Literal["helps", "hurts", "little"]
    n: int
    plain: float
    best: str
    best_share: float
    worst: str
    worst_share: float


CHANGES = 0.05
"""A remedy changes something if the share moves by this much."""


def remedy_finding(points: pd.DataFrame) -> RemedyFinding:
    """Compare the remedies at the longest length of a table of one head."""
    last = points.sort_values("n").iloc[-1]
    shares = {name.partition(":")[2]: float(last[name]) for name in points.columns if str(name).startswith("needle:")}
    plain = float(last["needle"])
    best, worst = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    kind: Literal["helps", "hurts", "little"] = "little"
    if shares[best] >= plain + CHANGES:
        kind = "helps"
    elif shares[worst] <= plain - CHANGES:
        kind = "hurts"
    return RemedyFinding(
        kind=kind, n=int(last["n"]), plain=plain, best=best, best_share=shares[best], worst=worst, worst_share=shares[worst]
    )
