"""Which keys a query sees by position: a window, a few fixed tokens, random blocks; and which blocks it chooses by content.

Source: Beltagy et al. 2020, arXiv:2004.05150, section 3.1 (window, dilation, global tokens); Zaheer et al. 2020,
arXiv:2007.14062, section 2 (random blocks); Xiao et al. 2023, arXiv:2309.17453, section 3 (sinks); Lu et al. 2025,
arXiv:2502.13189, section 2.2 (a block is scored by the query times its mean key).
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, unflatten
from torch.nn.functional import pad

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.draws import generator

Part: TypeAlias = tuple[Float[Tensor, "h n e"], Float[Tensor, "h n"]]
"""The output of one part of a pattern, and the logsumexp of its scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pattern:
    """What the positions of two tokens decide, for one sequence.

    The window reaches `back` steps of `dilation` tokens back and `ahead` steps ahead (`back` −1: there is no window).
    `columns` are tokens that every query sees, `full` queries that see every key; `random [u r]` are the blocks drawn for each
    block of queries (−1: none); `block` is the number of tokens in a block.
    """

    n: int
    causal: bool
    real: Bool[Tensor, "n"]
    back: int
    ahead: int
    dilation: int
    columns: Int[Tensor, "s"]
    full: Int[Tensor, "f"]
    block: int
    random: Int[Tensor, "u r"]

    @property
    def blocks(self) -> int:
        """The number of blocks, a partly filled last one included."""
        return math.ceil(self.n / self.block)

    def in_window(self, queries: Int[Tensor, "*#r"], keys: Int[Tensor, "*#r"]) -> Bool[Tensor, "..."]:
        """Whether the window holds the pair, by distance alone (broadcasts)."""
        lag = queries - keys
        return (lag % self.dilation == 0) & (lag <= self.back * self.dilation) & (lag >= -self.ahead * self.dilation)

    def is_column(self, keys: Int[Tensor, "*r"]) -> Bool[Tensor, "*r"]:
        """Whether every query sees this key."""
        column = torch.zeros(self.n, dtype=torch.bool, device=keys.device)
        column[self.columns] = True
        return column[keys]

    def allowed(self, queries: Int[Tensor, "*#r"], keys: Int[Tensor, "*#r"]) -> Bool[Tensor, "..."]:
        """Whether the mask allows the pair; a key outside 0 … n − 1 is never allowed."""
        inside = (keys >= 0) & (keys < self.n)
        both_real = inside & self.real[keys.clamp(0, self.n - 1)] & self.real[queries]
        return both_real & (keys <= queries) if self.causal else both_real

    def only_in_blocks(self, queries: Int[Tensor, "*#r"], keys: Int[Tensor, "*#r"]) -> Bool[Tensor, "..."]:
        """Whether the mask allows the pair, and neither the window nor the columns hold it."""
        elsewhere = self.in_window(queries, keys) | self.is_column(keys.clamp(0, self.n - 1))
        return self.allowed(queries, keys) & ~elsewhere

    def window_keys(self, queries: Int[Tensor, "r"]) -> Int[Tensor, "r w"]:
        """The keys in each query's window, −1 where there is none."""
        steps = torch.arange(-self.ahead, self.back + 1, device=queries.device).flip(0)
        keys = queries[:, None] - steps * self.dilation
        return keys.where(self.allowed(queries[:, None], keys), -1)

    def column_keys(self, queries: Int[Tensor, "r"]) -> Int[Tensor, "r s"]:
        """The columns that each query sees outside its window, −1 elsewhere."""
        keys, rows = self.columns[None, :].expand(len(queries), -1), queries[:, None]
        return keys.where(self.allowed(rows, keys) & ~self.in_window(rows, keys), -1)

    def block_keys(self, queries: Int[Tensor, "*#r"], blocks: Int[Tensor, "*#r m"]) -> Int[Tensor, "... c"]:
        """The keys of the given blocks that are in neither window nor columns, −1 elsewhere; block −1 has no keys."""
        within = torch.arange(self.block, device=blocks.device)
        keys = torch.where(blocks[..., None] < 0, -1, blocks[..., None] * self.block + within).flatten(-2)
        return keys.where(self.only_in_blocks(queries[..., None], keys), -1)


