"""Tiles of sorted lists: blocks of queries in the order of their stretches, each against consecutive keys that cover them.

Neighbours in that order look at nearly the same keys, so a tile is a small product of matrices, and what its queries do not
look at is masked. Outputs and pooled maps are both made of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from longattn_core.contracts.indexing import row_chunks
from longattn_core.numerics.lists.order import stable_order
from longattn_core.numerics.lists.sorted_lists import SortedLists

TILE_CELLS = 1 << 19
"""How many scores are held at once: 2 MB, and a few times as much for what they are made of and what masks them."""

GRAIN = 16
"""A tile has a multiple of so many keys, so that many tiles have the same shape and are made together."""

LONGEST = 1024
"""A tile has no more keys than this."""

GAP = 64
"""Keys between two stretches that are fewer than this are read in one tile with both."""

MANY = 1 << 21
"""Up to so many keys four times a place is exact in float32, as the kernel's bias wants it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """Blocks of one head's queries, each against c consecutive keys of list p.

    `queries [a b]` and `keys [a c]` are tokens (n for no query), `slots [a c]` the keys' places in the list, which may lie
    behind its end; `first`: no query of it has met a key before.
    """

    head: int
    p: int
    queries: Int[Tensor, "a b"]
    keys: Int[Tensor, "a c"]
    slots: Int[Tensor, "a c"]
    earlier: tuple[int, ...]
    first: bool

    def mask(self, lists: SortedLists) -> Bool[Tensor, "a b c"]:
        """Which keys lie in a query's stretch, and in none of an earlier list."""
        first, stop = self._stretch(lists, self.p)
        mask = (self.slots[:, None, :] >= first) & (self.slots[:, None, :] < stop)
        for p in self.earlier:
            first, stop = self._stretch(lists, p)
            rank = lists.rank[self.head, p][self.keys][:, None, :]
            mask &= (rank < first) | (rank >= stop)
        return mask

    def _stretch(self, lists: SortedLists, p: int) -> tuple[Int[Tensor, "a b 1"], Int[Tensor, "a b 1"]]:
        """Where each query's stretch of list p begins and ends; none for no query."""
        safe = self.queries.clamp_max(lists.order.shape[-1] - 1)
        first, stop = lists.first[self.head, p][safe], lists.stop[self.head, p][safe]
        return first[..., None], torch.where(self.queries < lists.order.shape[-1], stop, first)[..., None]


class Biases:
    """`Tile.mask` as what the kernel adds to its scores, 0 or −∞, and without the own key when that is to be skipped.

    Comparisons are slow and sums are not: half a stretch's length less the distance from its middle is positive inside.
    Four times both are whole numbers, at least 2 away from 0, and 2·2¹²⁷ is infinite.
    """

    def __init__(self, lists: SortedLists, head: int, *, skip_self: bool) -> None:
        first, stop = lists.first[head], lists.stop[head]
        # Behind the last query stands none, which nothing lies inside of.
        self._middle = pad((2 * (first + stop - 1)).float(), (0, 1))
        self._half = pad((2 * (stop - first)).float(), (0, 1), value=-2.0)
        self._rank, self._place = lists.rank[head], _four(lists.rank[head])
        self._skip_self = skip_self

    def of(self, tile: Tile) -> Float[Tensor, "a b c"]:
        """The tile's bias."""
        lists = slice(tile.p + 1)
        middles, halves = (x[lists].index_select(1, tile.queries.flatten()) for x in (self._middle, self._half))
        places = torch.cat([self._place[: tile.p].index_select(1, tile.keys.flatten()), _four(tile.slots).view(1, -1)])
        found = None
        for p in (tile.p, *tile.earlier):
            depth = places[p].view_as(tile.keys)[:, None, :] - middles[p].view_as(tile.queries)[..., None]
            depth.abs_()
            half = halves[p].view_as(tile.queries)[..., None]
            if found is None:
                found = torch.sub(half, depth, out=depth)
            else:
                # What an earlier list holds counts as what lies outside.
                torch.minimum(found, depth.sub_(half), out=found)
        assert found is not None
        if self._skip_self:
            n = len(self._rank[0])
            column = self._rank[tile.p].index_select(0, tile.queries.flatten().clamp_max(n - 1)).view_as(tile.queries)
            column -= tile.slots[:, :1]
            inside = (column >= 0) & (column < found.shape[-1])
            column += torch.arange(0, found.numel(), found.shape[-1]).view_as(column)
            found.view(-1).index_fill_(0, column[inside], -2.0)
        return found.clamp_max_(0.0).mul_(2.0**127)


