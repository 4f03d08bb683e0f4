"""Attention that reads some keys one by one and others as groups: the tiles of the algorithm, and the list behind each row.

Items are numbered in one row: the n tokens first, then the groups of each level. Consecutive queries that read the same
items form a tile; a tile gathers the items on its own list and multiplies by those that all tiles share, so that time
and memory follow the items that are read, never n × n.

Source: block-sparse attention in tiles, Dao et al. 2022, arXiv:2205.14135, section 3.3; the lists are ours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS, row_chunks
from longattn_core.contracts.mechanism import Cost
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.maps.listed import Entries
from longattn_core.numerics.softmax import masked_softmax
from longattn_core.numerics.tiles.groups import Groups

TILE = 128
"""At most this many queries share one gathered list."""

NEAR_CELLS = 1 << 19
"""How many weights a pooled map holds at once: a few such buffers stay near the processor."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TileWeights:
    """The weights of some tiles' queries: on the items of each tile's own list, and on those that all tiles share.

    A query is −1 behind a tile's end, a listed item −1 behind a list's; what is not read weighs nothing.
    """

    queries: Int[Tensor, "b T"]
    listed: Int[Tensor, "b C"]
    near: Float[Tensor, "g b T C"]
    shared: Int[Tensor, "S"]
    far: Float[Tensor, "g b T S"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Read:
    """What came of reading: `output [h n e]`, `parts [L h n e]` level by level, which add up to it, or None if they were
    not asked for; `mass [h n L]`, the weight that each query gave to each level (0 the tokens); and what it cost.
    """

    output: Float[Tensor, "h n e"]
    parts: Float[Tensor, "L h n e"] | None
    mass: Float[Tensor, "h n L"]
    cost: Cost


@dataclass(frozen=True, kw_only=True, eq=False)
class TiledReader(ABC):
    """Which items each query reads, and how their scores become weights. `groups` are the levels above the tokens."""

    sequence: Sequence
    groups: tuple[Groups, ...]

    @abstractmethod
    def tiles(self) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """Each tile's first query and the one behind its last; together they hold every query once, in order."""

    @property
    @abstractmethod
    def widest(self) -> int:
        """The most items that a tile's own list can hold."""

    @abstractmethod
    def listed(self, first: Int[Tensor, "b"], stop: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
        """The items on the lists of queries [first, stop), each within one tile; −1 where a list is shorter.

        A column holds items of one level only.
        """

    @abstractmethod
    def visible(
        self, queries: Int[Tensor, "b T"], listed: Int[Tensor, "b C"], shared: Int[Tensor, "S"]
    ) -> tuple[Bool[Tensor, "b T C"], Bool[Tensor, "b T S"]]:
        """Which listed and which shared items each query reads; none for query −1 and for padding."""

    def shared(self, last: int) -> Int[Tensor, "S"]:
        """The items that are read from the row as a whole, for queries up to `last`: by default none."""
        return torch.arange(0, device=self.sequence.q.device)

    @property
    def bias(self) -> Float[Tensor, "P"] | None:
        """What is added to the scores of each item, if anything."""
        return None

    @property
    def row_items(self) -> int:
        """The most entries that a row of `entries` can have."""
        return self.widest + len(self.shared(self.sequence.n - 1))

    @property
    def disjoint(self) -> bool:
        """Whether no key is read at two levels by one query."""
        return True

    @cached_property
    def bases(self) -> tuple[int, ...]:
        """The number of the first item of each level, and behind them how many items there are."""
        out = [0, self.sequence.n]
        for groups in self.groups:
            out.append(out[-1] + groups.count)
        return tuple(out)

    @cached_property
    def queries(self) -> Float[Tensor, "h m d"]:
        """What asks: the tokens' queries."""
        return self.sequence.q

    @cached_property
    def keys(self) -> Float[Tensor, "h P d"]:
        """The items' keys."""
        return torch.cat([self.sequence.k, *(groups.k for groups in self.groups)], dim=1)

    @cached_property
    def values(self) -> Float[Tensor, "h P e"]:
        """The items' values."""
        return torch.cat([self.sequence.v, *(groups.v for groups in self.groups)], dim=1)

    @cached_property
    def alive(self) -> Bool[Tensor, "P"]:
        """Which items hold a real token."""
        return torch.cat([self.sequence.real, *(groups.size > 0 for groups in self.groups)])

    def tokens_read(self, queries: Int[Tensor, "b T"], listed: Int[Tensor, "b C"]) -> Bool[Tensor, "b T C"]:
        """Which listed items are tokens that the mask lets each query look at."""
        real = self.sequence.real
        token = (listed >= 0) & (listed < self.sequence.n)
        token = token & real[torch.where(token, listed, 0)]
        out = token[:, None, :] & self.asks(queries)[..., None]
        return out & (listed[:, None, :] <= queries[..., None]) if self.sequence.causal else out

    def asks(self, queries: Int[Tensor, "b T"]) -> Bool[Tensor, "b T"]:
        """Which of these are real queries: neither −1 nor padding."""
        return (queries >= 0) & self.sequence.real[queries.clamp_min(0)]

    def scores(
        self,
        q: Float[Tensor, "g m d"],
        k: Float[Tensor, "g P d"],
        queries: Int[Tensor, "b T"],
        listed: Int[Tensor, "b C"],
        shared: Int[Tensor, "S"],
    ) -> tuple[Float[Tensor, "g b T C"], Float[Tensor, "g b T S"]]:
        """Scaled products of each query with the items listed and shared."""
        asked = q[:, queries.clamp_min(0)] / math.sqrt(q.shape[-1])
        return asked @ k[:, listed.clamp_min(0)].mT, _shared_product(asked, k[:, shared].mT)

    def join(
        self,
        near: Float[Tensor, "g b T C"],
        far: Float[Tensor, "g b T S"],
        near_read: Bool[Tensor, "b T C"],
        far_read: Bool[Tensor, "b T S"],
        listed: Int[Tensor, "b C"],
        shared: Int[Tensor, "S"],
    ) -> tuple[Float[Tensor, "g b T C"], Float[Tensor, "g b T S"]]:
        """Weights from scores: by default one softmax over everything that is read."""
        if (bias := self.bias) is not None:
            near, far = near + bias[listed.clamp_min(0)][:, None, :], far + bias[shared]
        scores = torch.cat([near, far], dim=-1)
        weights = masked_softmax(scores, torch.cat([near_read, far_read], dim=-1).expand_as(scores))
        return weights[..., : near.shape[-1]], weights[..., near.shape[-1] :]

    def read(self, split: bool = False) -> Read:
        """Read tile after tile. Cost: (d + e) for each query and item; memory about 40 MB a buffer, some six at once."""
        sequence = self.sequence
        first, stop = self.tiles()
        step, cells = self._steps(first, stop)
        pairs = 0

        def tiles() -> Iterator[tuple[Tensor, ...]]:
            nonlocal pairs
            for start in range(0, len(first), step):
                found, read = self._tile(first[start : start + step], stop[start : start + step], split)
                pairs += read
                yield found

        output, parts, mass = laid_out(tiles(), sequence.n)
        return Read(output=output, parts=parts if split else None, mass=mass, cost=self._cost(pairs, cells, parts.numel()))

    def estimated_cost(self, split: bool = False) -> Cost:
        """What `read` would cost: the lists of the tiles are made, and nothing is weighed."""
        sequence, pairs = self.sequence, 0
        first, stop = self.tiles()
        step, cells = self._steps(first, stop)
        for start in range(0, len(first), step):
            low, high = first[start : start + step], stop[start : start + step]
            listed = (self.listed(low, high) >= 0).sum(-1)
            pairs += int((high - low) @ (listed + len(self.shared(int(high[-1]) - 1))))
        kept = (len(self.groups) + 1) * sequence.h * sequence.n * sequence.e if split else 0
        return self._cost(pairs, cells, kept)

    def _steps(self, first: Int[Tensor, "t"], stop: Int[Tensor, "t"]) -> tuple[int, int]:
        """How many tiles are read at once, and how many numbers a buffer of them holds."""
        sequence = self.sequence
        tall, count = int((stop - first).max()), len(self.shared(sequence.n - 1))
        cells = tall * (self.widest + count) + (tall + self.widest) * (sequence.d + sequence.e)
        step = max(1, STREAM_CELLS // (sequence.h * cells))
        return step, min(step, len(first)) * sequence.h * cells

    def _tile(self, first: Int[Tensor, "b"], stop: Int[Tensor, "b"], split: bool) -> tuple[tuple[Tensor, ...], int]:
        """Output, parts and masses of the queries of some tiles, and how many scores were asked for."""
        v, levels = self.values, len(self.groups) + 1
        queries = spans(first, stop)
        listed, shared = self.listed(first, stop), self.shared(int(stop[-1]) - 1)
        read = self.visible(queries, listed, shared)
        scores = self.scores(self.queries, self.keys, queries, listed, shared)
        near, far = self.join(*scores, *read, listed, shared)
        level = self.level_of(listed).amax(0).clamp_min(0)
        far_level = int(self.level_of(shared[:1])) if len(shared) else -1
        mass = near @ torch.nn.functional.one_hot(level, levels).to(near.dtype)
        near_v, far_out = v[:, listed.clamp_min(0)], _shared_product(far, v[:, shared])
        parts = far_out[:0]
        if split:
            empty = torch.zeros_like(far_out)
            by_level = [near[..., level == i] @ near_v[..., level == i, :] for i in range(levels)]
            parts = torch.stack([x + (far_out if i == far_level else empty) for i, x in enumerate(by_level)])
            output = parts.sum(0)
        else:
            output = near @ near_v + far_out
        if len(shared):
            mass = mass + far.sum(-1, keepdim=True) * (torch.arange(levels, device=level.device) == far_level)
        kept = (queries >= 0).flatten()
        # Counted as computed: a causal diagonal inside a tile is computed and then masked.
        used = (queries >= 0).sum(-1) @ ((listed >= 0).sum(-1) + len(shared))
        return tuple(x.flatten(-3, -2)[..., kept, :] for x in (output, parts, mass)), int(used)

    @property
    def _grouping(self) -> int:
        """Multiplications per head for the groups of all levels: the means of queries, keys and values."""
        return len(self.groups) * self.sequence.n * (2 * self.sequence.d + self.sequence.e)

    def _cost(self, pairs: int, cells: int, kept: int) -> Cost:
        """Scores and values for every pair read, and the groups; `cells` numbers a buffer, `kept` until the end."""
        h, n, width = self.sequence.h, self.sequence.n, self.sequence.d + self.sequence.e
        size = self.sequence.q.element_size()
        items = self.bases[-1]
        return Cost(
            multiply_adds=h * (pairs * width + self._grouping),
            bytes_moved=h * size * (2 * pairs + (2 * n + 2 * items) * width),
            bytes_peak=size * (6 * cells + h * items * width + kept),
        )

    def read_count(self, query: int) -> int:
        """How many items one query reads."""
        one = torch.tensor([query], device=self.sequence.q.device)
        near, far = self.visible(one[:, None], self.listed(one, one + 1), self.shared(query))
        return int(near.sum() + far.sum())

    def level_of(self, items: Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
        """The level of each item, 0 for a token; −1 for no item."""
        edges = torch.tensor(self.bases[1:-1] or (self.bases[-1],), device=items.device)
        return torch.where(items >= 0, torch.bucketize(items, edges, right=True), -1)

    def entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        """The items that each query read and their weights: a row of the map before its groups are shared out.

        Neighbouring queries of one tile are read together, so that the rows of a whole map cost what the output does.
        """
        first, stop = self.tiles()
        tile = torch.searchsorted(first, queries, right=True) - 1
        runs = 1 + int((tile.diff() != 0).sum())
        listed, every = self.widest, self.widest + len(self.shared(self.sequence.n - 1))
        cells = len(heads) * (every + listed * self.sequence.d * runs // max(1, len(queries)))
        q, k = self.queries[heads], self.keys[heads]
        return _stacked(
            [self._run(q, k, queries[part], first[tile[part]], stop[tile[part]]) for part in row_chunks(len(queries), cells)]
        )

    def weights_by_tile(self, low: int, high: int, heads: Int[Tensor, "g"]) -> Iterator[TileWeights]:
        """The weights of queries low … high − 1, some tiles at a time. Cost: the scores; memory some buffers of 2 MB a head."""
        first, stop = self.tiles()
        first, stop = first.clamp_min(low), stop.clamp_max(high)
        first, stop = first[first < stop], stop[first < stop]
        tall, every = int((stop - first).max()), self.widest + len(self.shared(high - 1))
        q, k = self.queries[heads], self.keys[heads]
        for part in row_chunks(len(first), len(heads) * tall * every, NEAR_CELLS):
            queries = spans(first[part], stop[part])
            listed, shared = self.listed(first[part], stop[part]), self.shared(int(stop[part][-1]) - 1)
            read = self.visible(queries, listed, shared)
            near, far = self.join(*self.scores(q, k, queries, listed, shared), *read, listed, shared)
            yield TileWeights(queries=queries, listed=listed, near=near, shared=shared, far=far)

    def _run(
        self,
        q: Float[Tensor, "g m d"],
        k: Float[Tensor, "g P d"],
        queries: Int[Tensor, "r"],
        first: Int[Tensor, "r"],
        stop: Int[Tensor, "r"],
    ) -> Entries:
        """Entries of queries that stand in the tiles [first, stop), laid out as tiles again."""
        run = torch.cat([first.new_zeros(1), (first.diff() != 0).long().cumsum(0)])
        begin = torch.searchsorted(run, torch.arange(int(run[-1]) + 1, device=run.device))
        place = torch.arange(len(queries), device=run.device) - begin[run]
        laid = torch.full((len(begin), int(place.max()) + 1), -1, device=run.device).index_put((run, place), queries)
        listed, shared = self.listed(first[begin], stop[begin]), self.shared(int(queries.max()))
        near_read, far_read = self.visible(laid, listed, shared)
        near, far = self.join(*self.scores(q, k, laid, listed, shared), near_read, far_read, listed, shared)
        items = torch.cat([listed.index_select(0, run), shared.expand(len(queries), -1)], dim=1)
        at = run * laid.shape[1] + place

        def picked(x: Tensor, y: Tensor) -> Tensor:
            return torch.cat([part.flatten(-3, -2).index_select(-2, at) for part in (x, y)], dim=-1)

        return Entries(keys=torch.where(picked(near_read, far_read), items, -1).expand(len(q), -1, -1), weights=picked(near, far))


def _shared_product(x: Float[Tensor, "g b T i"], y: Float[Tensor, "g i j"]) -> Float[Tensor, "g b T j"]:
    """The rows of all tiles times one matrix."""
    return (x.flatten(1, 2) @ y).view(*x.shape[:-1], y.shape[-1])


def _stacked(found: list[Entries]) -> Entries:
    """Lists of unequal width under one another; nothing found gives no row."""
    widest = max(part.keys.shape[2] for part in found)
    pad = torch.nn.functional.pad
    return Entries(
        keys=torch.cat([pad(part.keys, (0, widest - part.keys.shape[2]), value=-1) for part in found], dim=1),
        weights=torch.cat([pad(part.weights, (0, widest - part.weights.shape[2])) for part in found], dim=1),
    )


def laid_out(pieces: Iterable[tuple[Tensor, ...]], total: int) -> tuple[Tensor, ...]:
    """Pieces one behind another along the last axis but one, `total` long together; each item holds one piece of each result.

    Written into place unless gradients are asked for: small results kept between large buffers would leave the
    allocator with holes that the next buffer does not fit into.
    """
    whole: tuple[Tensor, ...] = ()
    kept: list[tuple[Tensor, ...]] = []
    at = 0
    for piece in pieces:
        if any(x.requires_grad for x in piece):
            kept.append(piece)
            continue
        whole = whole or tuple(x.new_empty(*x.shape[:-2], total, x.shape[-1]) for x in piece)
        for target, part in zip(whole, piece, strict=True):
            target[..., at : at + part.shape[-2], :] = part
        at += piece[0].shape[-2]
    return tuple(torch.cat(x, dim=-2) for x in zip(*kept, strict=True)) if kept else whole


def cut_tiles(starts: Int[Tensor, "B"], n: int) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
    """Tiles of at most TILE queries that do not cross the given starts (the first is 0)."""
    stops = torch.cat([starts[1:], starts.new_tensor([n])])
    pieces = (stops - starts + TILE - 1) // TILE
    owner = torch.repeat_interleave(torch.arange(len(starts), device=starts.device), pieces)
    place = torch.arange(len(owner), device=starts.device) - (pieces.cumsum(0) - pieces)[owner]
    first = starts[owner] + place * TILE
    return first, torch.minimum(first + TILE, stops[owner])


def spans(first: Int[Tensor, "b"], stop: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
    """The numbers first … stop − 1 of each row, −1 behind its end."""
    width = int((stop - first).max().clamp_min(0))
    numbers = first[:, None] + torch.arange(width, device=first.device)
    return torch.where(numbers < stop[:, None], numbers, -1)
