"""Sorted lists of keys, of which each query reads one stretch: how hashing and clustering state which pairs they keep.

A list holds all keys in an order of its own, for instance by bucket and position; each query reads one stretch [first, stop):

    place     0  1  2 | 3  4  5  6 | 7  8  9
    order     3  7  9 | 0  4  5  8 | 1  2  6       the keys; `rank` is the inverse: rank[8] = 6
    bucket    0  0  0 | 1  1  1  1 | 2  2  2
    query 8               [------->                first = 4, stop = 7: the last 3 keys of its bucket up to itself

A pair that lies in the stretches of several lists counts in the first of them only. So the lists are disjoint, and their sums
of exponentials add up to the softmax over the union, exactly.

Source: sorting by bucket and position is Reformer's (Kitaev et al. 2020, arXiv:2001.04451, section 2). Our deviation:
stretches in place of fixed chunks; pairs that are found twice are left out, instead of corrected by the logarithm of their
count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.huge_pages import empty, empty_like
from longattn_core.numerics.lists.order import stable_order
from longattn_core.numerics.softmax import masked_softmax

VIEW_CELLS = 1 << 22
"""How many numbers of gathered keys a view holds at once."""

GATHER_PRICE = 2
"""A gathered key costs about as much as this many keys of a row that is computed whole."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SortedLists:
    """p lists of all keys, and the stretch of each list that a query reads.

    `order [h p n]` are the keys in the order of the list, `rank [h p n]` is each key's place in it, `first, stop [h p n]` is each
    query's stretch (first = stop: empty). No stretch holds a padded key.
    """

    order: Int[Tensor, "h p n"]
    rank: Int[Tensor, "h p n"]
    first: Int[Tensor, "h p n"]
    stop: Int[Tensor, "h p n"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", torch.maximum(self.first, self.stop, out=empty_like(self.stop)))

    @property
    def widest(self) -> list[int]:
        """The length of the longest stretch of each list."""
        lengths: list[int] = (self.stop - self.first).amax((0, 2)).tolist()
        return lengths

    def joined(self, *others: SortedLists) -> SortedLists:
        """These lists, followed by those of the `others`. Lists of a single head are used for all heads."""
        every = (self, *others)
        h, p = max(len(lists.order) for lists in every), sum(lists.order.shape[1] for lists in every)

        def together(name: str) -> Tensor:
            parts = [getattr(lists, name).expand(h, -1, -1) for lists in every]
            return torch.cat(parts, dim=1, out=empty(parts[0], h, p, parts[0].shape[-1]))

        return SortedLists(order=together("order"), rank=together("rank"), first=together("first"), stop=together("stop"))

    def holds(
        self, p: int, queries: Int[Tensor, "g r"], keys: Int[Tensor, "g #r c"], heads: Int[Tensor, "g"]
    ) -> Bool[Tensor, "g r c"]:
        """Whether each pair lies in the stretch of list p. Cost g·r·c."""
        owner = heads[:, None]
        rank = self.rank[owner[..., None], p, keys]
        return (rank >= self.first[owner, p, queries][..., None]) & (rank < self.stop[owner, p, queries][..., None])


@dataclass(frozen=True, kw_only=True, eq=False)
class Bucketed:
    """Keys sorted by (bucket, position), and the place of each query i in that order.

    All `[h p n]`. `order`: the sorted keys. `start, end`: the stretch of the query's own bucket. `before`: the place after the
    bucket's keys at positions < i. `through`: the place after those at positions ≤ i.
    """

    order: Int[Tensor, "h p n"]
    start: Int[Tensor, "h p n"]
    before: Int[Tensor, "h p n"]
    through: Int[Tensor, "h p n"]
    end: Int[Tensor, "h p n"]

    def stretches(self, width: int, *, causal: bool, skip_self: bool) -> SortedLists:
        """For each query the last `width` keys of its bucket up to itself; without a mask, `width` keys around its place.

        With `skip_self` the query's own key does not count among them. The caller must then leave it out when attending.
        """
        if causal:
            stop = self.before if skip_self else self.through
            first = torch.maximum(stop - width, self.start)
        else:
            room = width + 1 if skip_self else width
            first = torch.maximum(torch.minimum(self.before - room // 2, self.end - room), self.start)
            stop = torch.minimum(first + room, self.end)
        return SortedLists(order=self.order, rank=inverse(self.order), first=first, stop=stop)


def bucketed(query_buckets: Int[Tensor, "h p n"], key_buckets: Int[Tensor, "h p n"], real: Bool[Tensor, "n"]) -> Bucketed:
    """Sort keys by (bucket, position), padding last. Cost p·n·ln n a head; less when both arguments are the same tensor."""
    n = real.shape[0]
    position = torch.arange(n, device=real.device)
    # Padding goes after every bucket that a query may have, not only after those that hold a key.
    last = int(torch.maximum(query_buckets.max(), key_buckets.max())) + 1
    order = by_bucket(key_buckets, real, last)
    placed = (torch.where(real, key_buckets, last) * n + position).gather(-1, order)
    begins = torch.arange(last + 1, device=real.device) * n
    borders = torch.searchsorted(placed, begins.expand(*placed.shape[:2], -1).contiguous())
    start, end = borders.gather(-1, query_buckets), borders.gather(-1, query_buckets + 1)
    same = query_buckets is key_buckets
    before = inverse(order) if same else torch.searchsorted(placed, query_buckets * n + position)
    through = before + (query_buckets == key_buckets)
    # A padded query reads an empty stretch.
    start, before, through, end = (torch.where(real, place, 0) for place in (start, before, through, end))
    return Bucketed(order=order, start=start, before=before, through=through, end=end)


def by_bucket(buckets: Int[Tensor, "h p n"], real: Bool[Tensor, n], last: int | None = None) -> Int[Tensor, "h p n"]:
    """The tokens sorted by (bucket, position); padding comes last, as bucket `last`. Cost p·n a head."""
    last = int(buckets.max()) + 1 if last is None else last
    return stable_order(torch.where(real, buckets, last), last + 1)


def by_place(real: Bool[Tensor, "n"], sinks: int, local: int, *, causal: bool) -> SortedLists:
    """Two lists in the order of the text, the same for all heads. Cost n.

    One gives the last `local` real tokens (without a mask, those less than `local` away on either side), the other the first
    `sinks` real tokens.
    """
    place = real.cumsum(0) - 1
    visible = place + 1 if causal else torch.full_like(place, int(real.sum()))
    first = torch.stack([(place - local + 1).clamp_min(0), torch.zeros_like(place)])
    stop = torch.stack([torch.minimum(place + local, visible), visible.clamp_max(sinks)])
    order = torch.argsort(~real, stable=True).expand(1, 2, -1)
    return SortedLists(order=order, rank=inverse(order), first=first[None], stop=torch.where(real, stop, first)[None])


def inverse(order: Int[Tensor, "h p n"]) -> Int[Tensor, "h p n"]:
    """The place of each number in a permutation."""
    places = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter(-1, order, places)


def entries_of_lists(
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    lists: SortedLists,
    queries: Int[Tensor, "r"],
    heads: Int[Tensor, "g"],
    *,
    real: Bool[Tensor, "n"],
    scale: float,
    skip_self: bool = False,
) -> Entries:
    """The keys in the union of each chosen query's stretches, each key once, and their weights. Cost g·r·p·w·(p + d).

    A real query without keys attends to itself. Where the stretches are nearly as long as the sequence, all keys get a slot.
    """
    n, d = k.shape[1:]
    widths = (lists.stop - lists.first)[heads][..., queries].amax((0, 2)).tolist()
    dense = GATHER_PRICE * sum(widths) >= n
    parts = []
    for rows in row_chunks(len(queries), len(heads) * (n if dense else d * sum(widths)), VIEW_CELLS):
        chosen = queries[rows]
        keys = _every_key(lists, chosen, heads, n) if dense else _listed_keys(lists, chosen, heads, widths)
        if skip_self:
            keys = torch.where(keys == chosen[:, None], -1, keys)
        if dense:
            scores = q[heads][:, chosen] @ k[heads].mT * scale
        else:
            gathered = taken(k.flatten(0, 1), heads[:, None, None] * n + keys.clamp_min(0))
            scores = (gathered @ q[heads][:, chosen][..., None]).squeeze(-1) * scale
        alone = ~(keys >= 0).any(-1) & real[chosen]
        weights = torch.cat([masked_softmax(scores, keys >= 0), alone[..., None].to(scores.dtype)], dim=-1)
        itself = torch.where(alone, chosen, -1)
        parts.append((torch.cat([keys, itself[..., None]], dim=-1), weights))
    keys, weights = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return Entries(keys=keys, weights=weights)


def taken(x: Float[Tensor, "N d"], rows: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
    """`x[rows]`; for wide rows several times as fast as indexing."""
    return x.index_select(0, rows.flatten()).view(*rows.shape, x.shape[-1])


def _every_key(lists: SortedLists, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"], n: int) -> Int[Tensor, "g r n"]:
    """A slot for every key, −1 where no list holds it."""
    keys = torch.arange(n, device=queries.device)
    rows, columns = queries.expand(len(heads), -1), keys.expand(len(heads), 1, -1)
    held = torch.stack([lists.holds(p, rows, columns, heads) for p in range(lists.order.shape[1])]).any(0)
    return torch.where(held, keys, -1)


def _listed_keys(
    lists: SortedLists, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"], widths: list[int]
) -> Int[Tensor, "g r c"]:
    """A slot for every place of each stretch, −1 after its end and where an earlier list holds the key."""
    owner, slots_of_lists = heads[:, None], []
    for p, width in enumerate(widths):
        first, stop = lists.first[owner, p, queries][..., None], lists.stop[owner, p, queries][..., None]
        slots = first + torch.arange(width, device=queries.device)
        keys = lists.order[owner[..., None], p, slots.clamp_max(lists.order.shape[-1] - 1)]
        fresh = slots < stop
        for earlier in range(p):
            if widths[earlier]:
                rank = lists.rank[owner[..., None], earlier, keys]
                low, high = lists.first[owner, earlier, queries], lists.stop[owner, earlier, queries]
                fresh &= (rank < low[..., None]) | (rank >= high[..., None])
        slots_of_lists.append(torch.where(fresh, keys, -1))
    return torch.cat(slots_of_lists, dim=-1)
