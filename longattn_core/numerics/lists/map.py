"""Pooled maps of attention over stretches of sorted lists, by the tiles that its output is made of.

What a tile gives is held until the sum over all lists is known. The plain way, row by row, is `SparseMap._cells`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from longattn_core.contracts.mechanism import Reduce
from longattn_core.contracts.pooling import cell_of
from longattn_core.numerics.lists.sorted_lists import GATHER_PRICE, SortedLists, entries_of_lists, taken
from longattn_core.numerics.lists.tiles import MANY, Biases, Tile, tiles
from longattn_core.numerics.maps.listed import Entries, SparseMap

LOG2_E = 1 / math.log(2)

POOLED_CELLS = 1 << 18
"""How many scores are made at once: a few such buffers stay near the processor."""

HELD_SCORES = 3 << 24
"""How many scores are kept until the sum over all lists is known, 200 MB in single precision; the others are made again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ListedMap(SparseMap):
    """A softmax over the union of each query's stretches of `lists`."""

    lists: SortedLists

    @property
    def _read(self) -> Float[Tensor, "h n d"]:
        """The keys that the scores are made of."""
        return self.sequence.k

    @property
    def _skips_self(self) -> bool:
        return False

    def _entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        return entries_of_lists(
            self.sequence.q,
            self._read,
            self.lists,
            queries,
            heads,
            real=self.sequence.real,
            scale=1 / math.sqrt(self.sequence.d),
            skip_self=self._skips_self,
        )

    def _cells(
        self,
        rows: list[int],
        columns: list[int],
        reduce: Reduce,
        heads: Int[Tensor, "g"],
        shares: Float[Tensor, "g n"] | None = None,
    ) -> Float[Tensor, "g H W"]:
        # Stretches nearly as long as the sequence are read as whole rows.
        if GATHER_PRICE * sum(self.lists.widest) >= self.sequence.n or self.sequence.n > MANY:
            return super()._cells(rows, columns, reduce, heads, shares)
        return pooled_lists(
            self.sequence.q,
            self._read,
            self.lists,
            rows,
            columns,
            reduce,
            heads,
            real=self.sequence.real,
            scale=1 / math.sqrt(self.sequence.d),
            skip_self=self._skips_self,
            shares=shares,
        )


def pooled_lists(
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    lists: SortedLists,
    rows: list[int],
    columns: list[int],
    reduce: Reduce,
    heads: Int[Tensor, "g"],
    *,
    real: Tensor,
    scale: float,
    skip_self: bool = False,
    shares: Float[Tensor, "g n"] | None = None,
) -> Float[Tensor, "g H W"]:
    """The sum of each cell's weights, or the largest; each row first times its share, if any are given.

    Cost: as `attend_lists`, or twice that where not all scores can be held, and a step a pair; memory about 250 MB.
    """
    width, device, n = len(columns) - 1, q.device, q.shape[1]
    row_cell, column_cell = cell_of(rows, n, device), cell_of(columns, n, device)
    inside = (column_cell >= 0).to(q.dtype)
    cut, corner, column_cell = bool((inside == 0).any()), row_cell.clamp_min(0) * width, column_cell.clamp_min(0)
    asking = torch.arange(rows[0], rows[-1], device=device)
    asking = asking[real[asking]]
    out = q.new_zeros(len(heads), (len(rows) - 1) * width)
    for place, head in enumerate(heads.tolist()):
        asked = pad(q[head].detach() * (scale * LOG2_E), (0, 0, 0, 1))
        scores = _Scores(asked=asked, keys=k[head].detach(), biases=Biases(lists, head, skip_self=skip_self))
        total, held = _totals(scores, tiles(lists, head, asking, POOLED_CELLS))
        own = q.new_ones(n) if shares is None else shares[place]
        alone = asking[total[asking].isneginf() & (inside[asking] > 0)]
        _into(out[place], corner[alone] + column_cell[alone], own[alone], reduce)
        total.masked_fill_(total.isneginf(), 0.0)
        for tile, top, kept in held:
            weights = scores.above(tile, top) if kept is None else kept
            # Where a block has no query left nothing weighs anything, in whichever cell.
            query = tile.queries.clamp_max(n - 1)
            weights *= ((top - total[tile.queries]).exp2_() * own[query])[..., None]
            if cut:
                weights *= inside[tile.keys][:, None]
            cell = corner[query][..., None] + column_cell[tile.keys][:, None]
            _into(out[place], cell.flatten(), weights.flatten(), reduce)
    return out.view(len(heads), -1, width)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scores:
    """The scores of one head's tiles, −∞ for what a query does not look at. `asked [m d]`: the queries as they enter, in powers
    of two, and a row of zeros for no query.
    """

    asked: Float[Tensor, "m d"]
    keys: Float[Tensor, "n d"]
    biases: Biases

    def of(self, tile: Tile) -> Float[Tensor, "a b c"]:
        bias = self.biases.of(tile).to(self.asked.dtype)
        return torch.baddbmm(bias, taken(self.asked, tile.queries), taken(self.keys, tile.keys).mT)

    def above(self, tile: Tile, top: Float[Tensor, "a b"]) -> Float[Tensor, "a b c"]:
        """Their exponentials, relative to a number for each query."""
        return self.of(tile).sub_(top[..., None]).exp2_()


_Held: TypeAlias = tuple[Tile, Tensor, Tensor | None]
"""A tile, the largest score of each of its queries, and the exponentials above that, if there was room for them."""


def _totals(scores: _Scores, found: Iterator[Tile]) -> tuple[Float[Tensor, "m"], list[_Held]]:
    """The binary logarithm of each query's sum of exponentials, −∞ for none, and the tiles."""
    total = scores.asked.new_full((len(scores.asked),), -math.inf)
    room, held = HELD_SCORES, []
    for tile in found:
        raised = scores.of(tile)
        top = raised.amax(-1)
        top.masked_fill_(top.isneginf(), 0.0)
        sums = raised.sub_(top[..., None]).exp2_().sum(-1)
        # No query stands in two blocks of a tile; those that are none share a place that nobody reads.
        total[tile.queries] = torch.logaddexp2(total[tile.queries], top + sums.log2_())
        room -= raised.numel()
        held.append((tile, top, raised if room >= 0 else None))
    return total, held


def _into(flat: Float[Tensor, "HW"], cell: Int[Tensor, "p"], weights: Float[Tensor, "p"], reduce: Reduce) -> None:
    """Add the weights to their cells, or keep the larger."""
    flat.scatter_reduce_(0, cell, weights, "sum" if reduce == "mean" else "amax")
