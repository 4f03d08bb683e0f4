"""What a mechanism takes away from the exact rows of some queries: per pair, across a cut, and in all.

Source: ours. A pair loses its exact weight minus the weight that the mechanism still gives it, where that is positive: all
of its weight where the mechanism never reads the pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.sampling import QuerySample
from longattn_core.measures.spread import find_sinks

Counted = Literal["attention", "without sinks", "contribution"]
"""What a pair counts with: its weight; its weight, the sinks' columns left out; its weight times the value's length."""

COUNTED: tuple[Counted, ...] = ("attention", "without sinks", "contribution")


@dataclass(frozen=True, kw_only=True, eq=False)
class LostRows:
    """Rows of some queries of one head, in float64: exact weights, what is lost of them, and what was never read.

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
        rows, kept = attended.rows_and_kept(queries, head)
        given, never = rows[0].double(), exact.masked_fill(kept[0], 0.0)
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

    def behind(self, cuts: Int[Tensor, "c"]) -> Bool[Tensor, "r c"]:
        """The rows that a cut's loss is the mean of: the queries behind it, which alone can look across it."""
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
