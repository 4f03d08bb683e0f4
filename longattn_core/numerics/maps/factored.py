"""Maps given by two thin factors. Sums over blocks make the mean picture; products in tiles find the largest weights."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import bands
from longattn_core.contracts.mechanism import Attended, Reduce
from longattn_core.contracts.pooling import areas
from longattn_core.numerics.maps.blocks import BlockSums, finer, largest_within, past_within, sums_within

BLOCK_ROWS = 4096
"""How many rows of a factor are made at once for sums and for rows: each call has a fixed price."""

TILE_ROWS = 1024
"""How many rows of both factors are multiplied at once: with 512 columns in float64 4 MB, which stay in the cache."""

FINE = 16
"""Most tokens of a block near the causal diagonal: within a block pairs are multiplied one by one, beyond it sums are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FactoredMap(Attended):
    """A map that is a product of two thin factors, `left [n m] @ right [m n]`; a causal map is 0 above the diagonal.

    The left factor includes each row's normaliser. Both have the same dtype, which may be finer than the output's. Cost: r·m·n
    for r rows; n·m and the pairs near the diagonal for the mean picture; r·m·n for the largest weights, without holding rows.
    """

    @abstractmethod
    def _left(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r m"]:
        """The rows of the left factor, normalised; zeros for a padded query."""

    @abstractmethod
    def _right(self, keys: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c m"]:
        """The rows of the right factor, one a key; zeros for a padded key."""

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        left = self._left(queries, heads)
        parts = []
        for start in range(0, self.sequence.n, BLOCK_ROWS):
            keys = torch.arange(start, min(start + BLOCK_ROWS, self.sequence.n), device=left.device)
            parts.append(left @ self._right(keys, heads).mT)
        rows = torch.cat(parts, dim=-1).to(self.output.dtype)
        return rows.masked_fill(~self.sequence.allowed(queries), 0.0)

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        if reduce == "max":
            return self._largest(rows, columns, heads).to(self.output.dtype)
        if self.sequence.causal:
            sums = self._sums_of_the_past(rows, columns, heads)
        else:
            sums = _block_sums(self._left, rows, heads) @ _block_sums(self._right, columns, heads).mT
        return (sums / areas(rows, columns, sums)).to(self.output.dtype)

    def _largest(self, rows: list[int], columns: list[int], heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """Products in tiles, of which only the largest of each cell is kept. What the mask hides counts as 0."""
        tops, sides, causal = finer(rows, TILE_ROWS), finer(columns, TILE_ROWS), self.sequence.causal
        bands_of_rows = []
        for begin, end in bands(tops, TILE_ROWS):
            queries = torch.arange(tops[begin], tops[end], device=heads.device)
            left, tiles = self._left(queries, heads), []
            for low, high in bands(sides, TILE_ROWS):
                keys = torch.arange(sides[low], sides[high], device=heads.device)
                if causal and sides[low] >= tops[end]:
                    tiles.append(left.new_zeros(len(heads), end - begin, high - low))
                    continue
                tile = left @ self._right(keys, heads).mT
                if causal and sides[high] > tops[begin]:
                    tile.masked_fill_(keys > queries[:, None], 0.0)
                tall = largest_within(tile, tops[begin : end + 1])
                tiles.append(largest_within(tall.mT, sides[low : high + 1]).mT)
            bands_of_rows.append(torch.cat(tiles, dim=2))
        cells = largest_within(torch.cat(bands_of_rows, dim=1), [bisect_left(tops, x) for x in rows])
        return largest_within(cells.mT, [bisect_left(sides, x) for x in columns]).mT

    def _sums_of_the_past(self, rows: list[int], columns: list[int], heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """The sum of each cell's past pairs, from sums over blocks (drawn in `blocks.py`). Each factor's rows are made once.

        A block lies in one cell of rows and in one cell of columns; where the two ranges overlap it has at most `FINE` tokens.
        """
        low, high = max(rows[0], columns[0]), min(rows[-1], columns[-1])
        shared = finer([x for x in sorted({*rows, *columns, low, high}) if low <= x <= high], FINE) if low < high else []
        tops, sides = (finer(sorted({*x, *shared}), TILE_ROWS) for x in (rows, columns))
        lefts, rights, owns = [], [], []
        for start, stop in pairwise(sorted({rows[0], rows[-1], columns[0], columns[-1]})):
            are_queries, are_keys = rows[0] <= start < rows[-1], columns[0] <= start < columns[-1]
            cut = tops if are_queries else sides if are_keys else [start]
            cut = cut[bisect_left(cut, start) : bisect_left(cut, stop) + 1]
            for begin, end in bands(cut, TILE_ROWS) if len(cut) > 1 else ():
                block_edges = cut[begin : end + 1]
                tokens = torch.arange(block_edges[0], block_edges[-1], device=heads.device)
                left = self._left(tokens, heads) if are_queries else None
                right = self._right(tokens, heads) if are_keys else None
                if left is not None:
                    lefts.append(sums_within(left, block_edges))
                if right is not None:
                    rights.append(sums_within(right, block_edges))
                if left is not None and right is not None:
                    owns.append(past_within(left, right, block_edges))
        left, right = torch.cat(lefts, dim=1), torch.cat(rights, dim=1)
        own = torch.cat(owns, dim=1) if owns else left[:, :0, 0]
        return BlockSums(left=left, right=right, own=own, tops=tops, sides=sides, low=low).past_cells(rows, columns)


def _block_sums(
    factor: Callable[[Int[Tensor, "r"], Int[Tensor, "g"]], Float[Tensor, "g r m"]], cells: list[int], heads: Int[Tensor, "g"]
) -> Float[Tensor, "g B m"]:
    """Sums of a factor's rows over cells of tokens; `BLOCK_ROWS` rows are made at a time."""
    fine, sums = finer(cells, BLOCK_ROWS), []
    for begin, end in bands(fine, BLOCK_ROWS):
        tokens = torch.arange(fine[begin], fine[end], device=heads.device)
        sums.append(sums_within(factor(tokens, heads), fine[begin : end + 1]))
    return sums_within(torch.cat(sums, dim=1), [bisect_left(fine, x) for x in cells])
