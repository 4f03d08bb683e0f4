"""The map of a mechanism that reads tokens and groups: a group's weight is shared out among its tokens.

A row is Σ over the tokens read of their weights, plus Σ over the groups read of weight × share, where a group's shares are
those by which its value was pooled. So rows(all) @ v is the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS, Index
from longattn_core.contracts.mechanism import Attended, ReadCount, Reduce
from longattn_core.numerics.maps.listed import Entries, cell_of, listed
from longattn_core.numerics.tiles.reading import TiledReader


@dataclass(frozen=True, kw_only=True)
class Covering:
    """One way in which a key was read: at which level, as part of which group, the group's weight and the key's share.

    Level 0 is the token itself, with group = key and share 1. The weight that reaches the key is weight × share.
    """

    level: int
    group: int
    weight: float
    share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedMap(Attended):
    """A map given by a reading; the subclass explains it. Views cost the items read, and n to share a row out."""

    reading: TiledReader

    @property
    def lists_keys(self) -> bool:
        """Lists of items stand for the rows where no key is read at two levels."""
        return self.reading.disjoint

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        return torch.cat([self._spread(entries, heads) for entries in self._lists(queries, heads)], dim=1)

    def _kept(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        return torch.cat([self._marked(entries) for entries in self._lists(queries, heads)], dim=1)

    def _rows_and_kept(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r n"], Bool[Tensor, "g r n"]]:
        parts = [(self._spread(entries, heads), self._marked(entries)) for entries in self._lists(queries, heads)]
        rows, seen = zip(*parts, strict=True)
        return torch.cat(rows, dim=1), torch.cat(seen, dim=1)

    def _lists(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Iterator[Entries]:
        """The items that the queries read, so many queries at a time that their rows over all items can be held."""
        step = max(1, STREAM_CELLS // (len(heads) * self.reading.bases[-1]))
        for start in range(0, len(queries), step):
            yield self.reading.entries(queries[start : start + step], heads)

    def _spread(self, entries: Entries, heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        row = self.output.new_zeros(*entries.keys.shape[:2], self.reading.bases[-1])
        return self._shared_out(row.scatter_add(2, entries.keys.clamp_min(0), entries.weights), heads)

    def _marked(self, entries: Entries) -> Bool[Tensor, "g r n"]:
        bases, real = self.reading.bases, self.sequence.real
        read = listed(entries.keys, bases[-1])
        part = read[..., : bases[1]]
        for base, stop, groups in zip(bases[1:-1], bases[2:], self.reading.groups, strict=True):
            part = part | (read[..., base:stop][..., groups.of] & real)
        return part

    def _shared_out(self, row: Float[Tensor, "g r P"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        bases = self.reading.bases
        out = row[..., : bases[1]]
        for base, stop, groups in zip(bases[1:-1], bases[2:], self.reading.groups, strict=True):
            out = out + row[..., base:stop][..., groups.of] * groups.share[heads][:, None, :]
        return out

    def _read_count(self, head: int, query: int) -> ReadCount:
        return ReadCount(count=self.reading.read_count(query), unit="keys and groups" if self.reading.groups else "keys")

    def level_rows(self, level: int, queries: Index = None, heads: Index = None) -> Float[Tensor, "g r n"]:
        """What the queries read at one level (0 the tokens), as shares of it; zero for a query that read nothing there.

        Raises: ValueError for a level that this reading does not have.
        """
        if not 0 <= level <= len(self.reading.groups):
            raise ValueError(f"level must lie in 0 … {len(self.reading.groups)}, found {level}")
        rows, chosen = self._indices(queries, heads)
        entries = self.reading.entries(rows, chosen)
        here = (self.reading.level_of(entries.keys) == level).to(entries.weights.dtype) * entries.weights
        row = self.output.new_zeros(*here.shape[:2], self.reading.bases[-1])
        lifted = self._shared_out(row.scatter_add(2, entries.keys.clamp_min(0), here), chosen)
        total = here.sum(-1, keepdim=True)
        return lifted / torch.where(total > 0, total, 1.0)

    def coverings(self, head: int, query: int, key: int) -> tuple[Covering, ...]:
        """Every way in which one query read one key, finest first. Cost: the query's list."""
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
        """Join the rows of a cell within each tile, whose rows read one list, then share the items out.

        Cost: the scores, and one step for each item of a tile; memory H·(W + the groups that reach into several cells).
        """
        if reduce == "max" and not self.reading.disjoint:
            return super()._pooled(rows, columns, reduce, heads)
        operation: Literal["sum", "amax"] = "sum" if reduce == "mean" else "amax"
        device, height, width = self.output.device, len(rows) - 1, len(columns) - 1
        places = self._places(columns, operation, heads)
        row_cell = cell_of(rows, self.sequence.n, device)
        # Weights are not negative, so zero is a safe start for the largest too.
        band = self.output.new_zeros(len(heads), height, width + places.several)
        for tiles in self.reading.weights_by_tile(rows[0], rows[-1], heads):
            queries, tile = tiles.queries, torch.arange(len(tiles.queries), device=device)
            # A tile's last queries may be none: they weigh nothing, in whichever cell.
            cell = row_cell[torch.where(queries >= 0, queries, queries.amax(1, keepdim=True))]
            pairs, pair = torch.unique_consecutive((tile[:, None] * height + cell).flatten(), return_inverse=True)
            joined = _joined(tiles.near, pair, len(pairs), operation)
            self._share_out(band, joined, tiles.listed[pairs // height], pairs % height, places, operation)
            if len(tiles.shared):
                low, among = int(cell[0, 0]), torch.arange(int(cell[0, 0]), int(cell[-1, -1]) + 1, device=device)
                joined = _joined(tiles.far, cell.flatten() - low, len(among), operation)
                self._share_out(band, joined, tiles.shared.expand(len(among), -1), among, places, operation)
        out = band[..., :width]
        if places.several:
            spread = band[..., width:][..., places.item] * places.share[:, None, :]
            out = out.scatter_reduce(2, places.cell.expand_as(spread), spread, operation)
        if reduce == "mean":
            tall, wide = (torch.tensor(x, device=device).diff() for x in (rows, columns))
            out = out / (tall[:, None] * wide).to(out.dtype)
        return out

    def _share_out(
        self,
        band: Float[Tensor, "g H S"],
        weights: Float[Tensor, "g p C"],
        items: Int[Tensor, "p C"],
        cells: Int[Tensor, "p"],
        places: _Places,
        operation: Literal["sum", "amax"],
    ) -> None:
        """Add what rows of cells gave to their items to the places of the items."""
        listed = items.clamp_min(0).flatten()
        place = cells[:, None] * band.shape[2] + places.of.index_select(0, listed).view_as(items)
        parts = weights.flatten(1) * places.factor.index_select(1, listed)
        index = place.flatten().expand(len(band), -1)
        band.view(len(band), -1).scatter_reduce_(1, index, parts, operation)

    def _places(self, columns: list[int], operation: Literal["sum", "amax"], heads: Int[Tensor, "g"]) -> _Places:
        """Where each item's weight goes, from the shares of its tokens in each cell of columns."""
        device, bases, width = self.output.device, self.reading.bases, len(columns) - 1
        keys = torch.arange(columns[0], columns[-1], device=device)
        cell = cell_of(columns, self.sequence.n, device)[keys]
        of = torch.zeros(bases[-1], dtype=torch.int64, device=device)
        factor = self.output.new_zeros(len(heads), bases[-1])
        of[keys], factor[:, keys] = cell, 1.0
        items, cells, shares, several = [keys[:0]], [keys[:0]], [factor[:, :0]], 0
        for base, groups in zip(bases[1:-1], self.reading.groups, strict=True):
            # One number a pair: along an axis of pairs torch compares them in a call each.
            pairs, pair = torch.unique_consecutive(groups.of[keys] * width + cell, return_inverse=True)
            group, side = pairs // width, pairs % width
            share = groups.share[heads][:, keys].detach()
            part = self.output.new_zeros(len(heads), len(pairs))
            part.scatter_reduce_(1, pair.expand_as(share), share, operation)
            found, which, count = torch.unique_consecutive(group, return_inverse=True, return_counts=True)
            alone = (count == 1)[which]
            of[base + group[alone]], factor[:, base + group[alone]] = side[alone], part[:, alone]
            # A group that reaches into several cells keeps a place of its own until all rows are joined.
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
    """Where an item's weight goes: `of [P]`, its cell of columns, or a place behind them all for one of the `several` groups
    that reach into more cells than one; `factor [g P]`, what of its weight goes there. For those groups, each with each cell
    that it reaches into: `item, cell [p]` and `share [g p]`.
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
    """Rows of all tiles, those of one number added up, or the larger kept."""
    x = weights.detach().flatten(1, 2)
    if operation == "sum":
        # A product with zeros and ones: adding row after row costs a call each.
        return (torch.arange(count, device=row.device)[:, None] == row).to(x.dtype) @ x
    out = x.new_zeros(len(x), count, x.shape[2])
    return out.scatter_reduce_(1, row[:, None].expand_as(x), x, operation)
