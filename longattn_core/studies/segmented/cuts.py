"""What each cut of a segmented text takes from the attention that exact attention would give across it.

Source: ours. A pair of a query and a key *crosses* a cut that stands between them. What it loses is the exact weight minus
the weight that segmented attention still gives it, where that is positive: all of it where the pair is never looked at.
One long pair crosses many cuts, so the cuts' losses do not add up to the whole loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.sampling import QuerySample, sample_queries
from longattn_core.measures.spread import find_sinks
from longattn_core.mechanisms.segmented.map import SegmentedMap
from longattn_core.numerics.softmax import exact_cost
from longattn_core.studies.base.agreement import AGREEMENT_UNITS, agreement_record
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import reading
from longattn_core.studies.base.study import Progress, Result, Setting, Study

SAMPLE = 512
"""Queries whose rows are read; a longer text is sampled."""
PAIRS = 4096
"""The heaviest lost pairs, among which each cut finds its own."""
NAMED = 3
"""How many pairs a cut names."""

Counted = Literal["attention", "without sinks", "contribution"]
"""What a pair counts with: its weight; its weight, the sinks' columns left out; its weight times the value's length."""

COUNTED: tuple[Counted, ...] = ("attention", "without sinks", "contribution")


class Cuts(Study):
    """The loss at every cut, over all queries that stand on the other side of it.

    Table `cuts`, a row a cut: `cut` (the first token behind it), for each way of counting the share of the queries' mass
    that crosses the cut and is lost, `never` (the part of it, by attention, that was never looked at), `queries` (how many
    rows that is the mean of), `pairs` (the heaviest lost pairs across it, in words). Table `whole`, one row: the same shares
    over all pairs, and the agreement with exact attention. Arrays: `boundaries [B+1]`, `segment [n]`, `tokens [n]`,
    `lost [r]` and `queries [r]`: what each sampled query loses; `taken [n]`: what is lost of each key, mean over the rows.
    """

    key: ClassVar[str] = "segmented cuts"
    setting: Setting = Setting(key="segmented")
    head: int = Field(0, ge=0, le=63)

    def _run(self, progress: Progress) -> Result:
        one = reading(self.source, self.setting.build())
        sequence, attended = one.sequence, one.attended
        tokens = tokens_of(sequence)
        arrays = {"tokens": np.array(tokens, dtype=np.str_)}
        words = {"label": one.mechanism.label, "origin": sequence.origin, "leaks": one.mechanism.depends_on_future or ""}
        if attended is None:
            return Result(study=self, arrays=arrays, words=words | {"refusal": one.refusal or ""})
        assert isinstance(attended, SegmentedMap)
        head = min(self.head, sequence.h - 1)
        sample = sample_queries(sequence, SAMPLE)
        progress(0.2, words["label"])
        rows = LostRows.of(attended, sample, head)
        boundaries = attended.trace.boundaries
        cuts = boundaries[1:-1]
        table = pd.DataFrame({"cut": cuts.cpu().numpy()})
        for counted in COUNTED:
            table[counted] = rows.at(cuts, counted).numpy()
        table["never"] = rows.at(cuts, "attention", never=True).numpy()
        table["queries"] = rows.behind(cuts).sum(0).numpy()
        table["pairs"] = _pairs(rows, cuts, tokens)
        table.attrs["units"] = {"cut": "token", "never": "share", "queries": "rows", **dict.fromkeys(COUNTED, "share")}
        whole = {name: rows.whole(name) for name in COUNTED} | {"never": rows.whole("attention", never=True)}
        full = exact_cost(heads=sequence.h, n=sequence.n, d=sequence.d, e=sequence.e, causal=sequence.causal)
        costs = {"cost": attended.cost.multiply_adds, "exact cost": full.multiply_adds}
        share = pd.DataFrame([whole | {"cuts": len(cuts)} | costs | agreement_record(attended, head)])
        share.attrs["units"] = {
            "never": "share",
            "cuts": "cuts",
            **dict.fromkeys(COUNTED, "share"),
            **AGREEMENT_UNITS,
            **{f"{name} without sinks": unit for name, unit in AGREEMENT_UNITS.items()},
        }
        arrays |= {
            "boundaries": boundaries.cpu().numpy(),
            "segment": attended.trace.segment.cpu().numpy(),
            "queries": rows.queries.cpu().numpy(),
            "lost": rows.lost.sum(-1).cpu().numpy(),
            "taken": rows.lost.mean(0).cpu().numpy(),
            "sinks": np.array(rows.sinks, dtype=np.int64),
        }
        words["sample"] = sample.text
        return Result(study=self, arrays=arrays, tables={"cuts": table, "whole": share}, words=words)


@dataclass(frozen=True, kw_only=True, eq=False)
class LostRows:
    """Rows of some queries of one head, in float64: exact weights, what is lost of them, and what was never looked at.

    Shapes: `exact, given, lost, never [r n]`; `queries [r]`; `factors` holds for each way of counting a number a key `[n]`.
    """

    queries: Int[Tensor, "r"]
    exact: Float[Tensor, "r n"]
    given: Float[Tensor, "r n"]
    lost: Float[Tensor, "r n"]
    never: Float[Tensor, "r n"]
    factors: dict[Counted, Float[Tensor, "n"]]
    causal: bool
    sinks: tuple[int, ...]

    @classmethod
    def of(cls, attended: Attended, sample: QuerySample, head: int) -> LostRows:
        """Read the rows. Cost: r·n·(2d) and the mechanism's rows."""
        sequence = attended.sequence
        queries = torch.tensor(sample.queries, device=sequence.q.device)
        exact = exact_rows(sequence, queries, head)[0].double()
        rows, seen = attended.rows_and_kept(queries, head)
        given, never = rows[0].double(), exact.masked_fill(seen[0], 0.0)
        sinks = find_sinks(sequence.select_heads(head), sample)[0]
        return cls(
            queries=queries,
            exact=exact,
            given=given,
            lost=(exact - given).clamp_min(0),
            never=never,
            factors=_factors(sequence, head, sinks),
            causal=sequence.causal,
            sinks=sinks,
        )

    def at(self, cuts: Int[Tensor, "c"], counted: Counted, *, never: bool = False) -> Float[Tensor, "c"]:
        """For each cut, the lost mass that crosses it over the mass of the queries behind it (with no mask, of all)."""
        factor = self.factors[counted]
        lost = (self.never if never else self.lost) * factor
        before = torch.cat([lost.new_zeros(len(lost), 1), lost.cumsum(-1)], dim=1)
        crossing, behind = before[:, cuts], self.behind(cuts)
        if not self.causal:
            crossing = torch.where(self.queries[:, None] >= cuts, crossing, before[:, -1:] - crossing)
        mass = (self.exact * factor).sum(-1)[:, None]
        return _ratio((crossing * behind).sum(0), (mass * behind).sum(0))

    def behind(self, cuts: Int[Tensor, "c"]) -> Tensor:
        """Which rows a cut's loss is the mean of `[r c]`: the queries behind it, which alone can look across."""
        if not self.causal:
            return torch.ones(len(self.queries), len(cuts), dtype=torch.bool, device=cuts.device)
        return self.queries[:, None] >= cuts

    def whole(self, counted: Counted, *, never: bool = False) -> float:
        """The lost mass of all pairs, as a share of all mass."""
        factor = self.factors[counted]
        lost = self.never if never else self.lost
        return float(_ratio((lost * factor).sum(), (self.exact * factor).sum()))


