"""What a pattern sees and loses, in words: the sentences of the page are chosen here, from the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from longattn_core.studies.base.recall_point import FINDS, LIFT, judged, number
from longattn_core.studies.base.study import Result
from longattn_core.studies.window.ledger import PARTS
from longattn_core.studies.window.swaps import Swaps, candidates

ENOUGH = 0.9
"""A pattern that sees so much of the weight outside the sinks is enough for this head."""

Kind = Literal["enough", "sink", "misses", "chance", "everything", "refused"]


@dataclass(frozen=True, kw_only=True)
class LedgerFinding:
    """Means over the queries of the ledger's parts, and the asked query's own.

    `kind`: "everything" where all pairs are looked at; "enough" where the pattern sees nearly all of the weight
    outside the sinks; "chance" where it sees no more of that than a blind choice of as many pairs; "sink" where most
    of what it sees is a sink's or a first token's; "misses" what is left. `asked`: whether the asked query's
    strongest pair is seen.
    """

    kind: Kind
    near: float
    first: float
    blocks: float
    lost: float
    lost_sinks: float
    recall: float
    share: float
    error: float
    control: float
    asked: Literal["seen", "lost"]
    weight: float
    distance: int
    asked_lost: float


def ledger_finding(result: Result) -> LedgerFinding:
    """Read a `Ledger` result."""
    if "refusal" in result.words:
        nothing = float("nan")
        return LedgerFinding(
            kind="refused",
            near=nothing,
            first=nothing,
            blocks=nothing,
            lost=nothing,
            lost_sinks=nothing,
            recall=nothing,
            share=nothing,
            error=nothing,
            control=nothing,
            asked="lost",
            weight=nothing,
            distance=0,
            asked_lost=nothing,
        )
    arrays, agreement = result.arrays, result.tables["agreement"]
    near, first, blocks, lost_sinks, lost_else = (float(x) for x in arrays["shares"].mean(0))
    query, marked = int(arrays["query"]), int(arrays["marked"])
    recall, share = (number(agreement, name, which="without sinks") for name in ("recall", "share"))
    asked = arrays["shares"][list(arrays["queries"]).index(query)]
    return LedgerFinding(
        kind=_kind(recall, share, near, first),
        near=near,
        first=first,
        blocks=blocks,
        lost=lost_sinks + lost_else,
        lost_sinks=lost_sinks,
        recall=recall,
        share=share,
        error=number(agreement, "error", which="whole"),
        control=number(agreement, "control", which="whole"),
        asked="seen" if bool(arrays["seen"]) else "lost",
        weight=float(arrays["weight"]),
        distance=abs(query - marked),
        asked_lost=float(asked[PARTS.index("lost to sinks")] + asked[PARTS.index("lost elsewhere")]),
    )


def _kind(recall: float, share: float, near: float, first: float) -> Kind:
    if share >= 0.999:
        return "everything"
    if recall >= ENOUGH:
        return "enough"
    if first > near:
        return "sink"
    return "chance" if judged(recall, share) == "chance" else "misses"


@dataclass(frozen=True, kw_only=True)
class ActiveFinding:
    """How well the sampled measure finds the queries that stand out.

    `kind`: "finds" most of those that the exact measure would let attend, "misses" them, or "all" attend; "helps"
    says whether the output comes nearer to exact attention than the mean of the visible values does.
    """

    kind: Literal["finds", "misses", "all"]
    active: int
    rightful: int
    both: int
    queries: int
    error: float
    control: float

    @property
    def chance(self) -> float:
        """The share of the rightful ones that a blind choice of as many queries would find."""
        return self.active / max(1, self.queries)


def active_finding(result: Result) -> ActiveFinding:
    """Read an `ActiveQueries` result."""
    table, agreement = result.tables["queries"], result.tables["agreement"]
    active, rightful = int(table["active"].sum()), int(table["rightful"].sum())
    both = int((table["active"] & table["rightful"]).sum())
    kind: Literal["finds", "misses", "all"] = "all"
    if active < len(table):
        found = both / max(1, rightful)
        kind = "finds" if found >= FINDS and (found - active / len(table)) / (1 - active / len(table)) >= LIFT else "misses"
    return ActiveFinding(
        kind=kind,
        active=active,
        rightful=rightful,
        both=both,
        queries=len(table),
        error=number(agreement, "error", measure="sampled"),
        control=number(agreement, "control", measure="sampled"),
    )


@dataclass(frozen=True, kw_only=True)
class SwapFinding:
    """What perplexity says and what it hides.

    `kind`: "hides" when some pattern comes within `NEAR` of the exact model's perplexity and yet gives what should
    come next less than half of its probability; "shows" when none does so; "unsure" when the exact model itself
    expects nothing in particular; "waiting" while that cannot be told yet.
    """

    kind: Literal["hides", "shows", "unsure", "waiting"]
    exact: float
    expected: float
    name: str
    perplexity: float
    probability: float
    hashed: float
    combined: float
    alone: float


NEAR = 1.25
"""A perplexity within this factor of the exact model's is near it."""
SURE = 0.5
"""From this probability on the exact model is said to know what comes next."""


def swap_finding(result: Result) -> SwapFinding:
    """Read a `Swaps` result, whole or with only some of its points."""
    table = result.tables["swaps"]
    known = {
        place: number(table, "perplexity", name=name)
        for place, name in (
            ("hashed", "hash 16 × 4"),
            ("combined", "hash + 4 sinks + window 16"),
            ("alone", "window 16 + 4 sinks"),
        )
    }
    reference, sure = (number(table, column, key="exact") for column in ("perplexity", "probability"))
    if math.isnan(reference):
        nothing = float("nan")
        return SwapFinding(
            kind="waiting", exact=nothing, expected=nothing, name="", perplexity=nothing, probability=nothing, **known
        )
    others = table[table["key"] != "exact"]
    hiding = others[(others["perplexity"] <= NEAR * reference) & (others["probability"] < sure / 2)]
    kind: Literal["hides", "shows", "unsure", "waiting"] = "unsure" if sure < SURE else "hides" if len(hiding) else "shows"
    if kind == "shows" and len(table) < _patterns_of(result):
        # What one pattern does can be said at once; that none does, only of all of them.
        kind = "waiting"
    nearest = (hiding if len(hiding) else others).sort_values("perplexity", kind="stable")
    best = str(nearest["name"].iloc[0]) if len(nearest) else ""
    return SwapFinding(
        kind=kind,
        exact=reference,
        expected=sure,
        name=best,
        perplexity=number(table, "perplexity", name=best),
        probability=number(table, "probability", name=best),
        **known,
    )


def _patterns_of(result: Result) -> int:
    """How many patterns the whole sweep has."""
    study = result.study_as(Swaps)
    return len({name for name, _mechanism in candidates(study.width, study.sinks)})
