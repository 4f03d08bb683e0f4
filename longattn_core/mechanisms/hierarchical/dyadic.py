"""Near tokens fine, far tokens coarse: blocks of 2, 4, 8, … tokens, each pair covered exactly once.

Source: Zhu & Soricut 2021, H-Transformer-1D, arXiv:2107.11906, sections 4 and 5 (the hierarchy of a near-diagonal block
and blocks that double), itself a form of Hackbusch's H-matrices. Our deviation: *near_far* keeps every query fine, so that it
can be causal; a last, ragged block is the mean of the tokens it has.

Definition, with blocks of w tokens (w even). A query reads one by one the keys of its own block and of the two neighbouring
blocks. At level l = 1, 2, … there are coarse tokens of 2^l tokens. Level l covers the blocks of w·2^(l−1) tokens that level
l − 1 did not cover: those inside the query's own block of w·2^l tokens or a neighbour of it, except the query's own block of
w·2^(l−1) tokens and its neighbours. So a pair (i, j) is read at the least level l with |⌊i/(w·2^l)⌋ − ⌊j/(w·2^l)⌋| ≤ 1. A
coarse token J has the mean key K_J and the mean value of its N_J real tokens, and counts as all of them: the output is one
softmax over everything that is read, with the score q·K_J/√d + ln N_J.

*near_far*: q is the query's own, with at most 3w + 1.5·w·log2(n/w) keys. Under a causal mask only blocks before its own are
read as blocks, and these are complete.
*h1d*: at level l, q is the mean query of the 2^l tokens around the query, so each level costs half of the one below it, and all
of them O(n·w·d). That mean includes later tokens, so h1d refuses a causal mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.softmax import masked_softmax, softmax_and_lse
from longattn_core.numerics.tiles.cutting import cut_tiles, laid_out, spans
from longattn_core.numerics.tiles.groups import Groups, mean_groups
from longattn_core.numerics.tiles.reading import Read, TiledReader

FAR = ((-2, 2, 3), (-3, -2, 2))
"""Blocks that a level covers, relative to the own block, for an even and for an odd own block.