def _factors(sequence: Sequence, head: int, sinks: tuple[int, ...]) -> dict[Counted, Float[Tensor, "n"]]:
    ones = torch.ones(sequence.n, dtype=torch.float64, device=sequence.q.device)
    without = ones.clone()
    without[list(sinks)] = 0.0
    return {"attention": ones, "without sinks": without, "contribution": sequence.v[head].double().norm(dim=-1)}


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1.0), 0.0)


def _pairs(rows: LostRows, cuts: Int[Tensor, "c"], tokens: list[str]) -> list[str]:
    """The heaviest lost pairs across each cut in words, no sinks among them: who would have looked at whom."""
    lost = rows.lost * rows.factors["without sinks"]
    top = lost.flatten().topk(min(PAIRS, lost.numel()))
    found = top.values > 0
    query, key = rows.queries[top.indices[found] // lost.shape[1]], top.indices[found] % lost.shape[1]
    weights = top.values[found].tolist()
    low, high = torch.minimum(query, key), torch.maximum(query, key)
    said = []
    for cut in cuts.tolist():
        crossing = ((low < cut) & (high >= cut)).nonzero().squeeze(-1)[:NAMED].tolist()
        said.append("; ".join(f"{_said(tokens[query[i]])} → {_said(tokens[key[i]])} {weights[i]:.2f}" for i in crossing))
    return said


def _said(token: str) -> str:
    text = token.strip()
    return f"“{text}”" if text else "“␣”"


@dataclass(frozen=True, kw_only=True)
class CutFinding:
    """What a `Cuts` result says: how much is lost, at how many cuts, where most, and whether the output beats the mean.

    `kind`: "refused", "uncut" (one segment, exact), or how much of the attention outside the sinks is lost: "most" from
    one half on, "some" from a tenth, else "little".
    """

    kind: Literal["refused", "uncut", "most", "some", "little"]
    verdict: Literal["better", "worse", "even"]
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


MOST, SOME = 0.5, 0.1
CLOSE = 0.02
"""Errors that differ by less than 2 % of the control are said to be even."""


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


def verdict(error: float, control: float) -> Literal["better", "worse", "even"]:
    """An output's error beside that of the mean of the visible values: only "better" has learnt something."""
    if abs(error - control) < CLOSE * control:
        return "even"
    return "better" if error < control else "worse"
