"""Attention over stretches of sorted lists of keys: the arithmetic that hashing and clustering share.

A list holds all keys in an order of its own (by bucket and position, say) and each query looks at one stretch of it,
[first, stop). A pair that lies in the stretches of several lists counts in the first of them only, so that the lists are
disjoint and their sums of exponentials add up to the softmax over the union, exactly.

Source: the running maximum of FlashAttention (Dao et al. 2022, arXiv:2205.14135, section 3.1); sorting by bucket and
position is Reformer's (Kitaev et al. 2020, arXiv:2001.04451, section 2). Our deviation: stretches in place of fixed
chunks, and pairs found twice are left out instead of being corrected for by a logarithm of their count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts import row_chunks
from longattn_core.numerics.block_attention import kernel_allowed, kernel_blocks
from longattn_core.numerics.maps import Entries
from longattn_core.numerics.softmax import masked_softmax, merge

TILE_CELLS = 1 << 20
"""How many scores are held at once: a few buffers of this size stay near the processor."""

VIEW_CELLS = 1 << 22
"""How many numbers of gathered keys a view holds at once."""

GATHER_PRICE = 2
"""A gathered key costs about as much as this many keys of a plain row."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SortedLists:
    """p orders of the keys, and the stretch of each that a query looks at.

    `order [h p n]` are the keys in the list's order, `rank [h p n]` each key's place in it, `first, stop [h p n]` each
    query's stretch (first = stop for none). A key of padding stands in no stretch.
    """

    order: Int[Tensor, "h p n"]
    rank: Int[Tensor, "h p n"]
    first: Int[Tensor, "h p n"]
    stop: Int[Tensor, "h p n"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", torch.maximum(self.first, self.stop))

    @property
    def widest(self) -> list[int]:
        """The longest stretch of each list."""
        lengths: list[int] = (self.stop - self.first).amax((0, 2)).tolist()
        return lengths

    def joined(self, other: SortedLists) -> SortedLists:
        """These lists and then those of `other`; lists of one head are shared by all."""
        h = max(len(self.order), len(other.order))

        def both(name: str) -> Tensor:
            parts = (getattr(self, name), getattr(other, name))
            return torch.cat([part.expand(h, -1, -1) for part in parts], dim=1)

        return SortedLists(order=both("order"), rank=both("rank"), first=both("first"), stop=both("stop"))

    def holds(
        self,
        p: int,
        queries: Int[Tensor, "g r"],
        keys: Int[Tensor, "g #r c"],
        heads: Int[Tensor, "g"],
    ) -> Bool[Tensor, "g r c"]:
        """Whether each pair lies in the stretch of list p. Cost g·r·c."""
        owner = heads[:, None]
        rank = self.rank[owner[..., None], p, keys]
        return (rank >= self.first[owner, p, queries][..., None]) & (rank < self.stop[owner, p, queries][..., None])


@dataclass(frozen=True, kw_only=True, eq=False)
class Bucketed:
    """Keys sorted by (bucket, position), and where in that order each query stands.

    All `[h p n]`: `order`; `start, end`, the stretch of the query's own bucket; `before`, the place behind the bucket's
    keys at positions < i; `through`, behind those at positions ≤ i.
    """

    order: Int[Tensor, "h p n"]
    start: Int[Tensor, "h p n"]
    before: Int[Tensor, "h p n"]
    through: Int[Tensor, "h p n"]
    end: Int[Tensor, "h p n"]

    def stretches(self, width: int, *, causal: bool, skip_self: bool) -> SortedLists:
        """The last `width` keys of its bucket up to each query; without a mask, those around its place.

        With `skip_self` a query's own key is not counted among them (and is to be left out when attending).
        """
        if causal:
            stop = self.before if skip_self else self.through
            first = torch.maximum(stop - width, self.start)
        else:
            room = width + 1 if skip_self else width
            first = torch.maximum(torch.minimum(self.before - room // 2, self.end - room), self.start)
            stop = torch.minimum(first + room, self.end)
        return SortedLists(order=self.order, rank=inverse(self.order), first=first, stop=stop)


def bucketed(
    query_buckets: Int[Tensor, "h p n"], key_buckets: Int[Tensor, "h p n"], real: Bool[Tensor, "n"]
) -> Bucketed:
    """Sort keys by (bucket, position), padding last. Cost p·n·ln n a head."""
    n = real.shape[0]
    position = torch.arange(n, device=real.device)
    # Padding goes behind every bucket that a query may ask for, not only behind those that hold a key.
    last = int(torch.maximum(query_buckets.max(), key_buckets.max())) + 1
    placed, order = _sortable(key_buckets, real, last).sort(dim=-1)
    own = query_buckets * n
    start = torch.searchsorted(placed, own)
    before = torch.searchsorted(placed, own + position)
    through = torch.searchsorted(placed, own + position, right=True)
    end = torch.searchsorted(placed, own + n)
    # A padded query stands nowhere.
    start, before, through, end = (torch.where(real, place, 0) for place in (start, before, through, end))
    return Bucketed(order=order, start=start, before=before, through=through, end=end)


def by_bucket(buckets: Int[Tensor, "h p n"], real: Bool[Tensor, n]) -> Int[Tensor, "h p n"]:
    """The tokens sorted by (bucket, position), padding last. Cost p·n·ln n a head."""
    return _sortable(buckets, real, int(buckets.max()) + 1).argsort(dim=-1)


def _sortable(buckets: Int[Tensor, "h p n"], real: Bool[Tensor, n], last: int) -> Int[Tensor, "h p n"]:
    n = real.shape[0]
    return torch.where(real, buckets, last) * n + torch.arange(n, device=real.device)


def by_place(real: Bool[Tensor, "n"], sinks: int, local: int, *, causal: bool) -> SortedLists:
    """Two lists in the text's order, the same for every head: the last `local` real tokens (without a mask, those less than
    `local` away on either side), and the first `sinks` real tokens. Cost n.
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


# ----------------------------------------------------------------------------------------------------------- output


def attend_lists(
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    v: Float[Tensor, "h n e"],
    lists: SortedLists,
    *,
    real: Bool[Tensor, "n"],
    scale: float,
    skip_self: bool = False,
) -> tuple[Float[Tensor, "h n e"], int]:
    """Softmax attention over the union of each query's stretches, and how many scores were computed.

    Queries are taken in blocks, sorted by where their stretches lie, so that a block's stretches overlap and a few tiles of
    keys cover them. A real query that finds no key gives its own value; a padded one gives zero. Gradients flow to q, k, v.
    Cost: about p·n·(w + block)·(d + e) a head; memory h·n·e and a few MB.
    """
    h, n, e = v.shape
    if kernel_allowed(q, k, v):
        output, none, computed = _by_kernel(q, k, v, lists, scale=scale, skip_self=skip_self)
        return torch.where(none, torch.where(real[:, None], v, torch.zeros_like(v)), output), computed
    # The column of ones sums the weights in the same product; one more row takes what ragged blocks leave over.
    values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1).flatten(0, 1)
    sums = torch.zeros(h * n + 1, e + 1, dtype=v.dtype, device=v.device)
    ceiling = torch.full((h * n + 1,), torch.finfo(v.dtype).min, dtype=v.dtype, device=v.device)
    flat_q, flat_k = q.flatten(0, 1) * scale, k.flatten(0, 1)
    computed = 0
    for tile in _tiles(lists, h, n):
        computed += tile.mask.numel()
        mask = tile.mask & (tile.keys[:, None, :] != tile.queries[:, :, None]) if skip_self else tile.mask
        scores = _taken(flat_q, tile.queries.clamp_max(h * n - 1)) @ _taken(flat_k, tile.keys).mT
        scores = scores.masked_fill(~mask, -math.inf)
        # Any ceiling gives the same quotient, so it is held constant for the gradient.
        old = ceiling[tile.queries]
        new = torch.maximum(old, scores.detach().amax(-1))
        weights = (scores - new[..., None]).exp()
        ceiling[tile.queries] = new
        before = _taken(sums, tile.queries) * (old - new).exp()[..., None]
        sums[tile.queries] = before + weights @ _taken(values, tile.keys)
    total = sums[:-1, -1:].view(h, n, 1)
    none = total == 0
    output = sums[:-1, :-1].view(h, n, e) / torch.where(none, torch.ones_like(total), total)
    return torch.where(none, torch.where(real[:, None], v, torch.zeros_like(v)), output), computed


def _by_kernel(
    q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"], lists: SortedLists, *, scale: float,
    skip_self: bool,
) -> tuple[Float[Tensor, "h n e"], Bool[Tensor, "h n 1"], int]:  # fmt: skip
    """`attend_lists` by torch's kernel, tile by tile merged by their logsumexps: output, who found no key, scores computed."""
    h, n, e = v.shape
    output, lse = v.new_zeros(h * n + 1, e), v.new_full((h * n + 1,), -math.inf)
    # The kernel divides by √d itself.
    flat_q, flat_k, flat_v = (q * (scale * math.sqrt(q.shape[-1]))).flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)
    computed = 0
    for tile in _tiles(lists, h, n):
        computed += tile.mask.numel()
        mask = tile.mask.logical_and_(tile.keys[:, None, :] != tile.queries[:, :, None]) if skip_self else tile.mask
        queries, keys, values = (
            _taken(x, rows)[None]
            for x, rows in ((flat_q, tile.queries.clamp_max(h * n - 1)), (flat_k, tile.keys), (flat_v, tile.keys))
        )
        part, log = (x[0].flatten(0, 1) for x in kernel_blocks(queries, keys, values, mask[None]))
        rows = tile.queries.flatten()
        output[rows], lse[rows] = merge(output.index_select(0, rows), lse[rows], part, log)
    return output[:-1].view(h, n, e), lse[:-1].view(h, n, 1).isneginf(), computed


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tile:
    """Blocks of queries against tiles of keys: `queries [a b]`, `keys [a c]` (numbered head·n + token), `mask [a b c]`."""

    queries: Int[Tensor, "a b"]
    keys: Int[Tensor, "a c"]
    mask: Bool[Tensor, "a b c"]


def _tiles(lists: SortedLists, h: int, n: int) -> Iterator[_Tile]:
    """The tiles that cover every stretch, list by list; pairs that an earlier list holds are masked out."""
    device = lists.order.device
    for p, queries, low, high in _blocks(lists, h, n):
        block, safe = queries.shape[1], queries.clamp_max(h * n - 1)
        start, end = low.amin(1), high.amax(1)
        owner = torch.arange(h, device=device).repeat_interleave(len(queries) // h)
        for step in range(math.ceil(int((end - start).max()) / block)):
            active = (start + step * block < end).nonzero().squeeze(-1)
            for part in row_chunks(len(active), block * block, TILE_CELLS):
                chosen = active[part]
                slots = start[chosen, None] + step * block + torch.arange(block, device=device)
                mask = (slots[:, None, :] >= low[chosen][..., None]) & (slots[:, None, :] < high[chosen][..., None])
                keys = lists.order[owner[chosen, None], p, slots.clamp_max(n - 1)]
                for earlier in range(p):
                    if lists.widest[earlier]:
                        mask &= ~lists.holds(earlier, safe[chosen] % n, keys[:, None], owner[chosen])
                yield _Tile(queries=queries[chosen], keys=keys + owner[chosen, None] * n, mask=mask)


def _blocks(lists: SortedLists, h: int, n: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """List by list its queries in blocks `[a b]` (h·n: none), in the order of their stretches, and where each one's lies."""
    offset = torch.arange(h, device=lists.order.device)[:, None] * n
    for p, widest in enumerate(lists.widest):
        if widest == 0:
            continue
        block = min(n, 256, max(64, (1 << (widest - 1).bit_length()) // 2))
        first, stop = lists.first[:, p], lists.stop[:, p]
        some = stop > first
        ranked = torch.where(some, first + stop, 2 * n + 1).argsort(dim=-1, stable=True)
        queries = _in_blocks(torch.where(some.gather(1, ranked), ranked + offset, h * n), block, h * n)
        held = queries < h * n
        safe = queries.clamp_max(h * n - 1)
        yield p, queries, torch.where(held, first.flatten()[safe], n), torch.where(held, stop.flatten()[safe], 0)


def scores_computed(lists: SortedLists, h: int, n: int) -> list[int]:
    """How many scores `attend_lists` would compute for each list. Cost: a sort a list."""
    counts = [0] * lists.order.shape[1]
    for p, queries, low, high in _blocks(lists, h, n):
        block = queries.shape[1]
        width = (high.amax(1) - low.amin(1)).clamp_min(0)
        counts[p] = int(((width + block - 1) // block).sum()) * block**2
    return counts


def _taken(x: Float[Tensor, "N d"], rows: Int[Tensor, "*b"]) -> Float[Tensor, "*b d"]:
    """`x[rows]`, several times as fast for rows of some width."""
    return x.index_select(0, rows.flatten()).view(*rows.shape, x.shape[-1])


def _in_blocks(x: Int[Tensor, "h n"], block: int, fill: int) -> Int[Tensor, "a b"]:
    short = -x.shape[1] % block
    return torch.nn.functional.pad(x, (0, short), value=fill).view(-1, block)


# ------------------------------------------------------------------------------------------------------------- views


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
    """The keys in the union of the chosen queries' stretches, each once, and their weights. Cost g·r·p·w·(p + d).

    A real query that finds no key lists itself. Where the stretches are nearly as long as the sequence every key gets a slot.
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
            gathered = _taken(k.flatten(0, 1), heads[:, None, None] * n + keys.clamp_min(0))
            scores = (gathered @ q[heads][:, chosen][..., None]).squeeze(-1) * scale
        alone = ~(keys >= 0).any(-1) & real[chosen]
        weights = torch.cat([masked_softmax(scores, keys >= 0), alone[..., None].to(scores.dtype)], dim=-1)
        itself = torch.where(alone, chosen, -1)
        parts.append((torch.cat([keys, itself[..., None]], dim=-1), weights))
    keys, weights = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return Entries(keys=keys, weights=weights)


def _every_key(lists: SortedLists, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"], n: int) -> Int[Tensor, "g r n"]:
    everything = torch.arange(n, device=queries.device)
    rows, columns = queries.expand(len(heads), -1), everything.expand(len(heads), 1, -1)
    held = torch.stack([lists.holds(p, rows, columns, heads) for p in range(lists.order.shape[1])]).any(0)
    return torch.where(held, everything, -1)


def _listed_keys(
    lists: SortedLists, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"], widths: list[int]
) -> Int[Tensor, "g r c"]:
    """Slot by slot through each list, −1 where a stretch has ended or an earlier list holds the key."""
    owner, found = heads[:, None], []
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
        found.append(torch.where(fresh, keys, -1))
    return torch.cat(found, dim=-1)
