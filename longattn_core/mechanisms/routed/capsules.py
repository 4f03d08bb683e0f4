"""Capsules: tokens vote on a few vectors, agree on them over some rounds, and read them back.

Source: Sabour et al. 2017, arXiv:1710.09829, procedure 1. Our deviations: a token's vote for every capsule is its value
(the paper learns a matrix for each pair), and the first logits are q·κ with drawn κ, because with zeros all capsules would
stay equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Mechanism, ReadCount
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.draws import normal
from longattn_core.numerics.maps.factored import FactoredMap


class CapsuleReason(StrEnum):
    """How a key's value comes back to a query."""

    SHARED_CAPSULE = "shared capsule"


@dataclass(frozen=True, kw_only=True, eq=False)
class CapsuleTrace:
    """Every draw and every step, for c capsules and t iterations.

    `directions [c d]` are the drawn κ; `couplings [t h n c]`, each token's shares in each iteration, zero for padding;
    `capsules [h c e]`, the capsules' vectors after the last iteration; `lengths [t h c]`, their lengths, below 1.
    """

    directions: Float[Tensor, "c d"]
    couplings: Float[Tensor, "t h n c"]
    capsules: Float[Tensor, "h c e"]
    lengths: Float[Tensor, "t h c"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CapsuleMap(FactoredMap):
    """Couplings to read times squashing times couplings to write; the couplings depend on v, so rows are valid for this v only.

    `shrink [h c]` is the factor of the squashing on each capsule's sum.
    """

    shrink: Float[Tensor, "h c"]

    def _left(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r m"]:
        left: Tensor = self.trace.couplings[-1][heads][:, queries] * self.shrink[heads][:, None]
        return left

    def _right(self, keys: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c m"]:
        right: Tensor = self.trace.couplings[-1][heads][:, keys]
        return right

    def _read_count(self, head: int, query: int) -> ReadCount:
        return ReadCount(count=self.shrink.shape[1], unit="capsules")

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        reading, writing = self.trace.couplings[-1][head, query], self.trace.couplings[-1][head, key]
        through = reading * self.shrink[head] * writing
        best = int(through.argmax())
        share = float(through[best]) / weight if weight > 0 else 0.0
        facts: dict[str, float | int | str | bool] = {
            "capsule": best,
            "capsules": len(reading),
            "query_coupling": float(reading[best]),
            "key_coupling": float(writing[best]),
            "share": share,
            "length": float(self.trace.lengths[-1, head, best]),
        }
        text = (
            f"The key writes a share of {facts['key_coupling']:.2g} into capsule {best} and the query reads a share of "
            f"{facts['query_coupling']:.2g} from it: {share:.0%} of this weight goes that way, and the rest through the others."
        )
        return Explanation(kept=kept, exact=exact, weight=weight, reason=CapsuleReason.SHARED_CAPSULE, facts=facts, text=text)


def attend_capsules(mechanism: Mechanism, sequence: Sequence, *, capsules: int, iterations: int) -> Attended:
    """Cost: n·c·(d + (2t + 1)·e) a head; memory t·n·c for the couplings of every iteration."""
    q, v = sequence.q, sequence.v
    real = sequence.real[:, None].to(v.dtype)
    directions = normal(mechanism.seed, "capsules", capsules, sequence.d, like=q) / math.sqrt(sequence.d)
    logits = q @ directions.mT
    couplings, lengths = [], []
    for _ in range(iterations):
        shares = logits.softmax(-1) * real
        sums = shares.mT @ v
        length = sums.norm(dim=-1)
        shrink = length / (1 + length.square())
        vectors = sums * shrink[..., None]
        couplings.append(shares)
        lengths.append(length * shrink)
        logits = logits + v @ vectors.mT
    trace = CapsuleTrace(directions=directions, couplings=torch.stack(couplings), capsules=vectors, lengths=torch.stack(lengths))
    h, n, d, e, size = sequence.h, sequence.n, sequence.d, sequence.e, q.element_size()
    cells = h * n * capsules
    cost = Cost(
        multiply_adds=cells * (d + (2 * iterations + 1) * e),
        bytes_moved=size * iterations * (4 * cells + 2 * h * n * e),
        bytes_peak=size * (iterations + 2) * cells,
    )
    return CapsuleMap(mechanism=mechanism, sequence=sequence, output=shares @ vectors, trace=trace, cost=cost, shrink=shrink)
