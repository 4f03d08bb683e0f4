"""The output and the weights of a `TilePattern`: computed tile by tile, so that time and memory follow the items that are read.

One batch of b tiles, from the lists to the output (see the drawing in `pattern.py`):

    queries [b T]  listed [b C]  shared [S]
         |    scores: gathered keys for `listed`, one product for `shared`
    near [g b T C], far [g b T S]
         |    visible, join: masked, and made weights
    near [g b T C], far [g b T S]
         |    near @ values[listed]  +  far @ values[shared]
    output [g b T e]   ->   laid out as [g n e]

Source: block-sparse attention in tiles, Dao et al. 2022, arXiv:2205.14135, section 3.3; the lists are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS, row_chunks
from longattn_core.contracts.mechanism import Cost
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.tiles.cutting import laid_out, spans
from longattn_core.numerics.tiles.pattern import TilePattern, shared_product

NEAR_CELLS = 1 << 19
"""How many weights a pooled map holds at once: a few buffers of this size stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TileWeights:
    """The weights of the queries of some tiles: on the items of each tile's own list, and on the items that all tiles share.

    −1 marks an empty place behind the end of a tile (`queries`) or of a list (`listed`). What is not read has weight 0.
    """

    queries: Int[Tensor, "b T"]
    listed: Int[Tensor, "b C"]
    near: Float[Tensor, "g b T C"]
    shared: Int[Tensor, "S"]
    far: Float[Tensor, "g b T S"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Read:
    """The result of `TiledReader.read`.

    `output [h n e]`; `parts [L h n e]` are the contributions of the levels, which add up to the output (None unless asked
    for); `mass [h n L]` is the weight that each query gives to each level (0: the tokens).
    """

    output: Float[Tensor, "h n e"]
    parts: Float[Tensor, "L h n e"] | None
    mass: Float[Tensor, "h n L"]
    cost: Cost


@dataclass(frozen=True, kw_only=True, eq=False)
class TiledReader(TilePattern):
    """Attention over the items of a pattern: the output, and the weights for views of the map."""

    def read(self, split: bool = False) -> Read:
        """The output; with `split` also the contribution of each level.

        Cost: d + e multiply-adds for each pair of a query and an item; memory some six buffers of about 40 MB.
        """
        first, stop = self.tiles()
        step, cells = self._steps(first, stop)
        pairs = 0

        def tiles() -> Iterator[tuple[Tensor, ...]]:
            nonlocal pairs
            for start in range(0, len(first), step):
                results, read = self._tile(first[start : start + step], stop[start : start + step], split)
                pairs += read
                yield results

        output, parts, mass = laid_out(tiles(), self.sequence.n)
        return Read(output=output, parts=parts if split else None, mass=mass, cost=self._cost(pairs, cells, parts.numel()))

    def estimated_cost(self, split: bool = False) -> Cost:
        """The cost of `read`: the lists of the tiles are made, but no score is computed."""
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
        """How many tiles are read at once, and how many numbers one buffer then holds."""
        sequence = self.sequence
        tall, count = int((stop - first).max()), len(self.shared(sequence.n - 1))
        cells = tall * (self.widest + count) + (tall + self.widest) * (sequence.d + sequence.e)
        step = max(1, STREAM_CELLS // (sequence.h * cells))
        return step, min(step, len(first)) * sequence.h * cells

    def _weighed(
        self,
        q: Float[Tensor, "g m d"],
        k: Float[Tensor, "g P d"],
        queries: Int[Tensor, "b T"],
        listed: Int[Tensor, "b C"],
        shared: Int[Tensor, "S"],
    ) -> tuple[TileWeights, Bool[Tensor, "b T C"], Bool[Tensor, "b T S"]]:
        """The weights of some tiles, and which listed and which shared items each query reads."""
        near_read, far_read = self.visible(queries, listed, shared)
        near, far = self.join(*self.scores(q, k, queries, listed, shared), near_read, far_read, listed, shared)
        return TileWeights(queries=queries, listed=listed, near=near, shared=shared, far=far), near_read, far_read

    def _tile(self, first: Int[Tensor, "b"], stop: Int[Tensor, "b"], split: bool) -> tuple[tuple[Tensor, ...], int]:
        """Output, parts and masses of the queries of some tiles, and the number of pairs that were scored."""
        v, levels = self.values, len(self.groups) + 1
        queries, listed, shared = spans(first, stop), self.listed(first, stop), self.shared(int(stop[-1]) - 1)
        weights, _, _ = self._weighed(self.queries, self.keys, queries, listed, shared)
        near, far = weights.near, weights.far
        level = self.level_of(listed).amax(0).clamp_min(0)
        far_level = int(self.level_of(shared[:1])) if len(shared) else -1
        mass = near @ torch.nn.functional.one_hot(level, levels).to(near.dtype)
        near_v, far_out = v[:, listed.clamp_min(0)], shared_product(far, v[:, shared])
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
        # Pairs above a causal diagonal inside a tile count too: they are computed, and then masked.
        pairs = (queries >= 0).sum(-1) @ ((listed >= 0).sum(-1) + len(shared))
        return tuple(x.flatten(-3, -2)[..., kept, :] for x in (output, parts, mass)), int(pairs)

    @property
    def _grouping(self) -> int:
        """Multiply-adds a head that make the groups of all levels: the means of queries, keys and values."""
        return len(self.groups) * self.sequence.n * (2 * self.sequence.d + self.sequence.e)

    def _cost(self, pairs: int, cells: int, kept: int) -> Cost:
        """Scores and values of `pairs` pairs, and the groups. A buffer holds `cells` numbers; `kept` numbers stay to the end."""
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

    def entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        """The items that each query reads, and their weights: a row of the map before its groups are distributed.

        Consecutive queries of one tile are read together, so that the rows of a whole map cost as much as the output.
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
        """The weights of the queries low … high − 1, some tiles at a time. Cost: the scores; some buffers of 2 MB a head."""
        first, stop = self.tiles()
        first, stop = first.clamp_min(low), stop.clamp_max(high)
        first, stop = first[first < stop], stop[first < stop]
        tall, every = int((stop - first).max()), self.widest + len(self.shared(high - 1))
        q, k = self.queries[heads], self.keys[heads]
        for part in row_chunks(len(first), len(heads) * tall * every, NEAR_CELLS):
            listed, shared = self.listed(first[part], stop[part]), self.shared(int(stop[part][-1]) - 1)
            yield self._weighed(q, k, spans(first[part], stop[part]), listed, shared)[0]

    def _run(
        self,
        q: Float[Tensor, "g m d"],
        k: Float[Tensor, "g P d"],
        queries: Int[Tensor, "r"],
        first: Int[Tensor, "r"],
        stop: Int[Tensor, "r"],
    ) -> Entries:
        """Entries of chosen queries; `first, stop` are the tile of each. Consecutive ones of one tile form a smaller tile:

        queries          3  5 | 9 | 4  5          |: another tile
        smaller tiles    [3, 5], [9, -1], [4, 5]
        """
        run = torch.cat([first.new_zeros(1), (first.diff() != 0).long().cumsum(0)])
        begin = torch.searchsorted(run, torch.arange(int(run[-1]) + 1, device=run.device))
        place = torch.arange(len(queries), device=run.device) - begin[run]
        laid = torch.full((len(begin), int(place.max()) + 1), -1, device=run.device).index_put((run, place), queries)
        listed, shared = self.listed(first[begin], stop[begin]), self.shared(int(queries.max()))
        weights, near_read, far_read = self._weighed(q, k, laid, listed, shared)
        items = torch.cat([listed.index_select(0, run), shared.expand(len(queries), -1)], dim=1)
        at = run * laid.shape[1] + place

        def picked(near: Tensor, far: Tensor) -> Tensor:
            return torch.cat([part.flatten(-3, -2).index_select(-2, at) for part in (near, far)], dim=-1)

        keys = torch.where(picked(near_read, far_read), items, -1)
        return Entries(keys=keys.expand(len(q), -1, -1), weights=picked(weights.near, weights.far))


def _stacked(found: list[Entries]) -> Entries:
    """Entries of unequal width below one another; empty slots fill the narrower ones."""
    widest = max(part.keys.shape[2] for part in found)
    pad = torch.nn.functional.pad
    return Entries(
        keys=torch.cat([pad(part.keys, (0, widest - part.keys.shape[2]), value=-1) for part in found], dim=1),
        weights=torch.cat([pad(part.weights, (0, widest - part.weights.shape[2])) for part in found], dim=1),
    )