def random_blocks(seed: int, blocks: int, count: int, causal: bool) -> Int[Tensor, "u r"]:
    """For each block of queries, `count` other blocks without repetition (past ones only when causal), −1 where there are fewer.

    Floyd's method: the t-th pick is uniform in 0 … t; where that number is drawn already, it is t itself. Under a causal mask
    a block's draw does not depend on how many blocks follow. Cost: blocks·count².
    """
    own = torch.arange(blocks)
    population = own if causal else torch.full_like(own, blocks - 1)
    chance = torch.rand(blocks, count, generator=generator(seed, "random blocks"), dtype=torch.float64)
    drawn = population.clamp_max(count)
    out = torch.full((blocks, count), -1, dtype=torch.int64)
    for step in range(count):
        last = population - drawn + step
        pick = (chance[:, step] * (last + 1)).floor().to(torch.int64).minimum(last)
        pick = torch.where((out[:, :step] == pick[:, None]).any(-1), last, pick)
        out[:, step] = torch.where(step < drawn, pick, -1)
    return out if causal else torch.where(out >= own[:, None], out + 1, out)


def block_means(x: Float[Tensor, "h n d"], pattern: Pattern) -> Float[Tensor, "h B d"]:
    """The mean of each block's real tokens, zero for a block without any. Cost n·d."""
    missing = pattern.blocks * pattern.block - pattern.n
    shape = (pattern.blocks, pattern.block)
    real = unflatten(pad(pattern.real, (0, missing)), 0, shape)[..., None].to(x.dtype)
    return (unflatten(pad(x, (0, 0, 0, missing)), 1, shape) * real).sum(2) / real.sum(1).clamp_min(1)


def block_scores(
    q: Float[Tensor, "h r d"], queries: Int[Tensor, "r"], means: Float[Tensor, "h B d"], pattern: Pattern
) -> Float[Tensor, "h r B"]:
    """The score of each block for each query: q times the block's mean key. Cost r·B·d.

    It is −inf for the query's own block, for a block without real tokens and, under a causal mask, for every block that does
    not lie before the query's own.
    """
    blocks = torch.arange(pattern.blocks, device=q.device)
    own = queries[:, None] // pattern.block
    missing = pattern.blocks * pattern.block - pattern.n
    filled = unflatten(pad(pattern.real, (0, missing)), 0, (-1, pattern.block)).any(-1)
    eligible = filled & pattern.real[queries, None] & ((blocks < own) if pattern.causal else (blocks != own))
    return (q @ means.mT / math.sqrt(q.shape[-1])).masked_fill(~eligible, -math.inf)


def chosen_blocks(sequence: Sequence, means: Float[Tensor, "h B d"], pattern: Pattern, count: int) -> Int[Tensor, "h n m"]:
    """The `count` best blocks of each query in order of position, −1 where there are fewer; of equal scores the earlier block.

    Cost h·n·B·d; memory: 4 M scores at once.
    """
    width = min(count, pattern.blocks - 1)
    parts = []
    for rows in row_chunks(sequence.n, sequence.h * pattern.blocks):
        queries = torch.arange(rows.start, rows.stop, device=sequence.q.device)
        scores = block_scores(sequence.q[:, rows], queries, means, pattern)
        parts.append(_best(scores, width))
    return torch.cat(parts, dim=1)


def _best(scores: Float[Tensor, "h r B"], count: int) -> Int[Tensor, "h r m"]:
    """The blocks of the `count` largest finite scores (count < B), in order of position."""
    if count == 0:
        return torch.empty(*scores.shape[:2], 0, dtype=torch.int64, device=scores.device)
    values, indices = scores.topk(count + 1, dim=-1)
    chosen, best = indices[..., :count], values[..., :count]
    # `topk` does not say which of two equal scores it takes: where that matters, a stable sort takes the earlier one.
    tie = (best[..., -1] == values[..., count]) & (best[..., -1] > -math.inf)
    if bool(tie.any()):
        chosen = chosen.index_put((tie,), scores[tie].sort(dim=-1, descending=True, stable=True).indices[:, :count])
    blocks = scores.shape[-1]
    ordered = torch.where(best > -math.inf, chosen, blocks).sort(dim=-1).values
    return torch.where(ordered == blocks, -1, ordered)
