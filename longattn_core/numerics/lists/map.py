"""The map of attention over sorted lists, and its pooled pictures from the same tiles that the output is made of.

The softmax of a query runs over all lists, so the weights of a tile are known only when the sum over all tiles is known. So the
exponentials of the tiles are held until then (`HELD_SCORES`). The plain way, row by row, is `SparseMap._cells`.
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
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.lists.sorted_lists import GATHER_PRICE, SortedLists, entries_of_lists, taken
from longattn_core.numerics.lists.tiles import MANY, Biases, Tile, tiles
from longattn_core.numerics.maps.listed import SparseMap

LOG2_E = 1 / math.log(2)

POOLED_CELLS = 1 << 18
"""How many scores are computed at once: a few such buffers stay in the cache."""

HELD_SCORES = 3 << 24
"""How many exponentials are held until all sums are known, 200 MB in single precision; the others are computed again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ListedMap(SparseMap):
    """A softmax over the union of each query's stretches of `lists`."""

    lists: SortedLists

    @property
    def _read(self) -> Float[Tensor, "h n d"]:
        """The keys from which the scores are computed."""
        return self.sequence.k

    @property
    def _skips_self(self) -> bool:
        """Whether a query does not attend to its own key."""
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
        # Where the stretches are nearly as long as the sequence, whole rows are cheaper.
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
    """The sum or the largest of each cell's weights; where `shares` are given, each row is first multiplied by its share.

    Cost: that of `attend_lists`, or twice as much where not all scores can be held, and one step a pair. Memory about 250 MB.
    """
    width, device, n = len(columns) - 1, q.device, q.shape[1]
    row_cell, column_cell = cell_of(rows, n, device), cell_of(columns, n, device)
    inside = (column_cell >= 0).to(q.dtype)
    is_cut = bool((inside == 0).any())
    # Cells are numbered row by row: a pair's cell is first_cell[query] + column_cell[key].
    first_cell, column_cell = row_cell.clamp_min(0) * width, column_cell.clamp_min(0)
    queries = torch.arange(rows[0], rows[-1], device=device)
    queries = queries[real[queries]]
    out = q.new_zeros(len(heads), (len(rows) - 1) * width)
    for place, head in enumerate(heads.tolist()):
        scaled = pad(q[head].detach() * (scale * LOG2_E), (0, 0, 0, 1))
        scores = _Scores(queries=scaled, keys=k[head].detach(), biases=Biases(lists, head, skip_self=skip_self))
        total, held = _totals(scores, tiles(lists, head, queries, POOLED_CELLS))
        share = q.new_ones(n) if shares is None else shares[place]
        # A query without keys attends to itself.
        alone = queries[total[queries].isneginf() & (inside[queries] > 0)]
        _add(out[place], first_cell[alone] + column_cell[alone], share[alone], reduce)
        total.masked_fill_(total.isneginf(), 0.0)
        for tile, top, kept in held:
            weights = scores.exponentials(tile, top) if kept is None else kept
            # An empty place of a block has weights 0, so any cell will do.
            query = tile.queries.clamp_max(n - 1)
            weights *= ((top - total[tile.queries]).exp2_() * share[query])[..., None]
            if is_cut:
                weights *= inside[tile.keys][:, None]
            cell = first_cell[query][..., None] + column_cell[tile.keys][:, None]
            _add(out[place], cell.flatten(), weights.flatten(), reduce)
    return out.view(len(heads), -1, width)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scores:
    """The scores of one head's tiles as powers of two, −∞ outside a query's stretches.

    `queries [m d]` are the scaled queries, and a last row of zeros for an empty place.
    """

    queries: Float[Tensor, "m d"]
    keys: Float[Tensor, "n d"]
    biases: Biases

    def of(self, tile: Tile) -> Float[Tensor, "a b c"]:
        """The scores of one tile."""
        bias = self.biases.of(tile).to(self.queries.dtype)
        return torch.baddbmm(bias, taken(self.queries, tile.queries), taken(self.keys, tile.keys).mT)

    def exponentials(self, tile: Tile, top: Float[Tensor, "a b"]) -> Float[Tensor, "a b c"]:
        """2^(score − top), with one `top` for each query."""
        return self.of(tile).sub_(top[..., None]).exp2_()


_Held: TypeAlias = tuple[Tile, Tensor, Tensor | None]
"""A tile, the largest score of each of its queries, and the exponentials relative to it (None: no room to hold them)."""


def _totals(scores: _Scores, of: Iterator[Tile]) -> tuple[Float[Tensor, "m"], list[_Held]]:
    """The binary logarithm of each query's sum of exponentials, −∞ without keys; and the tiles."""
    total = scores.queries.new_full((len(scores.queries),), -math.inf)
    room, held = HELD_SCORES, []
    for tile in of:
        exponentials = scores.of(tile)
        top = exponentials.amax(-1)
        top.masked_fill_(top.isneginf(), 0.0)
        sums = exponentials.sub_(top[..., None]).exp2_().sum(-1)
        # No query occurs in two blocks of a tile; all empty places share one number, which is never read.
        total[tile.queries] = torch.logaddexp2(total[tile.queries], top + sums.log2_())
        room -= exponentials.numel()
        held.append((tile, top, exponentials if room >= 0 else None))
    return total, held


def _add(flat: Float[Tensor, "HW"], cell: Int[Tensor, "p"], weights: Float[Tensor, "p"], reduce: Reduce) -> None:
    """Add the weights to their cells, or keep the larger."""
    flat.scatter_reduce_(0, cell, weights, "sum" if reduce == "mean" else "amax")
