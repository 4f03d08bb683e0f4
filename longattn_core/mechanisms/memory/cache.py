"""A cache: each segment also sees the keys and values of the last M positions before it.

Source: Dai et al. 2019, arXiv:1901.02860, section 3.2. Our deviations: one layer, so the cache holds this layer's own
keys and values; their relative positions are left to the mechanism `relative` (the keys of a text are rotated by their true
positions, which are relative already); gradients flow into the cache. Without a mask a token sees its whole own segment and
the cache before it: recurrent memory reads segments in order and never holds a later one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Cost, Explanation, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory.reasons import Facts, MemoryReason, reason_by_segment, segment_facts
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
    """The summaries that one segment sees: `keys [g p d]`, and `readable [p]`, False for one without a real token.

    For each token from `start` on, `group [c]` is the summary that it is pooled into, and `share [c]` its weight there.
    """

    start: int
    keys: Float[Tensor, "g p d"]
    readable: Bool[Tensor, "p"]
    group: Int[Tensor, "c"]
    share: Float[Tensor, "c"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CacheMap(SparseMap):
    """A map with one run of keys in each row: the cache, and the segment up to the query (without a mask: all of it)."""

    layout: Layout

    @property
    def _slots(self) -> int:
        return min(self.layout.n, self.layout.segment + self.layout.memory)

    def _pooled_memory(self, segment: int, heads: Int[Tensor, "g"]) -> Pooled | None:
        """The summaries that this segment sees; a plain cache has none."""
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
                summaries = pooled.readable & sequence.real[chosen, None]
                scores = torch.cat((rows @ pooled.keys.mT, scores), dim=-1)
                far = (sequence.real[pooled.start : first] & sequence.real[chosen, None]).expand(len(chosen), -1)
                tokens = torch.arange(pooled.start, stop, device=device)
                joined = masked_softmax(scores / math.sqrt(sequence.d), torch.cat((summaries, mask), dim=-1).expand_as(scores))
                count = pooled.keys.shape[1]
                part = torch.cat((joined[..., :count][..., pooled.group] * pooled.share, joined[..., count:]), dim=-1)
                mask = torch.cat((far, mask), dim=-1)
            else:
                part = masked_softmax(scores / math.sqrt(sequence.d), mask.expand_as(scores))
            keys[places, : len(tokens)] = torch.where(mask, tokens, -1)
            weights[:, places, : len(tokens)] = part
        return Entries(keys=keys.repeat(len(heads), 1, 1), weights=weights)

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        layout, facts = self.layout, segment_facts(self.layout, query, key)
        own = query // layout.segment
        start, oldest = layout.span(own)[0], layout.oldest(own)
        if (found := reason_by_segment(layout, query, key)) is not None:
            reason, text = found
        elif key >= oldest:
            facts["oldest"] = oldest
            reason = MemoryReason.CACHED
            text = (
                f"The key is one of the {start - oldest} tokens that are cached before the segment "
                f"(tokens {oldest} to {start - 1}), {query - key} tokens back."
            )
        else:
            reason, text = self._beyond_the_cache(facts, query, key, kept, weight)
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)

    def _beyond_the_cache(self, facts: Facts, query: int, key: int, kept: bool, weight: float) -> tuple[MemoryReason, str]:
        """Reason and text for a key that is older than everything in the cache; adds to the facts."""
        layout = self.layout
        left_at = ((key + layout.memory) // layout.segment + 1) * layout.segment
        facts |= {"left_at": left_at, "gone_for": query - left_at}
        text = (
            f"The key left the cache of {layout.memory} tokens when the segment at token {left_at} began, "
            f"{query - left_at} tokens before the query."
        )
        return MemoryReason.GONE, text


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
    """Pairs that the mask and the memory allow, times d + e; each segment reads its keys and values once."""
    pairs = visible_pairs(layout, sequence.causal, far)
    width, size = sequence.d + sequence.e, sequence.q.element_size()
    most = 0 if far is None else int(far.max())
    read = int((layout.spans[:, 1] - layout.cached[:, 0]).sum()) + (0 if far is None else int(far.sum()))
    return Cost(
        multiply_adds=sequence.h * pairs * width,
        bytes_moved=size * sequence.h * ((sequence.n + read) * width + 2 * pairs),
        bytes_peak=size * (peak_cells(sequence, layout, most) + sequence.h * sequence.n * sequence.e),
    )
