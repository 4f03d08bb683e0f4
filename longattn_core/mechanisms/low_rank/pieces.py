"""What the low-rank mechanisms share: means of consecutive tokens, and exact attention of a few queries."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts import Sequence, edges, row_chunks
from longattn_core.numerics.softmax import merge


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Consecutive real tokens in groups as equal as whole tokens allow: `group [n]`, −1 for padding; `size [k]`."""

    group: Int[Tensor, "n"]
    size: Int[Tensor, "k"]

    def means(self, x: Float[Tensor, "n w"]) -> Float[Tensor, "k w"]:
        """The mean of each group's rows; padding takes no part. Cost n·w."""
        real = self.group >= 0
        sums = x.new_zeros(len(self.size), x.shape[-1]).index_add(0, self.group[real], x[real])
        return sums / self.size[:, None]

    def members(self, group: int) -> Int[Tensor, "size"]:
        """The tokens of one group."""
        return (self.group == group).nonzero().squeeze(-1)


def consecutive_groups(sequence: Sequence, count: int) -> Groups:
    """Cut the real tokens into at most `count` groups."""
    real = sequence.real
    bounds = torch.tensor(edges(0, int(real.sum()), count), device=real.device)
    group = torch.full((sequence.n,), -1, dtype=torch.int64, device=real.device)
    group[real] = torch.repeat_interleave(torch.arange(len(bounds) - 1, device=real.device), bounds.diff())
    return Groups(group=group, size=bounds.diff())


def attend_some(
    q: Float[Tensor, "r d"], k: Float[Tensor, "n d"], v: Float[Tensor, "n e"]
) -> tuple[Float[Tensor, "r e"], Float[Tensor, "r"]]:
    """Exact unmasked attention of r queries and the logsumexp of their scores. Cost r·n·(d + e); memory about 32 MB."""
    output, lse = v.new_zeros(len(q), v.shape[-1]), v.new_full((len(q),), -math.inf)
    for keys in row_chunks(len(k), len(q)):
        scores = q @ k[keys].mT / math.sqrt(q.shape[-1])
        output, lse = merge(output, lse, scores.softmax(-1) @ v[keys], scores.logsumexp(-1))
    return output, lse


def softmax_over(q: Float[Tensor, "*b r d"], k: Float[Tensor, "*b k d"]) -> Float[Tensor, "*b r k"]:
    """softmax(q kᵀ/√d)."""
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)


def read_through(
    q: Float[Tensor, "n d"], keys: Float[Tensor, "k d"], values: Float[Tensor, "k e"]
) -> Float[Tensor, "n e"]:
    """softmax(q kᵀ/√d) times k values, queries in chunks. Cost n·k·(d + e); memory about 32 MB above the output."""
    return torch.cat([softmax_over(q[rows], keys) @ values for rows in row_chunks(len(q), len(keys))])
