"""The map of exact attention, and the sentence for each pair.

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Explanation
from longattn_core.numerics.maps.listed import ScoredMap


class ExactReason(StrEnum):
    """Why exact attention gives a pair its weight."""

    OUTWEIGHED = "outweighed"
    LEADS = "leads"


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactTrace:
    """The factor on each query's scores, `[n]`: 1 for plain scaled dot-product attention."""

    factor: Float[Tensor, "n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactMap(ScoredMap):
    """The softmax map itself."""

    trace: ExactTrace

    def _scores(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        sequence = self.sequence
        q = sequence.q[heads][:, queries] * self.trace.factor[queries, None]
        return q @ sequence.k[heads].mT / math.sqrt(sequence.d)

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        weights = self.rows(query, None, head)[0, 0]
        rank = int((weights > weights[key]).sum()) + 1
        visible = int(self.sequence.allowed(query).sum())
        facts = {"rank": rank, "visible": visible, "uniform": 1 / visible}
        reason = ExactReason.LEADS if rank == 1 else ExactReason.OUTWEIGHED
        which = "the largest weight" if rank == 1 else f"the weight of rank {rank}"
        value = f"({weight:.3g}; an equal share is {1 / visible:.3g})"
        text = f"Exact attention sees every key; this one has {which} of {visible} {value}."
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)
