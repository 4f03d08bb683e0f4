"""Softmax attention over the union of each query's stretches of sorted lists: how hashing and clustering make their output.

Queries are taken in blocks, in the order of their stretches, so that a block's stretches overlap and a tile of consecutive
keys covers them. Head by head and tile by tile: what is held at once stays near the processor.

Source: the running maximum and the merge by logsumexps are FlashAttention's (Dao et al. 2022, arXiv:2205.14135, section
3.1). In single precision and without gradients torch's own kernel makes each tile; the plain form is the reference for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize, pad

from longattn_core.contracts import row_chunks
from longattn_core.numerics.block_attention import flash_blocks, kernel_allowed
from longattn_core.numerics.softmax import merge
from longattn_core.numerics.sorted_lists import SortedLists, taken

TILE_CELLS = 1 << 19
"""How many scores are held at once: 2 MB, and a few times as much for what they are made of and what masks them."""

GRAIN = 16
"""A tile has a multiple of so many keys, so that many tiles have the same shape and are made together."""

LONGEST = 1024
"""A tile has no more keys than this."""

MANY = 1 << 21
"""Up to so many keys four times a place is exact in float32, as the kernel's bias wants it."""


def attend_lists(
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    v: Float[Tensor, "h n e"],
    lists: SortedLists,
    *,
    real: Bool[Tensor, "n"],
    scale: float,
    skip_self: bool = False,
    directions: bool = False,
) -> tuple[Float[Tensor, "h n e"], int]:
    """The output, and how many scores were computed. With `directions` keys are read at length 1.

    A real query that finds no key gives its own value; a padded one gives zero. Gradients flow to q, k, v. Cost: about
    p·n·(w + block)·(d + e) a head; memory h·n·e and a few MB, of the plain form as much again for the keys.
    """
    if kernel_allowed(q, k, v) and v.shape[1] <= MANY:
        return _by_kernel(q, k, v, lists, real=real, scale=scale, skip_self=skip_self, directions=directions)
    return _plainly(q, normalize(k, dim=-1) if directions else k, v, lists, real=real, scale=scale, skip_self=skip_self)


def _plainly(
    q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"], lists: SortedLists, *,
    real: Bool[Tensor, "n"], scale: float, skip_self: bool,
) -> tuple[Float[Tensor, "h n e"], int]:  # fmt: skip
    """`attend_lists` written out: any device, any dtype, with gradients."""
    h, n, e = v.shape
    # The column of ones sums the weights in the same product; one more row takes what ragged blocks leave over.
    values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
    sums = torch.zeros(h * n + 1, e + 1, dtype=v.dtype, device=v.device)
    ceiling = torch.full((h * n + 1,), torch.finfo(v.dtype).min, dtype=v.dtype, device=v.device)
    computed = 0
    for head in range(h):
        for tile in _tiles(lists, head):
            mask = tile.mask(lists)
            computed += mask.numel()
            if skip_self:
                mask = mask & (tile.keys[:, None, :] != tile.queries[:, :, None])
            scores = taken(q[head] * scale, tile.queries.clamp_max(n - 1)) @ taken(k[head], tile.keys).mT
            scores = scores.masked_fill(~mask, -math.inf)
            rows = torch.where(tile.queries < n, head * n + tile.queries, h * n)
            # Any ceiling gives the same quotient, so it is held constant for the gradient.
            old = ceiling[rows]
            new = torch.maximum(old, scores.detach().amax(-1))
            weights = (scores - new[..., None]).exp()
            ceiling[rows] = new
            sums[rows] = taken(sums, rows) * (old - new).exp()[..., None] + weights @ taken(values[head], tile.keys)
    total = sums[:-1, -1:].view(h, n, 1)
    none = total == 0
    output = sums[:-1, :-1].view(h, n, e) / torch.where(none, torch.ones_like(total), total)
    return torch.where(none, torch.where(real[:, None], v, torch.zeros_like(v)), output), computed


