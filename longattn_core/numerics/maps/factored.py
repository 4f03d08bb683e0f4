"""A map given by two thin factors: sums of blocks make its mean picture, products in tiles its largest weights."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from longattn_core.contracts.indexing import bands, edges
from longattn_core.contracts.mechanism import Attended, Reduce
from longattn_core.numerics.maps.listed import areas

BLOCK_ROWS = 4096
"""How many rows of a factor are made at once for sums and for rows: making a few has a price of its own."""

TILE_ROWS = 1024
"""How many where the two factors meet: of 512 columns in double precision 4 MB, which stay near the processor."""

FINE = 16
"""Under a causal mask pairs are multiplied one by one within so many tokens; beyond, sums of such blocks are."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FactoredMap(Attended):
    """A map that is a product of two thin factors, `left [n m] @ right [m n]`, cut at the diagonal when causal.

    The left factor holds each row's normaliser; the two share a dtype, which may be finer than the output's. Rows cost
    r·m·n; the mean map costs n·m plus the pairs of tokens nearest the diagonal; the largest r·m·n, without holding the rows.
    """

    @abstractmethod
    def _left(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r m"]:
        """The left factor's rows, normalised, zero for a padded query."""

    @abstractmethod
    def _right(self, keys: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c m"]:
        """The right factor's rows (one a key), zero for a padded key."""

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
        """Products in tiles, of which only each cell's largest is kept. What the mask hides counts as 0."""
        tops, sides, causal = _finer(rows, TILE_ROWS), _finer(columns, TILE_ROWS), self.sequence.causal
        bands_of_rows = []
        for begin, end in bands(tops, TILE_ROWS):
            queries = torch.arange(tops[begin], tops[end], device=heads.device)
            left, found = self._left(queries, heads), []
            for low, high in bands(sides, TILE_ROWS):
                keys = torch.arange(sides[low], sides[high], device=heads.device)
                if causal and sides[low] >= tops[end]:
                    found.append(left.new_zeros(len(heads), end - begin, high - low))
                    continue
                tile = left @ self._right(keys, heads).mT
                if causal and sides[high] > tops[begin]:
                    tile.masked_fill_(keys > queries[:, None], 0.0)
                tall = _most_within(tile, tops[begin : end + 1])
                found.append(_most_within(tall.mT, sides[low : high + 1]).mT)
            bands_of_rows.append(torch.cat(found, dim=2))
        cells = _most_within(torch.cat(bands_of_rows, dim=1), [bisect_left(tops, x) for x in rows])
        return _most_within(cells.mT, [bisect_left(sides, x) for x in columns]).mT

    def _sums_of_the_past(self, rows: list[int], columns: list[int], heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """Products of sums over cells; in cells that the diagonal crosses, over blocks of at most `FINE` tokens.

        A block lies in one cell of rows and in one of columns, and each row of a factor is made once.
        """
        low, high = max(rows[0], columns[0]), min(rows[-1], columns[-1])
        near = _finer([x for x in sorted({*rows, *columns, low, high}) if low <= x <= high], FINE) if low < high else []
        tops, sides = (_finer(sorted({*x, *near}), TILE_ROWS) for x in (rows, columns))
        lefts, rights, owns = [], [], []
        for start, stop in pairwise(sorted({rows[0], rows[-1], columns[0], columns[-1]})):
            asks, asked = rows[0] <= start < rows[-1], columns[0] <= start < columns[-1]
            cut = tops if asks else sides if asked else [start]
            cut = cut[bisect_left(cut, start) : bisect_left(cut, stop) + 1]
            for begin, end in bands(cut, TILE_ROWS) if len(cut) > 1 else ():
                block = cut[begin : end + 1]
                tokens = torch.arange(block[0], block[-1], device=heads.device)
                left = self._left(tokens, heads) if asks else None
                right = self._right(tokens, heads) if asked else None
                if left is not None:
                    lefts.append(_sums_within(left, block))
                if right is not None:
                    rights.append(_sums_within(right, block))
                if left is not None and right is not None:
                    owns.append(_past_within(left, right, block))
        left, right = torch.cat(lefts, dim=1), torch.cat(rights, dim=1)
        own = torch.cat(owns, dim=1) if owns else left[:, :0, 0]
        return _cut(left, right, own, rows, columns, tops, sides, low)


def _cut(
    left: Float[Tensor, "g a m"],
    right: Float[Tensor, "g b m"],
    own: Float[Tensor, "g o"],
    rows: list[int],
    columns: list[int],
    tops: list[int],
    sides: list[int],
    low: int,
) -> Float[Tensor, "g H W"]:
    """Cells of the past, from sums over blocks with edges `tops` and `sides`, and from `own`, the pairs within each block
    that is one of rows and of columns, which begin at token `low`.
    """
    device = left.device
    first_row, first_column = [bisect_left(tops, x) for x in rows], [bisect_left(sides, x) for x in columns]
    sums = _sums_within(left, first_row) @ _sums_within(right, first_column).mT
    row, column = (torch.tensor(x, device=device) for x in (rows, columns))
    future = column[None, :-1] >= row[1:, None]
    crossed = ~future & (column[None, 1:] - 1 > row[:-1, None])
    sums.masked_fill_(future, 0.0)
    asks, asked = torch.tensor(tops[:-1], device=device), torch.tensor(sides[:-1], device=device)
    shift = bisect_left(sides, low)
    for at, cells in enumerate(crossed):
        some = cells.nonzero().squeeze(-1)
        if not len(some):
            continue
        begin, end = int(some[0]), int(some[-1]) + 1
        across, down = slice(first_column[begin], first_column[end]), slice(first_row[at], first_row[at + 1])
        block = left[:, down] @ right[:, across].mT
        inside = block.masked_fill_(asked[across] >= asks[down, None], 0.0).sum(1)
        one, two = (min(max(bisect_left(sides, x), across.start), across.stop) for x in (rows[at], rows[at + 1]))
        one = max(one, shift)
        if one < two:
            inside[:, one - across.start : two - across.start] += own[:, one - shift : two - shift]
        parts = [x - across.start for x in first_column[begin : end + 1]]
        sums[:, at, begin:end] = _sums_within(inside[..., None], parts)[..., 0]
    return sums


def _past_within(left: Float[Tensor, "g r m"], right: Float[Tensor, "g r m"], cut: list[int]) -> Float[Tensor, "g B"]:
    """The sum of left_i · right_j over j ≤ i within each block of tokens; the edges begin anywhere."""
    bounds = torch.tensor(cut, device=left.device) - cut[0]
    widest = int(bounds.diff().amax())
    if widest * (len(cut) - 1) != left.shape[1]:
        # Shorter blocks are filled up with rows of zeros.
        at = bounds[:-1, None] + torch.arange(widest, device=left.device)
        at = torch.where(at < bounds[1:, None], at, left.shape[1]).flatten()
        left, right = (pad(x, (0, 0, 0, 1)).index_select(1, at) for x in (left, right))
    left, right = (x.reshape(-1, widest, x.shape[-1]) for x in (left, right))
    return torch.bmm(left, right.mT).tril_().sum((1, 2)).view(-1, len(cut) - 1)


def _sums_within(x: Float[Tensor, "g r m"], cut: list[int]) -> Float[Tensor, "g B m"]:
    """Sums over consecutive runs of rows; the edges begin anywhere."""
    lengths = torch.tensor(cut, device=x.device).diff()
    if x.shape[1] == int(lengths[0]) * len(lengths) and bool((lengths == lengths[0]).all()):
        return x.reshape(len(x), len(lengths), -1, x.shape[2]).sum(2)
    run = torch.arange(len(lengths), device=x.device).repeat_interleave(lengths)
    return x.new_zeros(len(x), len(lengths), x.shape[2]).index_add_(1, run, x)


def _most_within(x: Float[Tensor, "g r m"], cut: list[int]) -> Float[Tensor, "g B m"]:
    """The largest of consecutive runs of rows; the edges begin anywhere."""
    lengths = {high - low for low, high in pairwise(cut)}
    if len(lengths) == 1:
        return x.reshape(len(x), len(cut) - 1, -1, x.shape[2]).amax(2)
    return torch.stack([x[:, low - cut[0] : high - cut[0]].amax(1) for low, high in pairwise(cut)], dim=1)


def _block_sums(
    factor: Callable[[Int[Tensor, "r"], Int[Tensor, "g"]], Float[Tensor, "g r m"]], cells: list[int], heads: Int[Tensor, "g"]
) -> Float[Tensor, "g B m"]:
    """Sums of a factor's rows over cells of tokens, some thousand rows at a time."""
    fine, sums = _finer(cells, BLOCK_ROWS), []
    for begin, end in bands(fine, BLOCK_ROWS):
        tokens = torch.arange(fine[begin], fine[end], device=heads.device)
        sums.append(_sums_within(factor(tokens, heads), fine[begin : end + 1]))
    return _sums_within(torch.cat(sums, dim=1), [bisect_left(fine, x) for x in cells])


def _finer(cells: list[int], most: int) -> list[int]:
    """The edges, and more between those that stand more than `most` tokens apart."""
    found = cells[:1]
    for low, high in pairwise(cells):
        found.extend(edges(low, high, -(-(high - low) // most))[1:])
    return found
