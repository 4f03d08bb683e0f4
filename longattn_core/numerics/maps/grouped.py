"""The map of a mechanism that reads tokens and groups of tokens.

The weight of a group is distributed over its tokens, by the shares with which the group's value was pooled from theirs. So
rows(all) @ v is the output. For a query that reads the tokens t₀, t₁ and the groups G = {t₂, t₃, t₄}, H = {t₅, t₆}:

    items read      t₀     t₁     G                            H
    weights         a      b      c                            d
                    |      |      +-----------+---------+      +---------+
    the row         a      b      c·share₂    c·share₃  …      d·share₅  d·share₆
                    t₀     t₁     t₂          t₃        t₄     t₅        t₆
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS
from longattn_core.contracts.mechanism import Attended, ReadCount, Reduce
from longattn_core.contracts.pooling import areas, cell_of
from longattn_core.contracts.selection import Index
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.maps.listed import listed
from longattn_core.numerics.tiles.reading import TiledReader


@dataclass(frozen=True, kw_only=True)
class Covering:
    """One way in which a query reads a key: the level, the group that holds the key, the group's weight and the key's share.

    At level 0 the key is read as a token: group = key and share 1. The key receives weight × share.
    """

    level: int
    group: int
    weight: float
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedMap(Attended):
    """A map given by the lists of items of a `TiledReader`; the subclass explains it.

    Views cost the items that are read, and n a row to distribute the groups' weights.
    """

    reading: TiledReader

    @property
    def lists_keys(self) -> bool:
        """True where no key is read at two levels: then each weight of a row comes from one item."""
        return self.reading.disjoint

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        return torch.cat([self._spread(entries, heads) for entries in self._lists(queries, heads)], dim=1)

    def _kept(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        return torch.cat([self._marked(entries) for entries in self._lists(queries, heads)], dim=1)

    def _rows_and_kept(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r n"], Bool[Tensor, "g r n"]]:
        parts = [(self._spread(entries, heads), self._marked(entries)) for entries in self._lists(queries, heads)]
        rows, kept = zip(*parts, strict=True)
        return torch.cat(rows, dim=1), torch.cat(kept, dim=1)

    def _lists(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Iterator[Entries]:
        """The items that the queries read, in chunks of queries whose rows over all items fit into `STREAM_CELLS`."""
        step = max(1, STREAM_CELLS // (len(heads) * self.reading.bases[-1]))
        for start in range(0, len(queries), step):
            yield self.reading.entries(queries[start : start + step], heads)

    def _spread(self, entries: Entries, heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        row = self.output.new_zeros(*entries.keys.shape[:2], self.reading.bases[-1])
        return self._distributed(row.scatter_add(2, entries.keys.clamp_min(0), entries.weights), heads)

    def _marked(self, entries: Entries) -> Bool[Tensor, "g r n"]:
        bases, real = self.reading.bases, self.sequence.real
        read = listed(entries.keys, bases[-1])
        part = read[..., : bases[1]]
        for base, stop, groups in zip(bases[1:-1], bases[2:], self.reading.groups, strict=True):
            part = part | (read[..., base:stop][..., groups.of] & real)
        return part

    def _distributed(self, row: Float[Tensor, "g r P"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        """Rows over all items as rows over the tokens."""
        bases = self.reading.bases
        out = row[..., : bases[1]]
        for base, stop, groups in zip(bases[1:-1], bases[2:], self.reading.groups, strict=True):
            out = out + row[..., base:stop][..., groups.of] * groups.share[heads][:, None, :]
        return out

    def _read_count(self, head: int, query: int) -> ReadCount:
        return ReadCount(count=self.reading.read_count(query), unit="keys and groups" if self.reading.groups else "keys")

    def level_rows(self, level: int, queries: Index = None, heads: Index = None) -> Float[Tensor, "g r n"]:
        """The weights that the queries give at one level (0: the tokens), as shares of their sum; zeros where there are none.

        Raises: ValueError for a level that the reader does not have.
        """
        if not 0 <= level <= len(self.reading.groups):
            raise ValueError(f"level must lie in 0 … {len(self.reading.groups)}, found {level}")
        rows, chosen = self._indices(queries, heads)
        entries = self.reading.entries(rows, chosen)
        weights = (self.reading.level_of(entries.keys) == level).to(entries.weights.dtype) * entries.weights
        row = self.output.new_zeros(*weights.shape[:2], self.reading.bases[-1])
        grouped = self._distributed(row.scatter_add(2, entries.keys.clamp_min(0), weights), chosen)
        total = weights.sum(-1, keepdim=True)
        return grouped / torch.where(total > 0, total, 1.0)

    def coverings(self, head: int, query: int, key: int) -> tuple[Covering, ...]:
        """Every way in which one query reads one key, the finest level first. Cost: the query's list."""
        device = self.output.device
        entries = self.reading.entries(torch.tensor([query], device=device), torch.tensor([head], device=device))
        items, weights = entries.keys[0, 0], entries.weights[0, 0]
        found = []
        for level, base in enumerate(self.reading.bases[:-1]):
            groups = None if level == 0 else self.reading.groups[level - 1]
            group = key if groups is None else int(groups.of[key])
            share = 1.0 if groups is None else float(groups.share[head, key])
            place = (items == base + group).nonzero()
            if len(place):
                weight = float(weights[int(place[0])])
                found.append(Covering(level=level, group=group, weight=weight, share=share))
        return tuple(found)

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """Join the rows of each cell within each tile (they read one list), then distribute the items over the columns.

        A group that lies in one column of cells adds to that cell at once. A group that reaches into several columns first
        collects its weights in a column of its own, behind the W columns of cells:

                        W columns of cells      one column for each group that reaches into several
            band  =   [ . . . . . . . . . . . | . . . . ]      H rows of cells
                                    ^-----------------+        distributed when all tiles are done

        Cost: the scores, and one step for each item of a tile; memory H·(W + the number of those groups).
        """
        if reduce == "max" and not self.reading.disjoint:
            return super()._pooled(rows, columns, reduce, heads)
        operation: Literal["sum", "amax"] = "sum" if reduce == "mean" else "amax"
        device, height, width = self.output.device, len(rows) - 1, len(columns) - 1
        places = self._places(columns, operation, heads)
        row_cell = cell_of(rows, self.sequence.n, device)
        # No weight is negative, so 0 is a valid start for the largest too.
        band = self.output.new_zeros(len(heads), height, width + places.several)
        for tiles in self.reading.weights_by_tile(rows[0], rows[-1], heads):
            queries, tile = tiles.queries, torch.arange(len(tiles.queries), device=device)
            # The last places of a tile may be empty (−1). Their weights are 0, so any cell will do.
            cell = row_cell[torch.where(queries >= 0, queries, queries.amax(1, keepdim=True))]
            pairs, pair = torch.unique_consecutive((tile[:, None] * height + cell).flatten(), return_inverse=True)
            joined = _joined(tiles.near, pair, len(pairs), operation)
            self._add(band, joined, tiles.listed[pairs // height], pairs % height, places, operation)
            if len(tiles.shared):
                low, high = int(cell[0, 0]), int(cell[-1, -1]) + 1
                joined = _joined(tiles.far, cell.flatten() - low, high - low, operation)
                rows_of_cells = torch.arange(low, high, device=device)
                self._add(band, joined, tiles.shared.expand(high - low, -1), rows_of_cells, places, operation)
        out = band[..., :width]
        if places.several:
            spread = band[..., width:][..., places.item] * places.share[:, None, :]
            out = out.scatter_reduce(2, places.cell.expand_as(spread), spread, operation)
        return out / areas(rows, columns, out) if reduce == "mean" else out

    def _add(
        self,
        band: Float[Tensor, "g H S"],
        weights: Float[Tensor, "g p C"],
        items: Int[Tensor, "p C"],
        cells: Int[Tensor, "p"],
        places: _Places,
        operation: Literal["sum", "amax"],
    ) -> None:
        """Add the weights that rows of cells give to their items to the items' places in the band."""
        chosen = items.clamp_min(0).flatten()
        place = cells[:, None] * band.shape[2] + places.of.index_select(0, chosen).view_as(items)
        parts = weights.flatten(1) * places.factor.index_select(1, chosen)
        index = place.flatten().expand(len(band), -1)
        band.view(len(band), -1).scatter_reduce_(1, index, parts, operation)

    def _places(self, columns: list[int], operation: Literal["sum", "amax"], heads: Int[Tensor, "g"]) -> _Places:
        """Where the weight of each item goes, from the shares of its tokens in each column of cells."""
        device, bases, width = self.output.device, self.reading.bases, len(columns) - 1
        keys = torch.arange(columns[0], columns[-1], device=device)
        cell = cell_of(columns, self.sequence.n, device)[keys]
        of = torch.zeros(bases[-1], dtype=torch.int64, device=device)
        factor = self.output.new_zeros(len(heads), bases[-1])
        of[keys], factor[:, keys] = cell, 1.0
        items, cells, shares, several = [keys[:0]], [keys[:0]], [factor[:, :0]], 0
        for base, groups in zip(bases[1:-1], self.reading.groups, strict=True):
            # Each (group, cell) is one number: `unique_consecutive` along an axis of pairs is far slower.
            pairs, pair = torch.unique_consecutive(groups.of[keys] * width + cell, return_inverse=True)
            group, side = pairs // width, pairs % width
            share = groups.share[heads][:, keys].detach()
            part = self.output.new_zeros(len(heads), len(pairs))
            part.scatter_reduce_(1, pair.expand_as(share), share, operation)
            found, which, count = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
            alone = (count == 1)[which]
            of[base + group[alone]], factor[:, base + group[alone]] = side[alone], part[:, alone]
            # A group that reaches into several cells has a column of its own until all rows are joined.
            many = count > 1
            own = many.long().cumsum(0) - 1 + several
            of[base + found[many]], factor[:, base + found[many]] = width + own[many], 1.0
            items.append(own[which][~alone])
            cells.append(side[~alone])
            shares.append(part[:, ~alone])
            several += int(many.sum())
        return _Places(
            of=of, factor=factor, several=several, item=torch.cat(items), cell=torch.cat(cells), share=torch.cat(shares, dim=1)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Places:
    """Where the weight of an item goes in the band of `GroupedMap._pooled`.

    `of [P]` is the item's column: a column of cells, or a column behind them for each of the `several` groups that reach into
    more than one; `factor [g P]` is the part of its weight that goes there. These groups are then distributed: for each pair
    of such a group and a cell that it reaches into, `item, cell [p]` are its column behind the cells and the cell,
    `share [g p]` the part of its weight.
    """

    of: Int[Tensor, "P"]
    factor: Float[Tensor, "g P"]
    several: int
    item: Int[Tensor, "p"]
    cell: Int[Tensor, "p"]
    share: Float[Tensor, "g p"]


def _joined(
    weights: Float[Tensor, "g b T C"], row: Int[Tensor, "r"], count: int, operation: Literal["sum", "amax"]
) -> Float[Tensor, "g p C"]:
    """The rows of all tiles joined into `count` rows: those with the same number are added up, or their maximum is kept."""
    x = weights.detach().flatten(1, 2)
    if operation == "sum":
        # One product with a matrix of zeros and ones, instead of one addition a row.
        return (torch.arange(count, device=row.device)[:, None] == row).to(x.dtype) @ x
    out = x.new_zeros(len(x), count, x.shape[2])
    return out.scatter_reduce_(1, row[:, None].expand_as(x), x, operation)
