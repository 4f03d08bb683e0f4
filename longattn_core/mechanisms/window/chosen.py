"""The blocks that queries choose: queries are sorted by block, so that each block's keys are gathered once for many queries.

Source: Lu et al. 2025, arXiv:2502.13189, section 2.3: queries are regrouped by the block that they choose, and each query's
results from its blocks are merged by logsumexps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, unflatten
from torch.nn.functional import pad

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.window.pattern import Part, Pattern
from longattn_core.numerics.block_attention import attend_blocks

TOGETHER = 64
"""Queries of a tile. Larger tiles leave more empty places at the end of a block, smaller ones gather the block more often."""

CELLS = 1 << 20
"""Numbers of gathered keys, values and scores that are held at once: 4 MB."""

HELD = 1 << 23
"""Numbers of results that are held before they are merged: 32 MB."""


def chosen_part(sequence: Sequence, pattern: Pattern, chosen: Int[Tensor, "h n m"]) -> Part:
    """The output and logsumexp of each query over the blocks that it chose (−1: none), except keys that another part holds.

    Cost: n·m·block·(d + e) a head, and n·m·(d + e) to gather. Gradients flow to q, k, v. Memory above the result: some 64 MB.
    """
    missing = (0, 0, 0, pattern.blocks * pattern.block - pattern.n)
    k, v = (unflatten(pad(x, missing), 1, (-1, pattern.block)) for x in (sequence.k, sequence.v))
    output, lse = torch.empty_like(sequence.v), sequence.v.new_empty(sequence.v.shape[:2])
    for head in range(sequence.h):
        for rows in row_chunks(pattern.n, chosen.shape[2] * (sequence.d + sequence.e), HELD):
            blocks = chosen[head, rows]
            tiles = _Tiles.of(blocks, pattern.blocks)
            parts, logs = [], []
            for chunk in row_chunks(len(tiles.block), pattern.block * (sequence.d + sequence.e + TOGETHER), CELLS):
                block, query = tiles.block[chunk], tiles.query[chunk] + rows.start
                part, log = attend_blocks(
                    sequence.q[head].index_select(0, query.flatten()).view(1, *query.shape, -1),
                    k[head].index_select(0, block)[None],
                    v[head].index_select(0, block)[None],
                    _mask(pattern, query, block)[None],
                )
                parts.append(part[0].flatten(0, 1))
                logs.append(log[0].flatten())
            output[head, rows], lse[head, rows] = _merged(torch.cat(parts), torch.cat(logs), tiles.place, blocks >= 0)
    return output, lse


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tiles:
    """The queries of each block in tiles of x: `block [t]` and `query [t x]` of each tile.

    `place [r m]` is the index, among all t·x places, of the pair of a query and its i-th block. Empty places repeat a query.
    """

    block: Int[Tensor, "t"]
    query: Int[Tensor, "t x"]
    place: Int[Tensor, "r m"]

    @classmethod
    def of(cls, blocks: Int[Tensor, "r m"], count: int) -> _Tiles:
        """The tiles of the blocks that each query chose (−1: none); at least one tile."""
        flat = blocks.flatten()
        # −1 is sorted to the front and left out.
        order = flat.argsort(stable=True)[int((flat < 0).sum()) :]
        ordered = flat[order]
        pairs = torch.bincount(ordered, minlength=count)
        tiles = (pairs + TOGETHER - 1) // TOGETHER
        block = torch.arange(count, device=flat.device).repeat_interleave(tiles)
        if not len(block):
            block = flat.new_zeros(1)
        before, first = pairs.cumsum(0) - pairs, (tiles.cumsum(0) - tiles) * TOGETHER
        place_of_pair = torch.arange(len(ordered), device=flat.device) + (first - before)[ordered]
        query = flat.new_zeros(len(block) * TOGETHER).index_copy_(0, place_of_pair, order // blocks.shape[1])
        place = torch.zeros_like(flat).index_copy_(0, order, place_of_pair)
        return cls(block=block, query=query.view(-1, TOGETHER), place=place.view_as(blocks))


def _mask(pattern: Pattern, query: Int[Tensor, "t x"], block: Int[Tensor, "t"]) -> Bool[Tensor, "t #x b"]:
    """Which keys of its block each query of a tile reads.

    Without a window this depends on the key alone: a chosen block is allowed by the mask, and no other part holds it.
    """
    if pattern.back >= 0:
        return pattern.block_keys(query, block[:, None, None].expand(-1, query.shape[1], 1)) >= 0
    keys = block[:, None] * pattern.block + torch.arange(pattern.block, device=block.device)
    return ((keys < pattern.n) & pattern.real[keys.clamp_max(pattern.n - 1)])[:, None].expand(-1, query.shape[1], -1)


def _merged(
    parts: Float[Tensor, "p e"], logs: Float[Tensor, "p"], place: Int[Tensor, "r m"], some: Bool[Tensor, "r m"]
) -> tuple[Float[Tensor, "r e"], Float[Tensor, "r"]]:
    """The output of each query over all its blocks, merged by the logsumexps, and the logsumexp of all."""
    log = logs[place].masked_fill(~some, -math.inf)
    total = log.logsumexp(-1)
    share = (log - total.masked_fill(total == -math.inf, 0.0)[:, None]).exp()
    gathered = parts.index_select(0, place.flatten()).view(*place.shape, -1)
    return (share[:, None] @ gathered).squeeze(1), total
