"""Tiles of sorted lists: blocks of queries in the order of their stretches, each against consecutive keys that cover them.

Neighbours in that order read nearly the same keys. So the scores of a tile are one small product of matrices, in which the
pairs outside the stretches are masked. Outputs and pooled maps are both made of tiles.

                 places in the list
    query a      . # # # # . . . . . . .
    query b      . . # # # # . . . . . .       #: the stretch of a query
    query c      . . . # # # # . . . . .
    query d      . . . . # # # # . . . .
                   [-- one tile --]            4 queries against the keys at places 1 … 7

A tile has a multiple of `GRAIN` and at most `LONGEST` keys; a longer range is covered by several tiles.
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
"""How many scores are held at once: 2 MB, and a few times as much for keys, values and masks."""

GRAIN = 16
"""The number of keys of a tile is a multiple of this, so that many tiles have the same shape and are computed together."""

LONGEST = 1024
"""The largest number of keys of a tile."""

GAP = 64
"""Two stretches with at most this many keys between them are read in one tile."""

MANY = 1 << 21
"""Up to this many keys four times a place is exact in float32, which `Biases` relies on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tile:
    """a blocks of b queries of one head, each block against c consecutive keys of list p.

    `queries [a b]` and `keys [a c]` are tokens; query n is an empty place. `slots [a c]` are the keys' places in the list, which
    may lie behind its end. `earlier` are the lists before p that have stretches. `first`: none of its queries has read a key yet.
    """

    head: int
    p: int
    queries: Int[Tensor, "a b"]
    keys: Int[Tensor, "a c"]
    slots: Int[Tensor, "a c"]
    earlier: tuple[int, ...]
    first: bool

    def mask(self, lists: SortedLists) -> Bool[Tensor, "a b c"]:
        """Which keys lie in a query's stretch of list p, and in no stretch of an earlier list."""
        first, stop = self._stretch(lists, self.p)
        mask = (self.slots[:, None, :] >= first) & (self.slots[:, None, :] < stop)
        for p in self.earlier:
            first, stop = self._stretch(lists, p)
            rank = lists.rank[self.head, p][self.keys][:, None, :]
            mask &= (rank < first) | (rank >= stop)
        return mask

    def _stretch(self, lists: SortedLists, p: int) -> tuple[Int[Tensor, "a b 1"], Int[Tensor, "a b 1"]]:
        """Where each query's stretch of list p begins and ends; an empty one for an empty place."""
        safe = self.queries.clamp_max(lists.order.shape[-1] - 1)
        first, stop = lists.first[self.head, p][safe], lists.stop[self.head, p][safe]
        return first[..., None], torch.where(self.queries < lists.order.shape[-1], stop, first)[..., None]


class Biases:
    """`Tile.mask` as numbers that the kernel adds to its scores: 0, or −∞; also −∞ for a query's own key with `skip_self`.

    Made by sums, because comparisons are slow. depth = half the length of the stretch − the distance from its middle, which is
    positive inside and negative outside. Four times this depth is a whole number and at least 2 away from 0 (hence the factor);
    the part below 0, times 2¹²⁷, is −∞ outside and 0 inside.
    """

    def __init__(self, lists: SortedLists, head: int, *, skip_self: bool) -> None:
        first, stop = lists.first[head], lists.stop[head]
        # The last place is that of query n, an empty place: no key lies inside its stretch.
        self._middle = pad((2 * (first + stop - 1)).float(), (0, 1))
        self._half = pad((2 * (stop - first)).float(), (0, 1), value=-2.0)
        self._rank, self._place = lists.rank[head], _four(lists.rank[head])
        self._skip_self = skip_self

    def of(self, tile: Tile) -> Float[Tensor, "a b c"]:
        """The bias of one tile."""
        lists = slice(tile.p + 1)
        middles, halves = (x[lists].index_select(1, tile.queries.flatten()) for x in (self._middle, self._half))
        places = torch.cat([self._place[: tile.p].index_select(1, tile.keys.flatten()), _four(tile.slots).view(1, -1)])
        depth = None
        for p in (tile.p, *tile.earlier):
            distance = places[p].view_as(tile.keys)[:, None, :] - middles[p].view_as(tile.queries)[..., None]
            distance.abs_()
            half = halves[p].view_as(tile.queries)[..., None]
            if depth is None:
                depth = torch.sub(half, distance, out=distance)
            else:
                # What an earlier list holds counts as outside.
                torch.minimum(depth, distance.sub_(half), out=depth)
        assert depth is not None
        if self._skip_self:
            n = len(self._rank[0])
            column = self._rank[tile.p].index_select(0, tile.queries.flatten().clamp_max(n - 1)).view_as(tile.queries)
            column -= tile.slots[:, :1]
            inside = (column >= 0) & (column < depth.shape[-1])
            column += torch.arange(0, depth.numel(), depth.shape[-1]).view_as(column)
            depth.view(-1).index_fill_(0, column[inside], -2.0)
        return depth.clamp_max_(0.0).mul_(2.0**127)


def _four(places: Int[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    return (4 * places).float()


def tiles(lists: SortedLists, head: int, among: Int[Tensor, "r"] | None = None, cells: int | None = None) -> Iterator[Tile]:
    """The tiles that cover every stretch of one head, list by list; with `among`, only the stretches of those queries.

    A tile has at most `cells` scores, by default TILE_CELLS, or those of a single block.
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
                same_length = (lengths == length).nonzero().squeeze(-1)
                for part in row_chunks(len(same_length), length * queries.shape[1], cells or TILE_CELLS):
                    chosen = same_length[part]
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
    """The lengths of the tiles that cover so many keys: multiples of GRAIN, 0 for a block without keys."""
    return ((lengths + GRAIN - 1) // GRAIN * GRAIN).clamp(0, LONGEST)


def _read(lists: SortedLists, head: int, among: Int[Tensor, "r"] | None = None) -> list[int]:
    """The lists in which any query of this head (with `among`: any of those) has a stretch."""
    reads = lists.stop[head] > lists.first[head]
    reads = reads if among is None else reads[:, among]
    return [p for p, is_read in enumerate(reads.any(-1).tolist()) if is_read]


def _blocks(
    lists: SortedLists, head: int, p: int, among: Int[Tensor, "r"] | None = None
) -> tuple[Int[Tensor, "a b"], Int[Tensor, "a"], Int[Tensor, "a"]]:
    """The queries of one head in blocks, in the order of their stretches of list p, and the range [low, high) of each block.

    Query n is an empty place. With `among` a block ends before a gap of more than GAP keys that no stretch covers.
    """
    first, stop, n = lists.first[head, p], lists.stop[head, p], lists.order.shape[-1]
    if among is not None:
        first, stop = first[among], stop[among]
    widest = int((stop - first).amax())
    block = min(len(first), 256, max(64, (1 << (widest - 1).bit_length()) // 2))
    some = (stop > first).nonzero().squeeze(-1)
    # While most queries have a stretch, those without one keep their places too, so that blocks stay aligned with chunks.
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
    """How many scores `attend_lists` computes for each list, without computing them. Cost: one sort a list."""
    counts = [0] * lists.order.shape[1]
    for head in range(len(lists.order)):
        for p in _read(lists, head):
            queries, start, end = _blocks(lists, head, p)
            length = (end - start).clamp_min(0)
            # All tiles of a block have LONGEST keys, except the last.
            counts[p] += int((length // LONGEST * LONGEST + _whole(length % LONGEST)).sum()) * queries.shape[1]
    return counts
