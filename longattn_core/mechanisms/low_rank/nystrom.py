"""Nyström attention: queries and keys are compared only through a few landmarks.

Source: Xiong et al. 2021, arXiv:2102.03902, equation 13. Ours: landmarks are means of *real* tokens, in groups as equal
as whole tokens allow; the pseudo-inverse is the true one, computed head by head in float64, where the paper iterates six
times. The long sums are in float64 too where that inverse would magnify their rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.low_rank.map import LowRankMap
from longattn_core.mechanisms.low_rank.pieces import Groups, attend_some, consecutive_groups, read_through, softmax_over
from longattn_core.wording import noun_for

MAGNIFIED = 2e3
"""The largest absolute row sum of the inverse up to which the long sums are taken in the input's precision."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NystromTrace:
    """The landmarks and the matrix between them, in float64.

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
        scores = self.sequence.k[heads][:, keys].double() @ trace.landmark_queries[heads].mT / math.sqrt(self.sequence.d)
        return (scores - trace.lse[heads][:, None]).exp() * self.sequence.real[keys, None]

    def _story(self, head: int, query: int, key: int) -> tuple[Mapping[str, float | int | str | bool], str]:
        groups: Groups = self.trace.groups
        facts = {"query_landmark": int(groups.group[query]), "key_landmark": int(groups.group[key])}
        size = len(groups.members(facts["key_landmark"]))
        noun = noun_for(self.rank, "landmark")
        own = "the key alone" if size == 1 else f"the mean of {size} keys"
        return ({**facts, "size": size}, f"Query and key meet only through {self.rank} {noun}, and the key's own is {own}")


def nystrom(sequence: Sequence, rank: int, cutoff: float) -> tuple[Float[Tensor, "h n e"], NystromTrace]:
    """The output and the trace. Cost 2·n·k·(d + e) + 12·k³ a head; memory about 64 MB.

    The pseudo-inverse takes singular values below `cutoff` times the largest for 0 (below rounding when it is 0).
    """
    groups = consecutive_groups(sequence, rank)
    outputs, queries, keys, inverses, sums = [], [], [], [], []
    for head in range(sequence.h):
        q, k, v = (x[head : head + 1] for x in (sequence.q, sequence.k, sequence.v))
        landmark_q, landmark_k = (groups.means(x[0].double())[None] for x in (q, k))
        inverse = torch.linalg.pinv(softmax_over(landmark_q, landmark_k), rtol=cutoff or None)
        # The inverse magnifies the rounding errors of the products on both sides of it.
        precise_enough = float(inverse.detach().abs().sum(-1).max()) < MAGNIFIED
        dtype = sequence.q.dtype if precise_enough else torch.float64
        q, k, v = (x.to(dtype) for x in (q, k, v))
        gathered, lse = attend_some(landmark_q.to(dtype), k[:, sequence.real], v[:, sequence.real])
        values = (inverse @ gathered.double()).to(dtype)
        outputs.append(read_through(q, landmark_k.to(dtype), values).to(sequence.q.dtype))
        queries.append(landmark_q)
        keys.append(landmark_k)
        inverses.append(inverse)
        sums.append(lse.double())
    trace = NystromTrace(
        groups=groups,
        landmark_queries=torch.cat(queries),
        landmark_keys=torch.cat(keys),
        inverse=torch.cat(inverses),
        lse=torch.cat(sums),
    )
    return torch.cat(outputs) * sequence.real[:, None], trace
