"""Pooled maps of attention over stretches of sorted lists: list by list, queries in the order of their stretches.

Neighbours in that order look at nearly the same keys, which then stay near the processor. What each list gives is held as
scores until the sum over all lists is known. The plain way, row by row, is `SparseMap._cells`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts import Reduce, row_chunks
from longattn_core.numerics.maps import Entries, SparseMap, cell_of
from longattn_core.numerics.pair_scores import pair_scores
from longattn_core.numerics.sorted_lists import GATHER_PRICE, SortedLists, entries_of_lists

POOLED_SLOTS = 1 << 22
"""How many pairs are held at once: their scores and cells, some 100 MB with what is made of them on the way."""


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
            self.sequence.q, self._read, self.lists, queries, heads,
            real=self.sequence.real, scale=1 / math.sqrt(self.sequence.d), skip_self=self._skips_self,
        )  # fmt: skip

    def _cells(
        self,
        rows: list[int],
        columns: list[int],
        reduce: Reduce,
        heads: Int[Tensor, "g"],
        shares: Float[Tensor, "g n"] | None = None,
    ) -> Float[Tensor, "g H W"]:
        # Stretches nearly as long as the sequence are read as whole rows.
        if GATHER_PRICE * sum(self.lists.widest) >= self.sequence.n:
            return super()._cells(rows, columns, reduce, heads, shares)
        return pooled_lists(
            self.sequence.q, self._read, self.lists, rows, columns, reduce, heads,
            real=self.sequence.real, scale=1 / math.sqrt(self.sequence.d), skip_self=self._skips_self, shares=shares,
        )  # fmt: skip


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

    Cost: as `entries_of_lists`; memory about 100 MB.
    """
    width, device, n = len(columns) - 1, q.device, q.shape[1]
    row_cell, column_cell = cell_of(rows, n, device), cell_of(columns, n, device)
    out = q.new_zeros(len(heads), (len(rows) - 1) * width)
    everyone = torch.arange(rows[0], rows[-1], device=device)
    everyone = everyone[real[everyone]]
    for place, head in enumerate(heads.tolist()):
        share = None if shares is None else shares[place]
        for part in row_chunks(len(everyone), sum(lists.widest), POOLED_SLOTS):
            queries = everyone[part]
            found = _scored(q[head], k[head], lists, min(head, len(lists.order) - 1), queries, scale, skip_self)
            total = queries.new_zeros(0, dtype=q.dtype).new_full((len(found) + 1, len(queries)), -torch.inf)
            for i, (order, _, scores) in enumerate(found):
                total[i, order] = scores.logsumexp(-1)
            lse = total.logsumexp(0)
            alone = lse.isneginf()
            _into(out[place], queries[alone], queries[alone, None], None, row_cell, column_cell, width, reduce, share)
            lse = lse.masked_fill(alone, 0.0)
            for order, keys, scores in found:
                weights = (scores - lse[order, None]).exp_()
                _into(out[place], queries[order], keys, weights, row_cell, column_cell, width, reduce, share)
    return out.view(len(heads), -1, width)


def _scored(
    q: Float[Tensor, "n d"],
    k: Float[Tensor, "n d"],
    lists: SortedLists,
    head: int,
    queries: Int[Tensor, "r"],
    scale: float,
    skip_self: bool,
) -> list[tuple[Int[Tensor, "r"], Int[Tensor, "r w"], Float[Tensor, "r w"]]]:
    """For each list: the queries' places in the order of their stretches, their keys, and the scores, −∞ for what does not
    count: behind a stretch's end, or held by an earlier list.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    last = lists.order.shape[2] - 1
    firsts, stops = lists.first[head][:, queries], lists.stop[head][:, queries]
    for p, (first, stop) in enumerate(zip(firsts, stops, strict=True)):
        widest = int((stop - first).amax()) if len(queries) else 0
        if widest == 0:
            continue
        order = first.argsort()
        slots = first[order, None] + torch.arange(widest, device=q.device)
        fresh = slots < stop[order, None]
        keys = lists.order[head, p].index_select(0, slots.clamp_(max=last).flatten()).view_as(slots)
        for earlier in range(p):
            if bool((stops[earlier] > firsts[earlier]).any()):
                rank = lists.rank[head, earlier].index_select(0, keys.flatten()).view_as(keys)
                fresh &= (rank < firsts[earlier, order, None]) | (rank >= stops[earlier, order, None])
        if skip_self:
            fresh &= keys != queries[order, None]
        scores = pair_scores(q[None, queries[order]], k[None], keys[None])[0] * scale
        found.append((order, keys, scores.masked_fill_(~fresh, -torch.inf)))
    return found


def _into(
    flat: Float[Tensor, "HW"],
    queries: Int[Tensor, "r"],
    keys: Int[Tensor, "r w"],
    weights: Float[Tensor, "r w"] | None,
    row_cell: Int[Tensor, "n"],
    column_cell: Int[Tensor, "n"],
    width: int,
    reduce: Reduce,
    share: Float[Tensor, "n"] | None,
) -> None:
    """Add the pairs to their cells, or keep the larger; weights of None are 1."""
    weights = torch.ones(keys.shape, dtype=flat.dtype, device=flat.device) if weights is None else weights
    if share is not None:
        weights = weights * share[queries, None]
    column = column_cell.index_select(0, keys.flatten()).view_as(keys)
    cell = row_cell[queries, None] * width + column.clamp_min(0)
    weights = torch.where(column >= 0, weights, 0.0)
    flat.scatter_reduce_(0, cell.flatten(), weights.flatten(), "sum" if reduce == "mean" else "amax")
