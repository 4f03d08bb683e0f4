"""What Linformer and Nyström share: means of consecutive tokens, and exact attention with few queries or few keys.

`attend_some` and `read_through` go through torch's kernel where it may be used, else through the plain form below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import edges, row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.block_attention import flash_blocks, kernel_allowed
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
    q: Float[Tensor, "h r d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"]
) -> tuple[Float[Tensor, "h r e"], Float[Tensor, "h r"]]:
    """Exact unmasked attention of r queries and the logsumexp of their scores. Cost h·r·n·(d + e); memory about 32 MB."""
    if kernel_allowed(q, k, v):
        blocks, logs = flash_blocks(q[:, None], k[:, None], v[:, None], None)
        return blocks[:, 0], logs[:, 0]
    output, lse = v.new_zeros(*q.shape[:2], v.shape[-1]), v.new_full(q.shape[:2], -math.inf)
    for keys in row_chunks(k.shape[1], len(q) * q.shape[1]):
        scores = q @ k[:, keys].mT / math.sqrt(q.shape[-1])
        output, lse = merge(output, lse, scores.softmax(-1) @ v[:, keys], scores.logsumexp(-1))
    return output, lse


def softmax_over(q: Float[Tensor, "*b r d"], k: Float[Tensor, "*b k d"]) -> Float[Tensor, "*b r k"]:
    """softmax(q kᵀ/√d)."""
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)


def read_through(
    q: Float[Tensor, "h n d"], keys: Float[Tensor, "h k d"], values: Float[Tensor, "h k e"]
) -> Float[Tensor, "h n e"]:
    """softmax(q kᵀ/√d) times k values, queries in chunks. Cost h·n·k·(d + e); memory about 32 MB above the output."""
    if kernel_allowed(q, keys, values):
        return flash_blocks(q[:, None], keys[:, None], values[:, None], None)[0][:, 0]
    chunks = row_chunks(q.shape[1], len(q) * keys.shape[1])
    return torch.cat([softmax_over(q[:, rows], keys) @ values for rows in chunks], 1)
