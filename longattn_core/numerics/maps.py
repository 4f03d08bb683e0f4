"""Kinds of attention map: given by scores, by a short list of keys a row, or by two thin factors.

A mechanism says which kind its map is; rows, what was seen, and pooled pictures follow from the structure, at its
price. `[query, key]` orders every pair of axes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts import STREAM_CELLS, Attended, Looked, Reduce
from longattn_core.numerics.softmax import masked_softmax


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredMap(Attended):
    """A map that is a softmax over every key the mask allows: the subclass gives the scores."""

    @abstractmethod
    def _scores(self, queries: Int[Tensor, r], heads: Int[Tensor, g]) -> Float[Tensor, "g r n"]:
        """The scores before the mask, scaled as they enter the softmax."""

    def _rows(self, queries: Int[Tensor, r], heads: Int[Tensor, g]) -> Float[Tensor, "g r n"]:
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
    def _entries(self, queries: Int[Tensor, r], heads: Int[Tensor, g]) -> Entries:
        """The keys that were looked at and their weights, for the chosen queries and heads."""

    @property
    def _slots(self) -> int:
        """About how many slots a row of entries has: sets how many rows are streamed at once."""
        return int(self.sequence.n**0.5) + 64

    def _rows(self, queries: Int[Tensor, r], heads: Int[Tensor, g]) -> Float[Tensor, "g r n"]:
        entries = self._entries(queries, heads)
        weights = entries.weights
        out = torch.zeros(*weights.shape[:2], self.sequence.n, dtype=weights.dtype, device=weights.device)
        return out.scatter_add(2, entries.keys.clamp_min(0), weights)

    def _seen(self, queries: Int[Tensor, r], heads: Int[Tensor, g]) -> Bool[Tensor, "g r n"]:
        entries = self._entries(queries, heads)
        found = (entries.keys >= 0).to(torch.int8)
        counts = torch.zeros(*found.shape[:2], self.sequence.n, dtype=torch.int8, device=found.device)
        return counts.scatter_reduce(2, entries.keys.clamp_min(0), found, "amax") > 0

    def _looked(self, head: int, query: int) -> Looked:
        device = self.output.device
        entries = self._entries(torch.tensor([query], device=device), torch.tensor([head], device=device))
        return Looked(count=int((entries.keys >= 0).sum()), unit="keys")

    def _pooled(
        self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, g]
    ) -> Float[Tensor, "g H W"]:
        device, dtype = self.output.device, self.output.dtype
        height, width = len(rows) - 1, len(columns) - 1
        row_edges = torch.tensor(rows[1:-1], device=device)
        column_edges = torch.tensor(columns[1:-1], device=device)
        flat = torch.zeros(len(heads), height * width, dtype=dtype, device=device)
        step = max(1, STREAM_CELLS // (4 * len(heads) * self._slots))
        for start in range(rows[0], rows[-1], step):
            queries = torch.arange(start, min(start + step, rows[-1]), device=device)
            entries = self._entries(queries, heads)
            inside = (entries.keys >= columns[0]) & (entries.keys < columns[-1])
            cell = torch.bucketize(queries, row_edges, right=True)[:, None] * width
            cell = (cell + torch.bucketize(entries.keys, column_edges, right=True)).flatten(1)
            weights = torch.where(inside, entries.weights, torch.zeros_like(entries.weights)).flatten(1)
            # Weights are not negative and an unseen pair is zero, so zero is a safe start for the largest too.
            flat.scatter_reduce_(1, cell, weights, "sum" if reduce == "mean" else "amax")
        out = flat.view(len(heads), height, width)
        if reduce == "mean":
            tall, wide = torch.tensor(rows, device=device).diff(), torch.tensor(columns, device=device).diff()
            out = out / (tall[:, None] * wide[None, :]).to(dtype)
        return out


def entries_of_scores(
    sequence_q: Float[Tensor, "g r d"], sequence_k: Float[Tensor, "g n d"], keys: Int[Tensor, "g r c"], scale: float
) -> Entries:
    """Softmax over the listed keys (−1 for none). Cost g·r·c·d; memory g·r·c·d for the gathered keys."""
    heads, _, width = sequence_k.shape
    index = keys.clamp_min(0).flatten(1)[..., None].expand(heads, -1, width)
    gathered = sequence_k.gather(1, index).view(*keys.shape, width)
    scores = (gathered @ sequence_q[..., None]).squeeze(-1) * scale
    return Entries(keys=keys, weights=masked_softmax(scores, keys >= 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class FactoredMap(Attended):
    """A map that is a product of two thin factors, `left [n m] @ right [m n]`, cut at the diagonal when causal.

    The left factor holds each row's normaliser. Rows cost r·m·n; the mean map costs n·m plus the cells on the diagonal.
    """

    @abstractmethod
    def _left(self, queries: Int[Tensor, r], heads: Int[Tensor, g]) -> Float[Tensor, "g r m"]:
        """The left factor's rows, normalised, zero for a padded query."""

    @abstractmethod
    def _right(self, keys: Int[Tensor, c], heads: Int[Tensor, g]) -> Float[Tensor, "g c m"]:
        """The right factor's rows (one a key), zero for a padded key."""

    def _rows(self, queries: Int[Tensor, r], heads: Int[Tensor, g]) -> Float[Tensor, "g r n"]:
        everything = torch.arange(self.sequence.n, device=self.output.device)
        rows = self._left(queries, heads) @ self._right(everything, heads).mT
        return torch.where(self.sequence.allowed(queries), rows, torch.zeros_like(rows))

    def _pooled(
        self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, g]
    ) -> Float[Tensor, "g H W"]:
        if reduce == "max":
            return super()._pooled(rows, columns, reduce, heads)
        device = self.output.device
        queries = torch.arange(rows[0], rows[-1], device=device)
        keys = torch.arange(columns[0], columns[-1], device=device)
        left, right = self._left(queries, heads), self._right(keys, heads)
        tops, sides = torch.tensor(rows, device=device), torch.tensor(columns, device=device)
        out = _block_sums(left, tops) @ _block_sums(right, sides).mT
        if self.sequence.causal:
            out = self._cut_at_diagonal(out, left, right, tops, sides)
        return out / (tops.diff()[:, None] * sides.diff()[None, :]).to(out.dtype)

    def _cut_at_diagonal(
        self,
        sums: Float[Tensor, "g H W"],
        left: Float[Tensor, "g r m"],
        right: Float[Tensor, "g c m"],
        tops: Int[Tensor, H1],
        sides: Int[Tensor, W1],
    ) -> Float[Tensor, "g H W"]:
        """Drop what lies in the future: whole cells are zero, and a cell that the diagonal crosses is summed pair by pair."""
        first, last = tops[:-1, None], tops[1:, None] - 1
        future = sides[None, :-1] > last
        crossed = ~future & (sides[None, 1:] - 1 > first)
        sums = sums.masked_fill(future, 0.0)
        for row, column in crossed.nonzero().tolist():
            r0, r1, c0, c1 = int(tops[row]), int(tops[row + 1]), int(sides[column]), int(sides[column + 1])
            block = left[:, r0 - tops[0] : r1 - tops[0]] @ right[:, c0 - sides[0] : c1 - sides[0]].mT
            past = (
                torch.arange(c0, c1, device=block.device)[None, :] <= torch.arange(r0, r1, device=block.device)[:, None]
            )
            sums[:, row, column] = (block * past).sum((1, 2))
        return sums


def _block_sums(x: Float[Tensor, "g r m"], block_edges: Int[Tensor, B1]) -> Float[Tensor, "g B m"]:
    """Sums over consecutive blocks of rows; edges are absolute, the first one is row 0 of x."""
    cells = torch.repeat_interleave(torch.arange(len(block_edges) - 1, device=x.device), block_edges.diff())
    out = torch.zeros(x.shape[0], len(block_edges) - 1, x.shape[2], dtype=x.dtype, device=x.device)
    return out.index_add(1, cells, x)


def inverse_root(d: int) -> float:
    """1/√d, the factor that keeps the scores' variance near 1."""
    return 1.0 / math.sqrt(d)
