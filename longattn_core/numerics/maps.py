"""Kinds of attention map: given by scores, by a short list of keys a row, or by two thin factors.

A mechanism says which kind its map is; rows, what was seen, and pooled pictures follow from the structure, at its
price. `[query, key]` orders every pair of axes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts import STREAM_CELLS, Attended, Looked, Reduce, bands
from longattn_core.numerics.pair_scores import pair_scores
from longattn_core.numerics.softmax import masked_softmax

BLOCK_ROWS = 4096
"""How many rows of a factor a view holds at once."""

DENSE_SHARE = 4
"""A listed key costs about as much as this many keys of a plain row of scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredMap(Attended):
    """A map that is a softmax over every key the mask allows: the subclass gives the scores."""

    @abstractmethod
    def _scores(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        """The scores before the mask, scaled as they enter the softmax."""

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        scores = self._scores(queries, heads)
        return masked_softmax(scores, self.sequence.allowed(queries).expand_as(scores))


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """The keys that each query looked at and their weights; a slot that holds no key has key −1 and weight 0.

    Shapes: `keys [g r c]` (int64, no key twice in a row), `weights [g r c]`.
    """

    keys: Int[Tensor, "g r c"]
    weights: Float[Tensor, "g r c"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseMap(Attended):
    """A map that is zero but for a short list of keys a row: the subclass gives the list. Views cost r·c, not r·n."""

    @abstractmethod
    def _entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        """The keys that were looked at and their weights, for the chosen queries and heads."""

    @property
    def lists_keys(self) -> bool:
        """A row's weights are a short list."""
        return True

    @property
    def _slots(self) -> int:
        """About how many slots a row of entries has: sets how many rows are streamed at once."""
        return int(self.sequence.n**0.5) + 64

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        entries = self._entries(queries, heads)
        weights = entries.weights
        out = torch.zeros(*weights.shape[:2], self.sequence.n, dtype=weights.dtype, device=weights.device)
        return out.scatter_add(2, entries.keys.clamp_min(0), weights)

    def _seen(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        entries = self._entries(queries, heads)
        found = (entries.keys >= 0).to(torch.int8)
        counts = torch.zeros(*found.shape[:2], self.sequence.n, dtype=torch.int8, device=found.device)
        return counts.scatter_reduce(2, entries.keys.clamp_min(0), found, "amax") > 0

    def _looked(self, head: int, query: int) -> Looked:
        device = self.output.device
        entries = self._entries(torch.tensor([query], device=device), torch.tensor([head], device=device))
        return Looked(count=int((entries.keys >= 0).sum()), unit="keys")

    def _pooled(
        self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]
    ) -> Float[Tensor, "g H W"]:
        cells = self._cells(rows, columns, reduce, heads)
        return cells / areas(rows, columns, cells) if reduce == "mean" else cells

    def _cells(
        self,
        rows: list[int],
        columns: list[int],
        reduce: Reduce,
        heads: Int[Tensor, "g"],
        shares: Float[Tensor, "g n"] | None = None,
    ) -> Float[Tensor, "g H W"]:
        """The sum of each cell's weights, or the largest; each row first times its share, if any are given. Cost: the lists'."""
        device, width = self.output.device, len(columns) - 1
        row_cell, column_cell = cell_of(rows, self.sequence.n, device), cell_of(columns, self.sequence.n, device)
        flat = self.output.new_zeros(len(heads), (len(rows) - 1) * width)
        step = max(1, STREAM_CELLS // (4 * len(heads) * self._slots))
        for start in range(rows[0], rows[-1], step):
            queries = torch.arange(start, min(start + step, rows[-1]), device=device)
            entries = self._entries(queries, heads)
            column = column_cell.index_select(0, entries.keys.clamp_min(0).flatten()).view_as(entries.keys)
            weights = entries.weights if shares is None else entries.weights * shares[:, queries, None]
            if columns[0] > 0 or columns[-1] < self.sequence.n:
                inside = column >= 0
                weights, column = weights * inside, column * inside
            cell = (row_cell[queries, None] * width + column).flatten(1)
            # An empty slot weighs nothing wherever it falls. Weights are not negative and an unseen pair is zero, so zero is
            # a safe start for the largest too.
            flat.scatter_reduce_(1, cell, weights.flatten(1), "sum" if reduce == "mean" else "amax")
        return flat.view(len(heads), -1, width)


def areas(rows: list[int], columns: list[int], like: Tensor) -> Float[Tensor, "H W"]:
    """How many pairs each cell joins."""
    tall, wide = (torch.tensor(x, dtype=like.dtype, device=like.device).diff() for x in (rows, columns))
    return tall[:, None] * wide


def cell_of(cell_edges: list[int], n: int, device: torch.device) -> Int[Tensor, "n"]:
    """The cell that each token stands in, −1 outside of all. Looked up for each pair, it costs a tenth of a search."""
    cells = torch.full((n,), -1, dtype=torch.int64, device=device)
    widths = torch.tensor(cell_edges, device=device).diff()
    cells[cell_edges[0] : cell_edges[-1]] = torch.arange(len(widths), device=device).repeat_interleave(widths)
    return cells


def entries_of_scores(
    sequence_q: Float[Tensor, "g r d"], sequence_k: Float[Tensor, "g n d"], keys: Int[Tensor, "g r c"], scale: float
) -> Entries:
    """Softmax over the listed keys (−1 for none). Cost g·r·c·d, or g·r·n·d where nearly every key is listed."""
    n, listed = sequence_k.shape[1], keys.clamp_min(0)
    if DENSE_SHARE * keys.shape[-1] > n:
        scores = (sequence_q @ sequence_k.mT).gather(2, listed)
    else:
        scores = pair_scores(sequence_q, sequence_k, listed)
    return Entries(keys=keys, weights=masked_softmax(scores * scale, keys >= 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class FactoredMap(Attended):
    """A map that is a product of two thin factors, `left [n m] @ right [m n]`, cut at the diagonal when causal.

    The left factor holds each row's normaliser; the two share a dtype, which may be finer than the output's. Rows cost
    r·m·n; the mean map costs n·m plus the cells on the diagonal.
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

    def _pooled(
        self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]
    ) -> Float[Tensor, "g H W"]:
        if reduce == "max":
            return super()._pooled(rows, columns, reduce, heads)
        if not self.sequence.causal:
            sums = _block_sums(self._left, rows, heads) @ _block_sums(self._right, columns, heads).mT
            return (sums / areas(rows, columns, sums)).to(self.output.dtype)
        sums = self._sums_of_the_past(rows, columns, heads)
        return (sums / areas(rows, columns, sums)).to(self.output.dtype)

    def _sums_of_the_past(self, rows: list[int], columns: list[int], heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """Products of block sums where a cell lies in the past; cells that the diagonal crosses are summed by pairs.

        Some thousand rows at a time, and where rows and columns are cut alike each factor is made only once.
        """
        device, alike = heads.device, rows == columns
        tops, sides = torch.tensor(rows, device=device), torch.tensor(columns, device=device)
        future = sides[None, :-1] >= tops[1:, None]
        crossed = ~future & (sides[None, 1:] - 1 > tops[:-1, None])
        above, aside, pairs = [], [], []
        for begin, end in bands(rows, BLOCK_ROWS):
            queries = torch.arange(rows[begin], rows[end], device=device)
            left = self._left(queries, heads)
            above.append(_sums_within(left, [x - rows[begin] for x in rows[begin : end + 1]]))
            some = crossed[begin:end].any(0).nonzero().squeeze(-1)
            low, high = (begin, end) if alike else (int(some[0]), int(some[-1]) + 1) if len(some) else (0, 0)
            keys = torch.arange(columns[low], columns[high], device=device)
            right = self._right(keys, heads) if len(keys) else left[:, :0]
            if alike:
                aside.append(_sums_within(right, [x - columns[low] for x in columns[low : high + 1]]))
            for row in range(begin, end):
                cells = crossed[row].nonzero().squeeze(-1)
                if not len(cells):
                    continue
                edges = columns[int(cells[0]) : int(cells[-1]) + 2]
                part = right[:, edges[0] - columns[low] : edges[-1] - columns[low]]
                block = left[:, rows[row] - rows[begin] : rows[row + 1] - rows[begin]] @ part.mT
                later = (
                    torch.arange(edges[0], edges[-1], device=device)
                    > queries[rows[row] - rows[begin] :, None][: block.shape[1]]
                )
                inside = block.masked_fill_(later, 0.0).sum(1, keepdim=True)
                pairs.append((row, cells, _sums_within(inside.mT, [x - edges[0] for x in edges]).mT))
        right_sums = torch.cat(aside, dim=1) if alike else _block_sums(self._right, columns, heads)
        sums = (torch.cat(above, dim=1) @ right_sums.mT).masked_fill(future, 0.0)
        for row, cells, inside in pairs:
            sums[:, row, cells] = inside[:, 0]
        return sums


def _sums_within(x: Float[Tensor, "g r m"], bounds: list[int]) -> Float[Tensor, "g B m"]:
    """Sums over consecutive runs of rows; bounds begin at 0 and end at r."""
    return torch.stack([x[:, low:high].sum(1) for low, high in pairwise(bounds)], dim=1)


def _block_sums(
    factor: Callable[[Int[Tensor, "r"], Int[Tensor, "g"]], Float[Tensor, "g r m"]],
    block_edges: list[int],
    heads: Int[Tensor, "g"],
) -> Float[Tensor, "g B m"]:
    """Sums of a factor's rows over consecutive blocks of tokens, some thousand rows at a time."""
    sums = None
    first, last = block_edges[0], block_edges[-1]
    inner = torch.tensor(block_edges[1:-1], device=heads.device)
    for start in range(first, last, BLOCK_ROWS):
        tokens = torch.arange(start, min(start + BLOCK_ROWS, last), device=heads.device)
        part = factor(tokens, heads)
        if sums is None:
            sums = part.new_zeros(len(heads), len(block_edges) - 1, part.shape[-1])
        sums.index_add_(1, torch.bucketize(tokens, inner, right=True), part)
    assert sums is not None
    return sums


def inverse_root(d: int) -> float:
    """1/√d, the factor that keeps the scores' variance near 1."""
    return 1.0 / math.sqrt(d)
