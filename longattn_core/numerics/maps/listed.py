"""Maps given by scores (`ScoredMap`) or by a short list of keys in each row (`SparseMap`).

A mechanism states the kind of its map; its rows, its kept pairs and its pooled pictures then follow from that structure and
cost what the structure costs. The other kinds stand beside this file: `factored.py` (two thin factors) and `grouped.py`
(keys and groups of keys). Every pair of axes is ordered [query, key].
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS
from longattn_core.contracts.mechanism import Attended, ReadCount, Reduce
from longattn_core.contracts.pooling import areas, cell_of
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.pair_scores import pair_scores
from longattn_core.numerics.softmax import masked_softmax

DENSE_SHARE = 4
"""A listed key costs about as much as this many keys of a plain row of scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredMap(Attended):
    """A map that is a softmax over all keys that the mask allows: the subclass defines the scores."""

    @abstractmethod
    def _scores(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        """The scores before the mask, scaled as they enter the softmax."""

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        scores = self._scores(queries, heads)
        return masked_softmax(scores, self.sequence.allowed(queries).expand_as(scores))


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseMap(Attended):
    """A map that is zero except at a short list of keys in each row: the subclass defines the list. Views cost r·c, not r·n."""

    @abstractmethod
    def _entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        """The keys that the chosen queries read in the chosen heads, and their weights."""

    @property
    def lists_keys(self) -> bool:
        """True: the weights of a row are a short list."""
        return True

    @property
    def _slots(self) -> int:
        """About how many slots a row of entries has; it decides how many rows are streamed at once."""
        return int(self.sequence.n**0.5) + 64

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        return self._spread(self._entries(queries, heads))

    def _spread(self, entries: Entries) -> Float[Tensor, "g r n"]:
        weights = entries.weights
        out = torch.zeros(*weights.shape[:2], self.sequence.n, dtype=weights.dtype, device=weights.device)
        return out.scatter_add_(2, entries.keys.clamp_min(0), weights)

    def _kept(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        return self._marked(self._entries(queries, heads))

    def _marked(self, entries: Entries) -> Bool[Tensor, "g r n"]:
        return listed(entries.keys, self.sequence.n)

    def _rows_and_kept(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r n"], Bool[Tensor, "g r n"]]:
        entries = self._entries(queries, heads)
        return self._spread(entries), self._marked(entries)

    def _read_count(self, head: int, query: int) -> ReadCount:
        device = self.output.device
        entries = self._entries(torch.tensor([query], device=device), torch.tensor([head], device=device))
        return ReadCount(count=int((entries.keys >= 0).sum()), unit="keys")

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
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
        """The sum or the largest of each cell's weights; where `shares` are given, each row is first multiplied by its share.

        Cost: that of the lists.
        """
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
            # An empty slot has weight 0, so its cell does not matter. No weight is negative, and a dropped pair has weight 0: so
            # 0 is a valid start for the largest too.
            flat.scatter_reduce_(1, cell, weights.flatten(1), "sum" if reduce == "mean" else "amax")
        return flat.view(len(heads), -1, width)


def listed(keys: Int[Tensor, "g r c"], size: int) -> Bool[Tensor, "g r size"]:
    """Which of the numbers 0 … size − 1 each row lists; −1 is an empty slot."""
    # One column more than there are numbers takes the empty slots.
    marks = torch.zeros(*keys.shape[:2], size + 1, dtype=torch.bool, device=keys.device)
    return marks.scatter_(2, torch.where(keys >= 0, keys, size), True)[..., :size]


def entries_of_scores(q: Float[Tensor, "g r d"], k: Float[Tensor, "g n d"], keys: Int[Tensor, "g r c"], scale: float) -> Entries:
    """Softmax over the listed keys (−1 for none). Cost g·r·c·d, or g·r·n·d where nearly every key is listed."""
    some, nearly_all = keys.clamp_min(0), DENSE_SHARE * keys.shape[-1] > k.shape[1]
    scores = (q @ k.mT).gather(2, some) if nearly_all else pair_scores(q, k, some)
    return Entries(keys=keys, weights=masked_softmax(scores * scale, keys >= 0))


def inverse_root(d: int) -> float:
    """1/√d, the factor that keeps the variance of the scores near 1."""
    return 1.0 / math.sqrt(d)
