"""A cache: each segment also sees the keys and values of the last M positions before it.

Source: Dai et al. 2019, arXiv:1901.02860, section 3.2. Our deviations: one layer, so the cache holds this layer's own
keys and values; their relative positions are the mechanism `relative`'s subject (a text's keys come rotated by
their true positions, which is relative already); gradients do flow into the cache. Without a mask a token sees its own
segment both ways and the cache before it: recurrent memory reads segments in order and never holds a later one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Cost, Explanation, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory.reasons import MemoryReason
from longattn_core.mechanisms.memory.segments import Layout, attend_run, by_segment, peak_cells, runs, visible_pairs
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.maps.listed import SparseMap
from longattn_core.numerics.softmax import masked_softmax


@dataclass(frozen=True, kw_only=True, eq=False)
class CacheTrace:
    """For each segment the spans [first, one past the last) of tokens: its own, cached, compressed, gone.

    `groups [p 2]` are the spans of tokens that were pooled into one summary each, oldest first (none in a plain cache).
    """

    segments: Int[Tensor, "t 2"]
    cached: Int[Tensor, "t 2"]
    compressed: Int[Tensor, "t 2"]
    gone: Int[Tensor, "t 2"]
    groups: Int[Tensor, "p 2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pooled:
    """The summaries that one segment sees: `keys [g p d]`, `there [p]`; `group [c]` and `share [c]` are those of
    each token from `start` on: which of the summaries it was pooled into, and with what weight.
    """

    start: int
    keys: Float[Tensor, "g p d"]
    there: Bool[Tensor, "p"]
    group: Int[Tensor, "c"]
    share: Float[Tensor, "c"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CacheMap(SparseMap):
    """A map of one run of keys a row: the cache and the segment up to the query (or to its end)."""

    layout: Layout

    @property
    def _slots(self) -> int:
        return min(self.layout.n, self.layout.segment + self.layout.memory)

    def _pooled_memory(self, segment: int, heads: Int[Tensor, "g"]) -> Pooled | None:
        """The summaries that this segment sees; a plain cache keeps none."""
        return None

    def _entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        sequence, layout = self.sequence, self.layout
        device = queries.device
        keys = torch.full((len(queries), self._slots), -1, device=device)
        weights = sequence.q.new_zeros(len(heads), len(queries), self._slots)
        for segment, places in by_segment(queries, layout.segment):
            first, stop = layout.oldest(segment), layout.span(segment)[1]
            chosen = queries[places]
            tokens = torch.arange(first, stop, device=device)
            mask = (sequence.real[first:stop] & sequence.real[chosen, None]).expand(len(chosen), -1)
            if sequence.causal:
                mask = mask & (tokens <= chosen[:, None])
            rows = sequence.q[heads[:, None], chosen]
            scores = rows @ sequence.k[heads, first:stop].mT
            pooled = self._pooled_memory(segment, heads)
            if pooled is not None:
                here = pooled.there & sequence.real[chosen, None]
                scores = torch.cat((rows @ pooled.keys.mT, scores), dim=-1)
                far = (sequence.real[pooled.start : first] & sequence.real[chosen, None]).expand(len(chosen), -1)
                tokens = torch.arange(pooled.start, stop, device=device)
                soft = masked_softmax(scores / math.sqrt(sequence.d), torch.cat((here, mask), dim=-1).expand_as(scores))
                count = pooled.keys.shape[1]
                part = torch.cat((soft[..., :count][..., pooled.group] * pooled.share, soft[..., count:]), dim=-1)
                mask = torch.cat((far, mask), dim=-1)
            else:
                part = masked_softmax(scores / math.sqrt(sequence.d), mask.expand_as(scores))
            keys[places, : len(tokens)] = torch.where(mask, tokens, -1)
            weights[:, places, : len(tokens)] = part
        return Entries(keys=keys.repeat(len(heads), 1, 1), weights=weights)

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        layout = self.layout
        own, other = query // layout.segment, key // layout.segment
        start, stop = layout.span(own)
        facts: dict[str, float | int | str | bool] = {"segment": own, "start": start, "stop": stop, "lag": query - key}
        if other == own:
            reason = MemoryReason.IN_SEGMENT
            text = f"The key stands in the query's own segment (tokens {start} to {stop - 1}), so it is seen as it is."
        elif other > own:
            reason = MemoryReason.LATER
            text = (
                f"The key stands in segment {other}, which is read after the query's segment {own}: "
                "a recurrent memory holds the past only."
            )
        elif key >= layout.oldest(own):
            facts["oldest"] = layout.oldest(own)
            reason = MemoryReason.CACHED
            text = (
                f"The key is one of the {start - layout.oldest(own)} tokens that are cached before the segment "
                f"(tokens {layout.oldest(own)} to {start - 1}), {query - key} tokens back."
            )
        else:
            return self._beyond_the_cache(facts, head, query, key, kept, exact, weight)
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)

    def _beyond_the_cache(
        self, facts: dict[str, float | int | str | bool], head: int, query: int, key: int, kept: bool, exact: float, weight: float
    ) -> Explanation:
        """The sentence for a key that is older than everything in the cache."""
        layout = self.layout
        left_at = ((key + layout.memory) // layout.segment + 1) * layout.segment
        facts |= {"left_at": left_at, "gone_for": query - left_at}
        text = (
            f"The key left the cache of {layout.memory} tokens when the segment at token {left_at} began, "
            f"{query - left_at} tokens before the query."
        )
        return Explanation(kept=kept, exact=exact, weight=weight, reason=MemoryReason.GONE, facts=facts, text=text)


def attend_cache(mechanism: Mechanism, sequence: Sequence, *, segment: int, memory: int) -> CacheMap:
    """Cost: (segment + memory)·(d + e) a token and head; about 64 MB above the output."""
    layout = Layout.of(sequence.n, segment, memory)
    steps = runs(layout, heads=sequence.h, width=sequence.d + sequence.e, far=0)
    output = torch.cat([attend_run(sequence, layout, run) for run in steps], dim=1)
    spans, cached = layout.spans, layout.cached
    oldest = cached[:, 0]
    trace = CacheTrace(
        segments=spans,
        cached=cached,
        compressed=torch.stack((oldest, oldest), dim=1),
        gone=torch.stack((torch.zeros_like(oldest), oldest), dim=1),
        groups=torch.zeros(0, 2, dtype=torch.int64),
    )
    return CacheMap(
        mechanism=mechanism, sequence=sequence, output=output, trace=trace, cost=cache_cost(sequence, layout), layout=layout
    )


def cache_cost(sequence: Sequence, layout: Layout, far: Int[Tensor, "t"] | None = None) -> Cost:
    """Pairs that the mask and the memory allow, times d + e; each segment's keys and values are read once."""
    pairs = visible_pairs(layout, sequence.causal, far)
    width, size = sequence.d + sequence.e, sequence.q.element_size()
    most = 0 if far is None else int(far.max())
    read = int((layout.spans[:, 1] - layout.cached[:, 0]).sum()) + (0 if far is None else int(far.sum()))
    return Cost(
        multiply_adds=sequence.h * pairs * width,
        bytes_moved=size * sequence.h * ((sequence.n + read) * width + 2 * pairs),
        bytes_peak=size * (peak_cells(sequence, layout, most) + sequence.h * sequence.n * sequence.e),
    )
