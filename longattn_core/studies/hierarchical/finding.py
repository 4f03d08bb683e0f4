"""What a descent says, in words: the numbers, and which sentence they allow, by rules that are tested. Source: ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from longattn_core.studies.base.study import Result
from longattn_core.studies.hierarchical.wrong_turns import ARRIVES, CLEAR, LEFT

KEPT = 0.5
"""The best token is found if it gets at least this share of its exact weight."""

Kind = Literal["refused", "alone", "sinks", "spread", "lost", "blurred", "found"]


@dataclass(frozen=True, kw_only=True)
class DescentFinding:
    """One descent, and how it went for the others.

    `kind`: the mechanism cannot read the sequence (refused); the query sees one outermost group only (alone); leaves nothing
    outside the sinks (sinks); has no group with half of the rest (spread); the mechanism prefers another group (lost); the
    right group, but its best token gets less than half of its exact weight (blurred); the right group and the token (found).
    `target` and `chosen` are the groups' labels, `exact` and `given` the shares that the target gets, `rival` what the chosen
    one gets from the mechanism, all of the mass outside the sinks. `best` is the token's place, `best_exact` and `best_given`
    its weights. `targets` queries of `measured` have a target; `lost_share` of those lose it at the outermost level, and
    `arrive_share` arrive.
    """

    kind: Kind
    outer: str
    target: str
    chosen: str
    exact: float
    given: float
    rival: float
    best: int
    best_exact: float
    best_given: float
    sink_share: float
    own: bool
    measured: int
    targets: int
    lost_share: float
    arrive_share: float


def descent_finding(descent: Result, wrong: Result) -> DescentFinding:
    """Read a `Descent` and a `WrongTurns` of the same source and setting."""
    if "refusal" in descent.words:
        measured = ("exact", "given", "rival", "best_exact", "best_given", "sink_share", "lost_share", "arrive_share")
        nothing = dict.fromkeys(measured, 0.0)
        return DescentFinding(kind="refused", outer="", target="", chosen="", best=0, own=False, measured=0, targets=0, **nothing)
    nodes = descent.tables["nodes"]
    outer = nodes[nodes["depth"] == 0].reset_index(drop=True)
    exact, given = outer["exact plain"].to_numpy(), outer["mechanism plain"].to_numpy()
    total, passed = float(exact.sum()), float(given.sum())
    right, picked = int(exact.argmax()), int(given.argmax())
    row = np.nan_to_num(descent.arrays["exact"]).copy()
    row[descent.arrays["sinks"]] = 0.0
    best = int(row.argmax())
    weight = float(np.nan_to_num(descent.arrays["mechanism"])[best])
    queries = wrong.tables["queries"]
    return DescentFinding(
        kind=kind_of(
            groups=len(outer),
            left=total,
            share=_share(exact[right], total),
            same=right == picked,
            kept=_share(weight, float(row[best])),
        ),
        outer=str(outer["level"].iloc[0]),
        target=str(outer["label"][right]),
        chosen=str(outer["label"][picked]),
        exact=_share(exact[right], total),
        given=_share(given[right], passed),
        rival=_share(given[picked], passed),
        best=best,
        best_exact=float(row[best]),
        best_given=weight,
        sink_share=1 - total,
        own=bool(outer["own"][right]),
        measured=int(wrong.arrays["measured"]),
        targets=len(queries),
        lost_share=_part(queries, wrong.words["outer"]),
        arrive_share=_part(queries, ARRIVES),
    )


def kind_of(*, groups: int, left: float, share: float, same: bool, kept: float) -> Kind:
    """The sentence that the numbers allow: the first rule that holds, in the order of `DescentFinding.kind`."""
    if groups < 2:
        return "alone"
    if left < LEFT:
        return "sinks"
    if share < CLEAR:
        return "spread"
    if not same:
        return "lost"
    return "found" if kept >= KEPT else "blurred"


def _share(part: float, whole: float) -> float:
    return float(part) / whole if whole > 0 else 0.0


def _part(queries: pd.DataFrame, outcome: str) -> float:
    return float((queries["outcome"] == outcome).mean()) if len(queries) else float("nan")