They are the children of the parent's neighbours, except the own block's neighbours.
"""


def dyadic_levels(sequence: Sequence, block: int) -> tuple[Groups, ...]:
    """Coarse tokens of 2, 4, 8, … tokens, as long as the level below has more than two blocks."""
    tokens = torch.arange(sequence.n, device=sequence.q.device)
    levels: list[Groups] = []
    while math.ceil(sequence.n / (block << len(levels))) > 2:
        levels.append(mean_groups(sequence, tokens >> (len(levels) + 1)))
    return tuple(levels)


@dataclass(frozen=True, kw_only=True, eq=False)
class DyadicReader(TiledReader):
    """Fine queries: the tokens of three blocks of `block` (even) tokens, and coarser blocks beyond."""

    block: int

    def tiles(self) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """Tiles within one block: all its queries read the same items."""
        n = self.sequence.n
        return cut_tiles(torch.arange(0, n, self.block, device=self.sequence.q.device), n)

    @property
    def widest(self) -> int:
        """Three blocks of tokens and three half blocks a level; under a causal mask two of each."""
        sides = 2 if self.sequence.causal else 3
        return min(self.sequence.n, sides * self.block) + len(self.groups) * sides * (self.block // 2)

    @cached_property
    def bias(self) -> Float[Tensor, "P"]:
        """ln of the real tokens of each item."""
        sizes = torch.cat([torch.ones_like(self.sequence.real).long(), *(groups.size for groups in self.groups)])
        return sizes.clamp_min(1).to(self.sequence.q.dtype).log()

    def listed(self, first: Int[Tensor, "b"], stop: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
        """The tokens of the own block and its neighbours, then the coarse tokens of each level."""
        return torch.cat([self.near(first, stop), *(self.far(i + 1, first) for i in range(len(self.groups)))], dim=1)

    def near(self, first: Int[Tensor, "b"], stop: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
        """The tokens of the own block and of its neighbours; under a causal mask none after the tile."""
        own = first // self.block
        low = ((own - 1) * self.block).clamp_min(0)
        return spans(low, stop if self.sequence.causal else ((own + 2) * self.block).clamp_max(self.sequence.n))

    def far(self, level: int, first: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
        """The coarse tokens of one level for queries of the block around token `first`; −1 for none."""
        half, groups = self.block // 2, self.groups[level - 1]
        own = first // (self.block << (level - 1))
        steps = torch.tensor(FAR, device=first.device)[own % 2]
        if self.sequence.causal:
            steps = torch.where(steps < 0, steps, 0)[:, :2]
        blocks = torch.where((steps == 0) | (own[:, None] + steps < 0), -1, own[:, None] + steps)
        items = blocks[..., None] * half + torch.arange(half, device=first.device)
        exists = (blocks[..., None] >= 0) & (items < groups.count)
        return torch.where(exists, self.bases[level] + items, -1).flatten(1)

    def visible(
        self, queries: Int[Tensor, "b T"], listed: Int[Tensor, "b C"], shared: Int[Tensor, "S"]
    ) -> tuple[Bool[Tensor, "b T C"], Bool[Tensor, "b T S"]]:
        """Tokens that the mask allows, and coarse tokens that hold a real one."""
        asks = self.asks(queries)[..., None]
        coarse = (listed >= self.sequence.n) & self.alive[listed.clamp_min(0)]
        return self.tokens_read(queries, listed) | (coarse[:, None] & asks), asks.expand(-1, -1, len(shared))


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseReader(DyadicReader):
    """Coarse queries: at each level the mean query of the coarse token that holds the query."""

    @cached_property
    def queries(self) -> Float[Tensor, "h m d"]:
        """The tokens' queries, then the mean queries of each level."""
        return torch.cat([self.sequence.q, *(groups.q for groups in self.groups)], dim=1)

    def scores(
        self,
        q: Float[Tensor, "g m d"],
        k: Float[Tensor, "g P d"],
        queries: Int[Tensor, "b T"],
        listed: Int[Tensor, "b C"],
        shared: Int[Tensor, "S"],
    ) -> tuple[Float[Tensor, "g b T C"], Float[Tensor, "g b T S"]]:
        """For views: each item's product with the query of its own level."""
        tokens = queries.clamp_min(0)
        by_level = [tokens, *(base + groups.of[tokens] for base, groups in zip(self.bases[1:-1], self.groups, strict=True))]
        column = self.level_of(listed).amax(0)
        near = q.new_zeros(len(q), *queries.shape, listed.shape[1])
        for level, index in enumerate(by_level):
            keys = k[:, listed[:, column == level].clamp_min(0)]
            near[..., column == level] = q[:, index] @ keys.mT / math.sqrt(self.sequence.d)
        return near, near[..., :0]

    def read(self, split: bool = False) -> Read:
        """Each level with its own mean queries, then merged by the logsumexps. Cost: O(n·w·(d + e)); see `TiledReader.read`."""
        outputs, logs, pairs, cells = [], [], 0, 0
        for level in range(len(self.groups) + 1):
            output, lse, used, held = self._level(level)
            outputs.append(output)
            logs.append(lse if level == 0 else lse[:, self.groups[level - 1].of])
            pairs, cells = pairs + used, max(cells, held)
        lse = torch.stack(logs, dim=-1)
        gates = masked_softmax(lse, (lse > -math.inf) & self.sequence.real[:, None])
        near = gates[..., [0]] * outputs[0]
        far = (gates[..., [i + 1]] * outputs[i + 1][:, groups.of] for i, groups in enumerate(self.groups))
        parts = torch.stack([near, *far]) if split else None
        return Read(
            output=sum(far, start=near) if parts is None else parts.sum(0),
            parts=parts,
            mass=gates,
            cost=self._cost(pairs, cells, sum(x.numel() for x in (*outputs, *logs))),
        )

    def _level(self, level: int) -> tuple[Float[Tensor, "h G e"], Float[Tensor, "h G"], int, int]:
        """The output and the logsumexp of one level's (coarse) queries, the number of scores, and the numbers held at once."""
        sequence, device = self.sequence, self.sequence.q.device
        count = sequence.n if level == 0 else self.groups[level - 1].count
        width = self.block if level == 0 else self.block // 2
        first, stop = cut_tiles(torch.arange(0, count, width, device=device), count)
        tall = int((stop - first).max())
        wide = min(3 * width, count)
        cells = tall * wide + (tall + wide) * (sequence.d + sequence.e)
        step = max(1, STREAM_CELLS // (sequence.h * cells))
        used = 0

        def tiles() -> Iterator[tuple[Tensor, ...]]:
            nonlocal used
            for start in range(0, len(first), step):
                low, high = first[start : start + step], stop[start : start + step]
                listed = self.near(low, high) if level == 0 else self.far(level, low << level)
                queries = spans(low, high)
                q = self.queries[:, self.bases[level] + queries.clamp_min(0)] / math.sqrt(sequence.d)
                scores = q @ self.keys[:, listed.clamp_min(0)].mT + self.bias[listed.clamp_min(0)][:, None]
                read = ((listed >= 0) & self.alive[listed.clamp_min(0)])[:, None].expand_as(scores)
                weights, lse = softmax_and_lse(scores, read)
                kept = (queries >= 0).flatten()
                used += int((queries >= 0).sum(-1) @ (listed >= 0).sum(-1))
                output = (weights @ self.values[:, listed.clamp_min(0)]).flatten(1, 2)
                yield output[:, kept], lse.flatten(1, 2)[:, kept, None]

        output, lse = laid_out(tiles(), count)
        return output, lse.squeeze(-1), used, min(step, len(first)) * sequence.h * cells
