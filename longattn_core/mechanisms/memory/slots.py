"""Memory slots: a few places that are rewritten after each segment and read by every token of the next.

Source: Bulatov et al. 2022, arXiv:2207.06881, section 3. The paper's slots are tokens that a trained Transformer reads and
writes. Our deviations: each slot has a drawn, untrained query. After a segment, this query weighs the slot's old content
and the segment's keys in one softmax, and the slot's key and value become that mixture of keys and of values. So every slot
is a convex mixture of past tokens, and what a token reads from it can be traced back to them. A slot is masked until a segment
with a real token has been written to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from longattn_core.contracts.mechanism import Cost, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory.segments import Far, Layout, attend_run, peak_cells, runs, visible_pairs
from longattn_core.mechanisms.memory.slot_map import SlotMap, SlotTrace
from longattn_core.numerics.draws import normal


@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """The contents of the slots, `keys [h s d]` and `values [h s e]`; `written` is False while they are empty."""

    keys: Float[Tensor, "h s d"]
    values: Float[Tensor, "h s e"]
    written: bool


def write_segment(
    slots: Slots, queries: Float[Tensor, "s d"], sequence: Sequence, start: int, stop: int
) -> tuple[Slots, Float[Tensor, "h s m"], Float[Tensor, "h s"]]:
    """The slots after a segment, each token's share in the write, and the logarithm of the share that the old content keeps.

    Cost: s·m·(2d + e) for m tokens and s slots.
    """
    keys, values, real = sequence.k[:, start:stop], sequence.v[:, start:stop], sequence.real[start:stop]
    if not bool(real.any()):
        return slots, keys.new_zeros(sequence.h, len(queries), stop - start), keys.new_zeros(sequence.h, len(queries))
    root = math.sqrt(sequence.d)
    scores = (queries @ keys.mT / root).masked_fill(~real, -math.inf)
    shares = scores.softmax(-1)
    if not slots.written:
        written = Slots(keys=shares @ keys, values=shares @ values, written=True)
        return written, shares, torch.zeros_like(scores[..., 0])
    # How far the score of the old content exceeds the logsumexp of the segment's scores.
    lead = (slots.keys * queries).sum(-1) / root - scores.logsumexp(-1)
    keep = lead.sigmoid()[..., None]
    shares = shares * (-lead).sigmoid()[..., None]
    mixed = Slots(keys=keep * slots.keys + shares @ keys, values=keep * slots.values + shares @ values, written=True)
    return mixed, shares, logsigmoid(lead)


def attend_slots(mechanism: Mechanism, sequence: Sequence, *, segment: int, slots: int) -> SlotMap:
    """Cost for each token and head: (segment + slots)·(d + e) to read, slots·(2d + e) to write; the trace has slots·n numbers."""
    layout = Layout.of(sequence.n, segment)
    queries = normal(mechanism.seed, "slot queries", slots, sequence.d, like=sequence.q)
    state = Slots(
        keys=sequence.k.new_zeros(sequence.h, slots, sequence.d),
        values=sequence.v.new_zeros(sequence.h, slots, sequence.e),
        written=False,
    )
    parts, writes, keeps, written = [], [], [], []
    for run in runs(layout, heads=sequence.h, width=sequence.d + sequence.e, far=slots):
        before = []
        for segment_number in run:
            before.append(state)
            state, write, log_keep = write_segment(state, queries, sequence, *layout.span(segment_number))
            writes.append(write.detach())
            keeps.append(log_keep.detach())
        readable = torch.tensor([slots_before.written for slots_before in before], device=sequence.q.device)
        written.append(readable)
        far = Far(
            keys=torch.stack([slots_before.keys for slots_before in before], dim=1),
            values=torch.stack([slots_before.values for slots_before in before], dim=1),
            readable=readable[:, None].expand(-1, slots),
        )
        parts.append(attend_run(sequence, layout, run, far))
    trace = SlotTrace(
        segments=layout.spans,
        queries=queries,
        write=torch.cat(writes, dim=2),
        log_keep=torch.stack(keeps, dim=1),
        written=torch.cat(written),
    )
    return SlotMap(
        mechanism=mechanism,
        sequence=sequence,
        output=torch.cat(parts, dim=1),
        trace=trace,
        cost=_cost(sequence, layout, trace),
        layout=layout,
    )


def _cost(sequence: Sequence, layout: Layout, trace: SlotTrace) -> Cost:
    h, n, d, e = sequence.h, sequence.n, sequence.d, sequence.e
    slots, size = len(trace.queries), sequence.q.element_size()
    pairs = visible_pairs(layout, sequence.causal, trace.written.cpu().long() * slots)
    return Cost(
        multiply_adds=h * (pairs * (d + e) + slots * (n * (2 * d + e) + layout.count * (2 * d + e))),
        bytes_moved=size * h * (3 * n * (d + e) + 2 * pairs + 2 * slots * (n + layout.count * (d + e))),
        bytes_peak=size * (peak_cells(sequence, layout, slots) + h * n * (sequence.e + 2 * slots)),
    )
