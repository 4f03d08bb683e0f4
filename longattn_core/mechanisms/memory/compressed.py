"""A compressed memory: what leaves the cache is pooled c : 1 into summaries, of which the last few are kept.

Source: Rae et al. 2019, arXiv:1911.05507, section 3.1, with mean pooling (section 3.1, compression function 1). Our
deviations: one layer; keys are pooled as they are (rotated ones too); where the tokens that leave at one step are no multiple
of c, the last group is shorter, so that no token is dropped; padding does not count in a group's mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Cost, Mechanism, ReadCount
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory.cache import CacheMap, CacheTrace, Pooled, cache_cost
from longattn_core.mechanisms.memory.reasons import Facts, MemoryReason
from longattn_core.mechanisms.memory.segments import Far, Layout, attend_run, runs
from longattn_core.wording import noun_for


@dataclass(frozen=True, kw_only=True, eq=False)
class Summaries:
    """All summaries that are ever made, oldest first, and which of them each segment sees.

    `spans [p 2]` tokens of each; `keys [h p d]`, `values [h p e]` their means over real tokens; `counts [p]` the
    number of these; segment t sees the summaries `first[t]` … `last[t]` − 1.
    """

    spans: Int[Tensor, "p 2"]
    keys: Float[Tensor, "h p d"]
    values: Float[Tensor, "h p e"]
    counts: Int[Tensor, "p"]
    first: Int[Tensor, "t"]
    last: Int[Tensor, "t"]

    def of_run(self, run: range) -> Far | None:
        """The summaries that the segments of a run see; None when none of them has one yet."""
        first, last = self.first[run.start : run.stop], self.last[run.start : run.stop]
        width = int((last - first).max())
        if width == 0:
            return None
        index = (last[:, None] - width + torch.arange(width)).to(self.keys.device)
        inside = index >= first[:, None].to(index.device)
        index = torch.where(inside, index, 0)
        return Far(keys=self.keys[:, index], values=self.values[:, index], readable=inside & (self.counts[index] > 0))


def summarise(sequence: Sequence, layout: Layout, *, rate: int, kept: int) -> Summaries:
    """Pool every token that ever leaves the cache. Cost: d + e additions a token and head."""
    gone = layout.cached[:, 0].contiguous()  # when a segment is read, all tokens before this one have left the cache
    blocks = sorted(set(gone.tolist()))
    spans = [(start, min(start + rate, stop)) for begin, stop in pairwise(blocks) for start in range(begin, stop, rate)]
    table = torch.tensor(spans, dtype=torch.int64).reshape(-1, 2)
    last = torch.searchsorted(table[:, 1].contiguous(), gone, right=True)
    evicted = int(gone[-1])
    group = torch.repeat_interleave(torch.arange(len(table)), table.diff(dim=1)[:, 0]).to(sequence.q.device)
    real = sequence.real[:evicted]
    counts = torch.zeros(len(table), dtype=torch.int64, device=group.device).index_add(0, group, real.long())

    def means(x: Float[Tensor, "h n w"]) -> Float[Tensor, "h p w"]:
        sums = x.new_zeros(x.shape[0], len(table), x.shape[2]).index_add(1, group, x[:, :evicted] * real[:, None])
        return sums / counts.clamp_min(1)[:, None]

    return Summaries(
        spans=table, keys=means(sequence.k), values=means(sequence.v), counts=counts, first=(last - kept).clamp_min(0), last=last
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class CompressedMap(CacheMap):
    """The cache's map, with a summary's weight spread evenly over the real tokens that were pooled into it."""

    summaries: Summaries
    rate: int

    @property
    def _slots(self) -> int:
        oldest = self.trace.compressed[:, 0]
        return int((self.layout.spans[:, 1] - oldest).max())

    def _pooled_memory(self, segment: int, heads: Int[Tensor, "g"]) -> Pooled | None:
        summaries = self.summaries
        first, last = int(summaries.first[segment]), int(summaries.last[segment])
        if first == last:
            return None
        spans, counts = summaries.spans[first:last], summaries.counts[first:last]
        group = torch.repeat_interleave(torch.arange(last - first), spans.diff(dim=1)[:, 0]).to(counts.device)
        start, stop = int(spans[0, 0]), int(spans[-1, 1])
        share = self.sequence.real[start:stop] / counts.clamp_min(1)[group].to(self.output.dtype)
        return Pooled(start=start, keys=summaries.keys[heads, first:last], readable=counts > 0, group=group, share=share)

    def _read_count(self, head: int, query: int) -> ReadCount:
        sequence, segment = self.sequence, query // self.layout.segment
        if not bool(sequence.real[query]):
            return ReadCount(count=0, unit="keys and summaries")
        stop = query + 1 if sequence.causal else self.layout.span(segment)[1]
        tokens = int(sequence.real[self.layout.oldest(segment) : stop].sum())
        first, last = int(self.summaries.first[segment]), int(self.summaries.last[segment])
        return ReadCount(count=tokens + int((self.summaries.counts[first:last] > 0).sum()), unit="keys and summaries")

    def _beyond_the_cache(self, facts: Facts, query: int, key: int, kept: bool, weight: float) -> tuple[MemoryReason, str]:
        summaries, layout = self.summaries, self.layout
        index = int(torch.searchsorted(summaries.spans[:, 1].contiguous(), key, right=True))
        start, stop = summaries.spans[index].tolist()
        count = int(summaries.counts[index])
        facts |= {"summary": index, "summary_start": start, "summary_stop": stop, "pooled": count}
        if kept:
            facts["summary_weight"] = weight * count
            text = (
                f"The key left the cache and was averaged with {count - 1} other {noun_for(count - 1, 'token')} into "
                f"one summary (tokens {start} to {stop - 1}); the summary gets {weight * count:.3g}, "
                f"so each of its tokens gets {weight:.3g}."
            )
            return MemoryReason.COMPRESSED, text
        # The summary is gone from the first segment on whose oldest summary is younger.
        left_at = int(torch.searchsorted(summaries.first, index, right=True)) * layout.segment
        facts |= {"left_at": left_at, "gone_for": query - left_at}
        most = int((summaries.last - summaries.first).max())
        text = (
            f"The key's summary was pushed out by newer ones when the segment at token {left_at} began, "
            f"{query - left_at} tokens before the query: only the last {most} summaries are kept."
        )
        return MemoryReason.GONE, text


def attend_compressed(
    mechanism: Mechanism, sequence: Sequence, *, segment: int, memory: int, rate: int, kept: int
) -> CompressedMap:
    """Cost: (segment + memory + summaries)·(d + e) a token and head, and one pooling of the tokens that leave."""
    layout = Layout.of(sequence.n, segment, memory)
    summaries = summarise(sequence, layout, rate=rate, kept=kept)
    far = summaries.last - summaries.first
    steps = runs(layout, heads=sequence.h, width=sequence.d + sequence.e, far=int(far.max()))
    output = torch.cat([attend_run(sequence, layout, run, summaries.of_run(run)) for run in steps], dim=1)
    spans, cached = layout.spans, layout.cached
    starts = torch.cat((summaries.spans[:, 0], cached[-1:, 0]))
    oldest = torch.where(far > 0, starts[summaries.first], cached[:, 0])
    trace = CacheTrace(
        segments=spans,
        cached=cached,
        compressed=torch.stack((oldest, cached[:, 0]), dim=1),
        gone=torch.stack((torch.zeros_like(oldest), oldest), dim=1),
        groups=summaries.spans,
    )
    evicted, width = int(cached[-1, 0]), sequence.d + sequence.e
    size = sequence.q.element_size()
    pooling = Cost(
        multiply_adds=sequence.h * evicted * width,
        bytes_moved=size * sequence.h * (evicted + len(summaries.spans)) * width,
        bytes_peak=size * sequence.h * (evicted + len(summaries.spans)) * max(sequence.d, sequence.e),
    )
    return CompressedMap(
        mechanism=mechanism,
        sequence=sequence,
        output=output,
        trace=trace,
        cost=cache_cost(sequence, layout, far) + pooling,
        layout=layout,
        summaries=summaries,
        rate=rate,
    )