def _by_kernel(
    q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"], lists: SortedLists, *,
    real: Bool[Tensor, "n"], scale: float, skip_self: bool, directions: bool,
) -> tuple[Float[Tensor, "h n e"], int]:  # fmt: skip
    """`attend_lists` by torch's kernel, tiles merged by their logsumexps. Memory above the output: a few MB and n·d."""
    h, n, e = v.shape
    # One more row takes what ragged blocks leave over.
    output, lse = v.new_zeros(h * n + 1, e), v.new_full((h * n + 1,), -math.inf)
    computed = 0
    for head in range(h):
        keys = normalize(k[head], dim=-1) if directions else k[head]
        biases = _Biases(lists, head, skip_self=skip_self)
        for tile in _tiles(lists, head):
            bias = biases.of(tile)
            computed += bias.numel()
            blind = bias.amax(-1) == -math.inf
            part, log = flash_blocks(
                taken(q[head], tile.queries.clamp_max(n - 1))[None], taken(keys, tile.keys)[None],
                taken(v[head], tile.keys)[None], bias[None], scale=scale,
            )  # fmt: skip
            # The kernel reports a logsumexp of 0 for a row with nothing to see, which a merge would take for a key.
            part, log = part.view(-1, e), log[0].masked_fill_(blind, -math.inf).flatten()
            rows = torch.where(tile.queries < n, head * n + tile.queries, h * n).flatten()
            if not tile.first:
                part, log = merge(output.index_select(0, rows), lse.index_select(0, rows), part, log)
            output.index_copy_(0, rows, part)
            lse.index_copy_(0, rows, log)
    none = (lse[:-1] == -math.inf).nonzero().squeeze(-1)
    output[none] = torch.where(real[none % n, None], v.reshape(-1, e).index_select(0, none), 0.0)
    return output[:-1].view(h, n, e), computed


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tile:
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


class _Biases:
    """`_Tile.mask` as what the kernel adds to its scores, 0 or −∞, and without the own key when that is to be skipped.

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

    def of(self, tile: _Tile) -> Float[Tensor, "a b c"]:
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


def _tiles(lists: SortedLists, head: int) -> Iterator[_Tile]:
    """The tiles that cover every stretch of one head, list by list."""
    n = lists.order.shape[-1]
    earlier: tuple[int, ...] = ()
    for p in _read(lists, head):
        order = lists.order[head, p]
        queries, start, end = _blocks(lists, head, p)
        for step in range(math.ceil(int((end - start).amax()) / LONGEST)):
            begin = start + step * LONGEST
            lengths = _whole(end - begin)
            for length in sorted(set(lengths.tolist()) - {0}):
                alike = (lengths == length).nonzero().squeeze(-1)
                for part in row_chunks(len(alike), length * queries.shape[1], TILE_CELLS):
                    chosen = alike[part]
                    slots = begin[chosen, None] + torch.arange(length, device=order.device)
                    keys = order.index_select(0, slots.flatten().clamp_max(n - 1)).view_as(slots)
                    yield _Tile(
                        head=head, p=p, queries=queries[chosen], keys=keys, slots=slots,
                        earlier=earlier, first=not earlier and step == 0,
                    )  # fmt: skip
        earlier = (*earlier, p)


def _whole(lengths: Int[Tensor, "a"]) -> Int[Tensor, "a"]:
    """The lengths of tiles that cover as many keys: whole grains, none for a block that sees nothing."""
    return ((lengths + GRAIN - 1) // GRAIN * GRAIN).clamp(0, LONGEST)


def _read(lists: SortedLists, head: int) -> list[int]:
    """The lists in which any query of this head has a stretch."""
    return [p for p, some in enumerate((lists.stop[head] > lists.first[head]).any(-1).tolist()) if some]


def _blocks(lists: SortedLists, head: int, p: int) -> tuple[Int[Tensor, "a b"], Int[Tensor, "a"], Int[Tensor, "a"]]:
    """One head's queries in blocks (n: none), in the order of their stretches of list p, and the span of each block's."""
    first, stop = lists.first[head, p], lists.stop[head, p]
    n, widest = len(first), int((stop - first).amax())
    block = min(n, 256, max(64, (1 << (widest - 1).bit_length()) // 2))
    some = (stop > first).nonzero().squeeze(-1)
    # As long as most queries see something the others keep their places: blocks then stay in step with chunks.
    chosen = torch.arange(n, device=first.device) if 2 * len(some) > n else some
    middle = (first + stop)[chosen]
    queries = chosen[middle.argsort(stable=True)]
    low = torch.where(stop > first, first, n)[queries]
    high = torch.where(stop > first, stop, 0)[queries]
    short = -len(queries) % block
    queries, low, high = (
        pad(x, (0, short), value=fill).view(-1, block) for x, fill in ((queries, n), (low, n), (high, 0))
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
