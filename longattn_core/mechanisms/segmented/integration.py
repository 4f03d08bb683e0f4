"""What a token of a segment reads: its own segment, an overlap, summaries of the others, or one integrated summary.

Source: the blocks are those of Qiu et al. 2019, arXiv:1911.02972, section 3. Means as summaries, and a second attention
among them, are the simplest form of what ETC (Ainslie et al. 2020, arXiv:2004.08483) and HIBERT (Zhang et al. 2019,
arXiv:1905.06566) learn; nothing is learned here.

With segment g of token i, its N_g real tokens, and their means Q_g, K_g, V_g (the *summary*), the variants are one softmax
over the scores q_i·x/√d, where x runs over
- the keys k_j of segment g; with an overlap, also those up to `overlap` tokens before it (without a mask, also after it);
- *summaries*: also the K_c of all segments c in C(g), whose values are V_c. C(g) are the other segments that hold a real
  token; under a causal mask those before g;
- *second*: also one integrated summary K̂_g = Σ_c β_c K_c with value V̂_g = Σ_c β_c V_c, where β = softmax over c in C(g)
  of D_g·K_c/√d. The query D_g is Q_g; under a causal mask, where Q_g includes later tokens, it is the Q of the last segment in
  C(g).

A summary counts as one key, or as its tokens: then ln N_c is added to the score of K_c, and ln Σ_{c in C(g)} N_c to that of K̂_g.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.mechanism import Cost
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.softmax import masked_softmax
from longattn_core.numerics.tiles.cutting import cut_tiles, laid_out, spans
from longattn_core.numerics.tiles.reading import TiledReader, TileWeights


def fixed_starts(n: int, width: int, first: int) -> list[int]:
    """Starts of segments of `width` tokens, of which the first holds `first`."""
    return [0, *range(first, n, width)]


def sentence_starts(sentence: Int[Tensor, "n"], width: int, first: int) -> list[int]:
    """Starts of segments that hold as many whole sentences as fit into `width` tokens (the first segment: into `first`).

    A sentence longer than `width` begins a segment and is cut every `width` tokens; the next sentence may join its last part.
    """
    starts, room, begin = [0], first, 0
    for count in torch.unique_consecutive(sentence, return_counts=True)[1].tolist():
        if begin + count - starts[-1] > room:
            room = width
            if begin > starts[-1]:
                starts.append(begin)
        while begin + count - starts[-1] > room:
            starts.append(starts[-1] + width)
        begin += count
    return starts


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentReader(TiledReader):
    """The keys of the own segment, and `overlap` tokens beyond it. `starts [B]` are the segments' first tokens."""

    starts: Int[Tensor, "B"]
    overlap: int = 0

    @cached_property
    def segment(self) -> Int[Tensor, "n"]:
        """The segment of each token."""
        tokens = torch.arange(self.sequence.n, device=self.starts.device)
        return torch.searchsorted(self.starts, tokens, right=True) - 1

    @cached_property
    def stops(self) -> Int[Tensor, "B"]:
        """One past the last token of each segment."""
        return torch.cat([self.starts[1:], self.starts.new_tensor([self.sequence.n])])

    def tiles(self) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """Tiles that end where segments end."""
        return cut_tiles(self.starts, self.sequence.n)

    @property
    def widest(self) -> int:
        """The longest segment with its overlaps."""
        sides = 1 if self.sequence.causal else 2
        return min(self.sequence.n, int((self.stops - self.starts).max()) + sides * self.overlap)

    def listed(self, first: Int[Tensor, "b"], stop: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
        """The tokens of the own segment and its overlap; under a causal mask none after the tile."""
        own = self.segment[first]
        low = (self.starts[own] - self.overlap).clamp_min(0)
        high = stop if self.sequence.causal else (self.stops[own] + self.overlap).clamp_max(self.sequence.n)
        return spans(low, high)

    def visible(
        self, queries: Int[Tensor, "b T"], listed: Int[Tensor, "b C"], shared: Int[Tensor, "S"]
    ) -> tuple[Bool[Tensor, "b T C"], Bool[Tensor, "b T S"]]:
        """The tokens on the list, as the mask allows."""
        return self.tokens_read(queries, listed), self.asks(queries)[..., None].expand(-1, -1, len(shared))


@dataclass(frozen=True, kw_only=True, eq=False)
class SummaryReader(SegmentReader):
    """The own segment's keys, and the other segments' summaries as further keys of the same softmax."""

    by_size: bool

    @property
    def bias(self) -> Float[Tensor, "P"] | None:
        """ln N of each summary where it counts as its tokens, else None."""
        return _log_counts(self.sequence.q, self.groups[0].size) if self.by_size else None

    def shared(self, last: int) -> Int[Tensor, "S"]:
        """All summaries; under a causal mask, those of the segments before the segment of token `last`."""
        count = int(self.segment[last]) if self.sequence.causal else self.groups[0].count
        return self.sequence.n + torch.arange(count, device=self.starts.device)

    def visible(
        self, queries: Int[Tensor, "b T"], listed: Int[Tensor, "b C"], shared: Int[Tensor, "S"]
    ) -> tuple[Bool[Tensor, "b T C"], Bool[Tensor, "b T S"]]:
        """The own segment's tokens, and every other (or earlier) segment that holds a real token."""
        own = self.segment[queries.clamp_min(0)][..., None]
        segment = shared - self.sequence.n
        others = segment < own if self.sequence.causal else segment != own
        return self.tokens_read(queries, listed), others & self.alive[shared] & self.asks(queries)[..., None]


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegratedReader(SegmentReader):
    """The own segment's keys, and one more key: the integrated summary, a second attention among the other segments' summaries.

    Item n + g is the integrated summary of segment g. The entries of a row list the summaries that it is made of.
    """

    by_size: bool

    def context(self, segments: Int[Tensor, "r"]) -> Bool[Tensor, "r B"]:
        """C(g) of each chosen segment g: the segments that its integrated summary is made of."""
        others = torch.arange(self.groups[0].count, device=segments.device)
        readable = others < segments[:, None] if self.sequence.causal else others != segments[:, None]
        return readable & (self.groups[0].size > 0)

    def integration(self, segments: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r B"]:
        """β, the second attention: the share of each summary in the integrated summary of each chosen segment."""
        summaries, context = self.groups[0], self.context(segments)
        query_of = segments
        if self.sequence.causal:
            query_of = torch.where(context, torch.arange(summaries.count, device=segments.device), 0).amax(-1)
        scores = summaries.q[heads][:, query_of] @ summaries.k[heads].mT / math.sqrt(self.sequence.d)
        if self.by_size:
            scores = scores + _log_counts(self.sequence.q, summaries.size)[self.sequence.n :]
        return masked_softmax(scores, context.expand_as(scores))

    @cached_property
    def integrated(self) -> tuple[Float[Tensor, "h B d"], Float[Tensor, "h B e"], Int[Tensor, "B"]]:
        """K̂, V̂ and the number of tokens that each stands for. Cost: B²·(2d + e), in chunks."""
        summaries, heads = self.groups[0], torch.arange(self.sequence.h, device=self.starts.device)
        sizes = summaries.size

        def chunks() -> Iterator[tuple[Tensor, ...]]:
            for rows in row_chunks(summaries.count, summaries.count * self.sequence.h):
                segments = torch.arange(rows.start, rows.stop, device=self.starts.device)
                shares = self.integration(segments, heads)
                yield shares @ summaries.k, shares @ summaries.v

        k, v = laid_out(chunks(), summaries.count)
        before = sizes.cumsum(0) - sizes
        return k, v, before if self.sequence.causal else sizes.sum() - sizes

    @cached_property
    def keys(self) -> Float[Tensor, "h P d"]:
        """The tokens' keys and the integrated ones."""
        return torch.cat([self.sequence.k, self.integrated[0]], dim=1)

    @cached_property
    def values(self) -> Float[Tensor, "h P e"]:
        """The tokens' values and the integrated ones."""
        return torch.cat([self.sequence.v, self.integrated[1]], dim=1)

    @property
    def bias(self) -> Float[Tensor, "P"] | None:
        """ln of the number of tokens that an integrated summary stands for, where it counts as them, else None."""
        return _log_counts(self.sequence.q, self.integrated[2]) if self.by_size else None

    @property
    def widest(self) -> int:
        """The longest segment and the integrated summary."""
        return super().widest + 1

    def listed(self, first: Int[Tensor, "b"], stop: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
        """The integrated summary of the own segment, then the segment's tokens."""
        return torch.cat([self.sequence.n + self.segment[first][:, None], super().listed(first, stop)], dim=1)

    def visible(
        self, queries: Int[Tensor, "b T"], listed: Int[Tensor, "b C"], shared: Int[Tensor, "S"]
    ) -> tuple[Bool[Tensor, "b T C"], Bool[Tensor, "b T S"]]:
        """The tokens on the list, and the integrated summary if it stands for any token."""
        near, far = super().visible(queries, listed, shared)
        any_token = self.integrated[2][listed[:, :1] - self.sequence.n] > 0
        return torch.cat([(self.asks(queries) & any_token)[..., None], near[..., 1:]], dim=-1), far

    def entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        """The tokens, and each summary with its share of the integrated one."""
        listed = super().entries(queries, heads)
        segments, index = torch.unique(self.segment[queries], return_inverse=True)
        # The integration of each segment once, however many of its queries are given.
        shares = self.integration(segments, heads)[:, index]
        items = self.sequence.n + torch.arange(self.groups[0].count, device=queries.device)
        read = self.context(segments)[index] & self.sequence.real[queries, None]
        return Entries(
            keys=torch.cat([listed.keys[..., 1:], torch.where(read, items, -1).expand(len(heads), -1, -1)], dim=-1),
            weights=torch.cat([listed.weights[..., 1:], shares * listed.weights[..., :1]], dim=-1),
        )

    def weights_by_tile(self, low: int, high: int, heads: Int[Tensor, "g"]) -> Iterator[TileWeights]:
        """The tokens on each tile's list, and the summaries as shared items, each with its share of the integrated one."""
        summaries = self.sequence.n + torch.arange(self.groups[0].count, device=self.starts.device)
        for tiles in super().weights_by_tile(low, high, heads):
            shares = self.integration(tiles.listed[:, 0] - self.sequence.n, heads)[:, :, None, :]
            yield replace(
                tiles, listed=tiles.listed[:, 1:], near=tiles.near[..., 1:], shared=summaries, far=tiles.near[..., :1] * shares
            )

    def _cost(self, pairs: int, cells: int, kept: int) -> Cost:
        """The cost of the base class, and that of the second attention over all pairs of summaries."""
        h, d, e = self.sequence.h, self.sequence.d, self.sequence.e
        size, count = self.sequence.q.element_size(), self.groups[0].count
        second = Cost(
            multiply_adds=h * count**2 * (2 * d + e), bytes_moved=h * size * 2 * (count**2 + count * (2 * d + e)), bytes_peak=0
        )
        return super()._cost(pairs, cells, kept) + second


def _log_counts(like: Float[Tensor, "h n d"], counts: Int[Tensor, "B"]) -> Float[Tensor, "P"]:
    """0 for the tokens, then the logarithm of each count."""
    zeros = torch.zeros(like.shape[1], dtype=like.dtype, device=like.device)
    return torch.cat([zeros, counts.clamp_min(1).to(like.dtype).log()])
