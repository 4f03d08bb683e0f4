"""Which keys a memory holds while a segment is read, and the five states that a key can be in.

Source: ours. Every key is, for one segment of queries, in one of five states: it stands in the segment itself, is cached as
it was, is held only in a blend (summaries, slots, a running state), is gone, or has not been read yet (no mask).
A running state has no segments; for it the text is shown in equal pieces, and a key counts as gone when less than half
of what was written of it is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import edges
from longattn_core.mechanisms.memory.cache import CacheTrace
from longattn_core.mechanisms.memory.slot_map import SlotTrace
from longattn_core.mechanisms.memory.states import StateMap
from longattn_core.studies.base.cumulated_rows import CumulatedRows
from longattn_core.studies.base.run import MechanismRun

Status = Literal["current", "cached", "blended", "gone", "later"]
STATUSES: tuple[Status, ...] = ("current", "cached", "blended", "gone", "later")

PIECE = 64
"""Tokens of a piece in which the text is shown for a running state."""
HALF = 0.5
"""A write of which a smaller share is left counts as gone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Which keys a memory holds for each segment.

    `spans [t 4]`: each segment's first blended, first cached and first own token, and one past its last; tokens before the
    first blended one are gone. `life` is a state's, in tokens. `both_ways`: a state without a mask holds what comes later
    too. `segmented`: whether the spans are the mechanism's own segments, not the pieces in which a state is shown.
    """

    spans: Int[Tensor, "t four"]
    life: float
    both_ways: bool
    segmented: bool = True

    @classmethod
    def of(cls, run: MechanismRun, head: int) -> Held:
        """Read a run's trace; a state's life is measured on its own writes (see `life_of`)."""
        trace = None if run.attended is None else run.attended.trace
        if isinstance(trace, CacheTrace):
            blended, cached = trace.compressed[:, 0], trace.cached[:, 0]
            spans = torch.stack([blended, cached, trace.segments[:, 0], trace.segments[:, 1]], dim=1)
            return cls(spans=spans, life=math.inf, both_ways=False)
        if isinstance(trace, SlotTrace):
            start, stop = trace.segments.unbind(1)
            first = torch.where(trace.written.cpu(), torch.zeros_like(start), start)
            return cls(spans=torch.stack([first, start, start, stop], dim=1), life=math.inf, both_ways=False)
        attended, sequence = run.attended_as(StateMap), run.sequence  # type: ignore[type-abstract]
        pieces = torch.tensor(edges(0, sequence.n, math.ceil(sequence.n / PIECE)))
        start, stop = pieces[:-1], pieces[1:]
        life = life_of(attended, head) if sequence.causal else math.inf
        first = (start - min(life, sequence.n)).ceil().long().clamp_min(0)
        spans = torch.stack([first, start, start, stop], dim=1)
        return cls(spans=spans, life=life, both_ways=not sequence.causal, segmented=False)

    def of_queries(self, queries: Int[Tensor, "r"]) -> Int[Tensor, "r four"]:
        """The spans of the segment that each query stands in."""
        spans = self.spans.to(queries.device)
        return spans[torch.searchsorted(spans[:, 2].contiguous(), queries, right=True) - 1]

    def of_each(self, queries: Int[Tensor, "r"]) -> Int[Tensor, "r four"]:
        """The same, but a state has no segments: there the life is counted back from each query itself."""
        if self.segmented:
            return self.of_queries(queries)
        first = (queries - min(self.life, float(self.spans[-1, 3]))).ceil().long().clamp_min(0)
        return torch.stack([first, queries, queries, queries + 1], dim=1)

    def shares(self, rows: CumulatedRows, spans: Int[Tensor, "r four"]) -> dict[str, float]:
        """The share of the rows' mass on keys of each status, with sinks and without; `spans` are those of each query."""
        n = rows.exact.shape[-1]
        marks = torch.cat([torch.zeros_like(spans[:, :1]), spans, torch.full_like(spans[:, :1], n)], dim=1)
        parts: Float[Tensor, "two five"] = rows.between(marks).sum(1)
        gone, blended, cached, own, later = (parts / rows.totals()[:, None]).unbind(1)
        if self.both_ways:
            blended, later = blended + later, torch.zeros_like(later)
        named = dict(zip(STATUSES, (own, cached, blended, gone, later), strict=True))
        return {name + end: float(x[i]) for name, x in named.items() for i, end in enumerate(("", " without sinks"))}


def life_of(attended: StateMap, head: int) -> float:
    """After how many tokens half of a write is left, read between lags that double; infinite where more is left.

    Cost: that of the map's `survival`.
    """
    lags = [1 << power for power in range(max(1, (attended.sequence.n - 1).bit_length()))]
    left = attended.survival(torch.tensor(lags))[head].double().cpu().numpy()
    before = (0.0, 1.0)
    for lag, share in zip(lags, left, strict=True):
        if not np.isfinite(share):
            break
        if share < HALF:
            earlier, share_earlier = before
            return float(earlier + (lag - earlier) * (share_earlier - HALF) / (share_earlier - share))
        before = (float(lag), float(share))
    return math.inf