def _four(places: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    return (4 * places).float()


def tiles(lists: SortedLists, head: int, among: Int[Tensor, "r"] | None = None, cells: int | None = None) -> Iterator[Tile]:
    """The tiles that cover every stretch of one head, list by list, `cells` scores at once (TILE_CELLS, if nothing is said); only
    those of some queries, if any are named.
    """
    n = lists.order.shape[-1]
    earlier: tuple[int, ...] = ()
    for p in _read(lists, head, among):
        order = lists.order[head, p]
        queries, start, end = _blocks(lists, head, p, among)
        for step in range(math.ceil(int((end - start).amax()) / LONGEST)):
            begin = start + step * LONGEST
            lengths = _whole(end - begin)
            for length in sorted(set(lengths.tolist()) - {0}):
                alike = (lengths == length).nonzero().squeeze(-1)
                for part in row_chunks(len(alike), length * queries.shape[1], cells or TILE_CELLS):
                    chosen = alike[part]
                    slots = begin[chosen, None] + torch.arange(length, device=order.device)
                    keys = order.index_select(0, slots.flatten().clamp_max(n - 1)).view_as(slots)
                    yield Tile(
                        head=head,
                        p=p,
                        queries=queries[chosen],
                        keys=keys,
                        slots=slots,
                        earlier=earlier,
                        first=not earlier and step == 0,
                    )
        earlier = (*earlier, p)


def _whole(lengths: Int[Tensor, "a"]) -> Int[Tensor, "a"]:
    """The lengths of tiles that cover as many keys: whole grains, none for a block that sees nothing."""
    return ((lengths + GRAIN - 1) // GRAIN * GRAIN).clamp(0, LONGEST)


def _read(lists: SortedLists, head: int, among: Int[Tensor, "r"] | None = None) -> list[int]:
    """The lists in which any query of this head, or any of those named, has a stretch."""
    some = lists.stop[head] > lists.first[head]
    some = some if among is None else some[:, among]
    return [p for p, found in enumerate(some.any(-1).tolist()) if found]


def _blocks(
    lists: SortedLists, head: int, p: int, among: Int[Tensor, "r"] | None = None
) -> tuple[Int[Tensor, "a b"], Int[Tensor, "a"], Int[Tensor, "a"]]:
    """One head's queries in blocks (n: none), in the order of their stretches of list p, and the span of each block's.

    Where some are named, a block ends before a gap that none of their stretches covers.
    """
    first, stop, n = lists.first[head, p], lists.stop[head, p], lists.order.shape[-1]
    if among is not None:
        first, stop = first[among], stop[among]
    widest = int((stop - first).amax())
    block = min(len(first), 256, max(64, (1 << (widest - 1).bit_length()) // 2))
    some = (stop > first).nonzero().squeeze(-1)
    # As long as most queries see something the others keep their places: blocks then stay in step with chunks.
    chosen = torch.arange(len(first), device=first.device) if 2 * len(some) > len(first) else some
    middle = (first + stop)[chosen]
    chosen = chosen[stable_order(middle, 2 * n + 1)]
    low = torch.where(stop > first, first, n)[chosen]
    high = torch.where(stop > first, stop, 0)[chosen]
    place = torch.arange(len(chosen), device=first.device)
    queries = chosen
    if among is not None:
        queries = among[chosen]
        apart = (low[1:] < n) & (low[1:] - high.cummax(0).values[:-1] > GAP)
        begin = pad(apart.nonzero().squeeze(-1) + 1, (1, 0))
        lengths = pad(begin[1:], (0, 1), value=len(chosen)) - begin
        block = min(block, max(GRAIN, 1 << (len(chosen) // len(begin) - 1).bit_length()))
        room = (lengths + block - 1) // block * block
        place = place + (room.cumsum(0) - room - begin).repeat_interleave(lengths)
    count = -(-(int(place[-1]) + 1) // block) * block
    queries, low, high = (
        x.new_full((count,), fill).index_copy(0, place, x).view(-1, block) for x, fill in ((queries, n), (low, n), (high, 0))
    )
    return queries, low.amin(1), high.amax(1)


def scores_computed(lists: SortedLists) -> list[int]:
    """How many scores `attend_lists` would compute for each list. Cost: a sort a list."""
    counts = [0] * lists.order.shape[1]
    for head in range(len(lists.order)):
        for p in _read(lists, head):
            queries, start, end = _blocks(lists, head, p)
            length = (end - start).clamp_min(0)
            # All its tiles but the last are as long as may be.
            counts[p] += int((length // LONGEST * LONGEST + _whole(length % LONGEST)).sum()) * queries.shape[1]
    return counts
