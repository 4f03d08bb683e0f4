"""The map of a mechanism that reads tokens and groups: a group's weight is shared out among its tokens.

A row is Σ over the tokens read of their weights, plus Σ over the groups read of weight × share, where a group's shares are
those by which its value was pooled. So rows(all) @ v is the output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts import STREAM_CELLS, Attended, Index, Looked, Reduce, row_chunks
from longattn_core.numerics.readings import Reading


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
class LiftedMap(Attended):
    """A map given by a reading; the subclass explains it. Views cost the items read, and n to share a row out."""

    reading: Reading

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        reading, out = self.reading, self.output.new_zeros(len(heads), len(queries), self.sequence.n)
        step = max(1, STREAM_CELLS // (len(heads) * reading.bases[-1]))
        for start in range(0, len(queries), step):
            entries = reading.entries(queries[start : start + step], heads)
            row = self.output.new_zeros(*entries.keys.shape[:2], reading.bases[-1])
            row = row.scatter_add(2, entries.keys.clamp_min(0), entries.weights)
            out[:, start : start + step] = self._shared_out(row, heads)
        return out

    def _shared_out(self, row: Float[Tensor, "g r P"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        bases = self.reading.bases
        out = row[..., : bases[1]]
        for base, stop, groups in zip(bases[1:-1], bases[2:], self.reading.groups, strict=True):
            out = out + row[..., base:stop][..., groups.of] * groups.share[heads][:, None, :]
        return out

    def _seen(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        bases, real = self.reading.bases, self.sequence.real
        out = torch.zeros(len(heads), len(queries), self.sequence.n, dtype=torch.bool, device=real.device)
        step = max(1, STREAM_CELLS // (len(heads) * bases[-1]))
        for start in range(0, len(queries), step):
            entries = self.reading.entries(queries[start : start + step], heads)
            read = torch.zeros(*entries.keys.shape[:2], bases[-1], dtype=torch.int8, device=real.device)
            found = (entries.keys >= 0).to(torch.int8)
            read = read.scatter_reduce(2, entries.keys.clamp_min(0), found, "amax") > 0
            part = read[..., : bases[1]]
            for base, stop, groups in zip(bases[1:-1], bases[2:], self.reading.groups, strict=True):
                part = part | (read[..., base:stop][..., groups.of] & real)
            out[:, start : start + step] = part
        return out

    def _looked(self, head: int, query: int) -> Looked:
        return Looked(count=self.reading.looked(query), unit="keys and groups" if self.reading.groups else "keys")

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

    def _pooled(
        self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]
    ) -> Float[Tensor, "g H W"]:
        """Pool the rows of a cell while they are still lists of items, then share the items out: H·P + n·C, not n²."""
        if reduce == "max" and not self.reading.disjoint:
            return super()._pooled(rows, columns, reduce, heads)
        device, items = self.output.device, self.reading.bases[-1]
        operation: Literal["sum", "amax"] = "sum" if reduce == "mean" else "amax"
        pair_item, pair_cell, pair_share = self._pairs(columns, operation, heads)
        edges, width = torch.tensor(rows, device=device), len(columns) - 1
        bands, tall = [], max(1, 4 * STREAM_CELLS // (len(heads) * items))
        for top in range(0, len(rows) - 1, tall):
            bottom = min(top + tall, len(rows) - 1)
            band = self.output.new_zeros(len(heads), (bottom - top) * items)
            queries = torch.arange(rows[top], rows[bottom], device=device)
            for part in row_chunks(len(queries), len(heads) * self.reading.row_items):
                some = queries[part]
                entries = self.reading.entries(some, heads)
                cell = torch.bucketize(some, edges[1:-1], right=True) - top
                index = (cell[:, None] * items + entries.keys.clamp_min(0)).flatten(1)
                # Weights are not negative, so zero is a safe start for the largest too.
                band.scatter_reduce_(1, index, entries.weights.flatten(1).detach(), operation)
            spread = band.view(len(heads), bottom - top, items)[..., pair_item] * pair_share[:, None, :]
            out = self.output.new_zeros(len(heads), bottom - top, width)
            bands.append(out.scatter_reduce_(2, pair_cell.expand_as(spread), spread, operation))
        out = torch.cat(bands, dim=1)
        if reduce == "mean":
            out = out / (edges.diff()[:, None] * torch.tensor(columns, device=device).diff()).to(out.dtype)
        return out

    def _pairs(
        self, columns: list[int], operation: Literal["sum", "amax"], heads: Int[Tensor, "g"]
    ) -> tuple[Int[Tensor, "p"], Int[Tensor, "p"], Float[Tensor, "g p"]]:
        """Each item with each cell of columns that it reaches into, and the sum or the largest of its shares there."""
        device, bases = self.output.device, self.reading.bases
        keys = torch.arange(columns[0], columns[-1], device=device)
        cell = torch.bucketize(keys, torch.tensor(columns[1:-1], device=device), right=True)
        items, cells, shares = [keys], [cell], [self.output.new_ones(len(heads), len(keys))]
        for base, groups in zip(bases[1:-1], self.reading.groups, strict=True):
            both = torch.stack([groups.of[keys], cell])
            pairs, pair = torch.unique_consecutive(both, dim=1, return_inverse=True)
            share = groups.share[heads][:, keys].detach()
            part = self.output.new_zeros(len(heads), pairs.shape[1])
            items.append(base + pairs[0])
            cells.append(pairs[1])
            shares.append(part.scatter_reduce_(1, pair.expand_as(share), share, operation))
        return torch.cat(items), torch.cat(cells), torch.cat(shares, dim=1)
