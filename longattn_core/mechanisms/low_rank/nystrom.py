"""Nyström attention: every query meets every key through a few landmarks.

Source: Xiong et al. 2021, arXiv:2102.03902, equation 13. Ours: landmarks are means of *real* tokens, in groups as equal
as whole tokens allow; the pseudo-inverse is a true one, head by head in float64, where the paper iterates six times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts import Sequence
from longattn_core.mechanisms.low_rank.pieces import (
    Groups,
    attend_some,
    consecutive_groups,
    read_through,
    softmax_over,
)
from longattn_core.mechanisms.low_rank.view import LowRankMap


@dataclass(frozen=True, kw_only=True, eq=False)
class NystromTrace:
    """The landmarks and what lies between them, in float64.

    `landmark_queries, landmark_keys [h k d]`; `inverse [h k k]` is softmax(Q̃K̃ᵀ/√d)⁺; `lse [h k]` the logsumexp of each
    landmark query's scores over all real keys; `groups` the tokens that each landmark is the mean of.
    """

    groups: Groups
    landmark_queries: Float[Tensor, "h k d"]
    landmark_keys: Float[Tensor, "h k d"]
    inverse: Float[Tensor, "h k k"]
    lse: Float[Tensor, "h k"]

    @property
    def landmarks(self) -> tuple[Float[Tensor, "h k d"], Float[Tensor, "h k d"]]:
        """Of the queries and of the keys."""
        return self.landmark_queries, self.landmark_keys


@dataclass(frozen=True, kw_only=True, eq=False)
class NystromMap(LowRankMap):
    """softmax(QK̃ᵀ)·softmax(Q̃K̃ᵀ)⁺ on the left, softmax(Q̃Kᵀ) on the right, in float64."""

    def _left(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r k"]:
        trace: NystromTrace = self.trace
        near = softmax_over(self.sequence.q[heads][:, queries].double(), trace.landmark_keys[heads])
        return near @ trace.inverse[heads] * self.sequence.real[queries, None]

    def _right(self, keys: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c k"]:
        trace: NystromTrace = self.trace
        scores = (
            self.sequence.k[heads][:, keys].double() @ trace.landmark_queries[heads].mT / math.sqrt(self.sequence.d)
        )
        return (scores - trace.lse[heads][:, None]).exp() * self.sequence.real[keys, None]

    def _story(self, head: int, query: int, key: int) -> tuple[Mapping[str, float | int | str | bool], str]:
        groups: Groups = self.trace.groups
        facts = {"query_landmark": int(groups.group[query]), "key_landmark": int(groups.group[key])}
        size = len(groups.members(facts["key_landmark"]))
        noun = "landmark" if self.rank == 1 else "landmarks"
        own = "the key alone" if size == 1 else f"the mean of {size} keys"
        return (
            {**facts, "size": size},
            f"Query and key meet only through {self.rank} {noun}, and the key's own is {own}",
        )


def nystrom(sequence: Sequence, rank: int, cutoff: float) -> tuple[Float[Tensor, "h n e"], NystromTrace]:
    """The output and the trace. Cost 2·n·k·(d + e) + 12·k³ a head; memory about 64 MB.

    The pseudo-inverse takes singular values below `cutoff` times the largest for 0 (below rounding when it is 0).
    """
    groups = consecutive_groups(sequence, rank)
    tokens = sequence.real
    outputs, queries, keys, inverses, sums = [], [], [], [], []
    for head in range(sequence.h):
        q, k, v = (x[head].double() for x in (sequence.q, sequence.k, sequence.v))
        landmark_q, landmark_k = groups.means(q), groups.means(k)
        between = softmax_over(landmark_q, landmark_k)
        inverse = torch.linalg.pinv(between, rtol=cutoff or None)
        gathered, lse = attend_some(landmark_q, k[tokens], v[tokens])
        outputs.append(read_through(q, landmark_k, inverse @ gathered))
        queries.append(landmark_q)
        keys.append(landmark_k)
        inverses.append(inverse)
        sums.append(lse)
    trace = NystromTrace(
        groups=groups,
        landmark_queries=torch.stack(queries),
        landmark_keys=torch.stack(keys),
        inverse=torch.stack(inverses),
        lse=torch.stack(sums),
    )
    return torch.stack(outputs).to(sequence.q.dtype) * sequence.real[:, None], trace
