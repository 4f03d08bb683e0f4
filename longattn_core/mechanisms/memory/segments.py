"""Attention segment by segment: its own tokens, the tokens just before it, and a far memory.

Source: Dai et al. 2019, arXiv:1901.02860, section 3.2 (the loop over segments). Several segments share one matrix product, and
a segment too long for one is computed in chunks of queries; neither changes the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from longattn_core.contracts.indexing import STREAM_CELLS
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.softmax import masked_softmax


@dataclass(frozen=True, kw_only=True)
class Layout:
    """n positions cut into segments of `segment`; each segment also sees the `memory` positions before its start.

    Positions count padding: a padded token takes a place in the cache although no query attends to it.
    """

    n: int
    segment: int
    memory: int = 0

    @classmethod
    def of(cls, n: int, segment: int, memory: int = 0) -> Layout:
        """The layout with both widths reduced to at most n, because larger ones change nothing."""
        return cls(n=n, segment=min(segment, n), memory=min(memory, n))

    @property
    def count(self) -> int:
        """The number of segments, a shorter last one included."""
        return math.ceil(self.n / self.segment)

    @property
    def spans(self) -> Int[Tensor, "t 2"]:
        """First token and one past the last of each segment."""
        starts = torch.arange(0, self.n, self.segment)
        return torch.stack((starts, (starts + self.segment).clamp_max(self.n)), dim=1)

    @property
    def cached(self) -> Int[Tensor, "t 2"]:
        """The span of tokens in each segment's cache."""
        starts = self.spans[:, 0]
        return torch.stack(((starts - self.memory).clamp_min(0), starts), dim=1)

    def span(self, segment: int) -> tuple[int, int]:
        """First token of a segment and one past its last."""
        start = segment * self.segment
        return start, min(start + self.segment, self.n)

    def oldest(self, segment: int) -> int:
        """The oldest token in the segment's cache; its own first token when the cache is empty."""
        return max(0, segment * self.segment - self.memory)


@dataclass(frozen=True, kw_only=True, eq=False)
class Far:
    """What some segments see beside tokens: `keys [h g x d]`, `values [h g x e]`; `readable [g x]`, False for an empty place."""

    keys: Float[Tensor, "h g x d"]
    values: Float[Tensor, "h g x e"]
    readable: Bool[Tensor, "g x"]


def runs(layout: Layout, *, heads: int, width: int, far: int) -> Iterator[range]:
    """Runs of segments whose scores and copied keys fit into `STREAM_CELLS`; a longer segment is a run of its own."""
    reach = layout.memory + layout.segment + far
    step = max(1, STREAM_CELLS // (heads * reach * max(layout.segment, width)))
    for first in range(0, layout.count, step):
        yield range(first, min(first + step, layout.count))


def attend_run(sequence: Sequence, layout: Layout, run: range, far: Far | None = None) -> Float[Tensor, "h m e"]:
    """Output of the tokens of a run of segments. Cost: (segment + memory + far)·(d + e) for each token and head."""
    size, first = layout.segment, run.start * layout.segment
    # The first segments have fewer tokens before them than the cache can hold.
    memory = min(layout.memory, (run.stop - 1) * size)
    start, stop = first - memory, run.stop * size
    keys = _windows(sequence.k, start, stop, memory + size, size)  # [h, g, d, key]
    values = _windows(sequence.v, start, stop, memory + size, size).mT  # [h, g, key, e]
    real_keys = _windows(sequence.real[None, :, None], start, stop, memory + size, size)[0, :, 0]  # [g, key]
    queries = _windows(sequence.q, first, stop, size, size).mT  # [h, g, query, d]
    real_queries = _windows(sequence.real[None, :, None], first, stop, size, size)[0, :, 0]
    offsets = torch.arange(-memory, size, device=keys.device)
    extra = 0 if far is None else far.keys.shape[2]
    step = max(1, STREAM_CELLS // (sequence.h * len(run) * (memory + size + extra)))
    parts = []
    for begin in range(0, size, step):
        end = min(begin + step, size)
        visible = slice(0, memory + end if sequence.causal else memory + size)
        mask = real_keys[:, None, visible] & real_queries[:, begin:end, None]
        if sequence.causal:
            mask = mask & (offsets[visible] <= torch.arange(begin, end, device=keys.device)[:, None])
        rows = queries[:, :, begin:end]
        scores = rows @ keys[..., visible]
        if far is not None:
            scores = torch.cat((rows @ far.keys.mT, scores), dim=-1)
            mask = torch.cat((far.readable[:, None] & real_queries[:, begin:end, None], mask), dim=-1)
        weights = masked_softmax(scores / math.sqrt(sequence.d), mask.expand_as(scores))
        part = weights[..., extra:] @ values[:, :, visible]
        parts.append(part if far is None else part + weights[..., :extra] @ far.values)
    return torch.cat(parts, dim=2).flatten(1, 2)[:, : min(stop, layout.n) - first]


def _windows(x: Tensor, start: int, stop: int, width: int, step: int) -> Tensor:
    """Windows of x `[h n c]` over the positions start … stop, as `[h g c width]`; zero (False) outside the sequence."""
    n = x.shape[1]
    part = x[:, max(start, 0) : min(stop, n)]
    return pad(part, (0, 0, max(-start, 0), max(stop - n, 0))).unfold(1, width, step)


def by_segment(queries: Int[Tensor, "r"], segment: int) -> Iterator[tuple[int, Int[Tensor, "s"]]]:
    """Each segment that holds a chosen query, in order, with the indices of its queries among the chosen ones."""
    segments = queries // segment
    order, begin = segments.argsort(stable=True), 0
    for number, count in enumerate(torch.bincount(segments).tolist()):
        if count:
            yield number, order[begin : begin + count]
        begin += count


def visible_pairs(layout: Layout, causal: bool, far: Int[Tensor, "t"] | None = None) -> int:
    """Pairs of a query and what it sees: a token, or one place of the far memory. Padding counts as tokens."""
    spans, cached = layout.spans, layout.cached
    own = spans[:, 1] - spans[:, 0]
    inside = own * (own + 1) // 2 if causal else own * own
    before = cached[:, 1] - cached[:, 0] + (0 if far is None else far)
    return int((inside + own * before).sum())


def peak_cells(sequence: Sequence, layout: Layout, far: int) -> int:
    """Numbers that `attend_run` holds at once: scores, mask and softmax of one step, and the copied keys and values."""
    run = next(runs(layout, heads=sequence.h, width=sequence.d + sequence.e, far=far))
    reach = layout.memory + layout.segment + far
    rows = min(layout.segment, max(1, STREAM_CELLS // (sequence.h * len(run) * reach)))
    return sequence.h * len(run) * reach * (4 * rows + sequence.d + sequence.e)
