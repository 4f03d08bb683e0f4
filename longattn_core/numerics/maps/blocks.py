"""Sums over blocks of tokens: how the mean picture of a causal map of two factors is made without its n × n weights.

The weight of a pair is left_i · right_j, so the sum over a rectangle of pairs is one product: (Σ left_i) · (Σ right_j). Under a
causal mask this holds for a cell none of whose keys is later than its queries. Cells that the diagonal crosses are cut into
blocks of a few tokens; a block is the same range of tokens along the queries and along the keys.

    the cells of a picture                                    a crossed cell, in blocks
    (queries down, keys across)
                                                              block    0   1   2   3
    +---------+---------+---------+                             0    [ ◣   .   .   . ]
    | crossed | future  | future  |                             1    [ ■   ◣   .   . ]
    +---------+---------+---------+                             2    [ ■   ■   ◣   . ]
    |  past   | crossed | future  |                             3    [ ■   ■   ■   ◣ ]
    +---------+---------+---------+
    |  past   |  past   | crossed |                           ■  an earlier block: one product of two sums
    +---------+---------+---------+                           ◣  the own block: its pairs j ≤ i one by one (`past_within`)
                                                              .  a later block: nothing
    past: one product;  future: 0

Where a window's rows and columns differ, a block may be one of queries only, or of keys only; then it has no ◣.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from longattn_core.contracts.indexing import edges


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockSums:
    """Two factors summed over blocks of tokens.

    `left [g a m]` are sums over blocks of queries with the edges `tops`, `right [g b m]` over blocks of keys with the edges
    `sides`. Blocks of both are consecutive and begin at token `low`; `own [g o]` are their sums over pairs j ≤ i inside.
    """

    left: Float[Tensor, "g a m"]
    right: Float[Tensor, "g b m"]
    own: Float[Tensor, "g o"]
    tops: list[int]
    sides: list[int]
    low: int

    def past_cells(self, rows: list[int], columns: list[int]) -> Float[Tensor, "g H W"]:
        """The sum over the pairs j ≤ i of each cell. The edges of all cells must be edges of blocks (see the drawing above)."""
        device = self.left.device
        first_row, first_column = [bisect_left(self.tops, x) for x in rows], [bisect_left(self.sides, x) for x in columns]
        sums = sums_within(self.left, first_row) @ sums_within(self.right, first_column).mT
        row, column = (torch.tensor(x, device=device) for x in (rows, columns))
        future = column[None, :-1] >= row[1:, None]
        crossed = ~future & (column[None, 1:] - 1 > row[:-1, None])
        sums.masked_fill_(future, 0.0)
        query_start, key_start = torch.tensor(self.tops[:-1], device=device), torch.tensor(self.sides[:-1], device=device)
        first_own = bisect_left(self.sides, self.low)
        for cell_row, is_crossed in enumerate(crossed):
            cells = is_crossed.nonzero().squeeze(-1)
            if not len(cells):
                continue
            # The crossed cells of one row of cells are consecutive: their blocks of queries (down) and of keys (across).
            begin, end = int(cells[0]), int(cells[-1]) + 1
            down = slice(first_row[cell_row], first_row[cell_row + 1])
            across = slice(first_column[begin], first_column[end])
            products = self.left[:, down] @ self.right[:, across].mT
            by_key_block = products.masked_fill_(key_start[across] >= query_start[down, None], 0.0).sum(1)
            # Blocks of keys in `across` that are blocks of queries in `down` as well.
            start, stop = (
                min(max(bisect_left(self.sides, x), across.start), across.stop) for x in (rows[cell_row], rows[cell_row + 1])
            )
            start = max(start, first_own)
            if start < stop:
                by_key_block[:, start - across.start : stop - across.start] += self.own[:, start - first_own : stop - first_own]
            parts = [x - across.start for x in first_column[begin : end + 1]]
            sums[:, cell_row, begin:end] = sums_within(by_key_block[..., None], parts)[..., 0]
        return sums


def past_within(left: Float[Tensor, "g r m"], right: Float[Tensor, "g r m"], cut: list[int]) -> Float[Tensor, "g B"]:
    """The sum of left_i · right_j over j ≤ i within each block; `cut` are the blocks' edges, which may begin at any number."""
    bounds = torch.tensor(cut, device=left.device) - cut[0]
    widest = int(bounds.diff().amax())
    if widest * (len(cut) - 1) != left.shape[1]:
        # Shorter blocks are filled up with rows of zeros.
        at = bounds[:-1, None] + torch.arange(widest, device=left.device)
        at = torch.where(at < bounds[1:, None], at, left.shape[1]).flatten()
        left, right = (pad(x, (0, 0, 0, 1)).index_select(1, at) for x in (left, right))
    left, right = (x.reshape(-1, widest, x.shape[-1]) for x in (left, right))
    return torch.bmm(left, right.mT).tril_().sum((1, 2)).view(-1, len(cut) - 1)


def sums_within(x: Float[Tensor, "g r m"], cut: list[int]) -> Float[Tensor, "g B m"]:
    """Sums over consecutive runs of rows; `cut` are the runs' edges, which may begin at any number."""
    lengths = torch.tensor(cut, device=x.device).diff()
    if x.shape[1] == int(lengths[0]) * len(lengths) and bool((lengths == lengths[0]).all()):
        return x.reshape(len(x), len(lengths), -1, x.shape[2]).sum(2)
    run = torch.arange(len(lengths), device=x.device).repeat_interleave(lengths)
    return x.new_zeros(len(x), len(lengths), x.shape[2]).index_add_(1, run, x)


def largest_within(x: Float[Tensor, "g r m"], cut: list[int]) -> Float[Tensor, "g B m"]:
    """The largest over consecutive runs of rows; `cut` are the runs' edges, which may begin at any number."""
    lengths = {high - low for low, high in pairwise(cut)}
    if len(lengths) == 1:
        return x.reshape(len(x), len(cut) - 1, -1, x.shape[2]).amax(2)
    return torch.stack([x[:, low - cut[0] : high - cut[0]].amax(1) for low, high in pairwise(cut)], dim=1)


def finer(cells: list[int], most: int) -> list[int]:
    """The edges, and further ones between them, so that no two neighbours are more than `most` tokens apart."""
    cut = cells[:1]
    for low, high in pairwise(cells):
        cut.extend(edges(low, high, -(-(high - low) // most))[1:])
    return cut
