"""Memory slots: a few places that are rewritten after each segment and read by every token of the next.

Source: Bulatov et al. 2022, arXiv:2207.06881, section 3. The paper's slots are tokens that a trained Transformer
reads and writes. Our deviations: each slot has a drawn, untrained query; when a segment has been
read, the query weighs the slot's own old content and the segment's keys by one softmax, and the slot's key and value
become that mix of keys and of values. So every slot is a convex mix of past tokens, and what a token reads from it can
be traced back to them. A slot is masked until a segment with a real token has been written to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Mechanism, ReadCount, Reduce
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory.reasons import MemoryReason
from longattn_core.mechanisms.memory.segments import Far, Layout, attend_run, by_segment, peak_cells, runs, visible_pairs
from longattn_core.numerics.draws import normal
from longattn_core.numerics.softmax import masked_softmax


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotTrace:
    """The draw, and how each write mixed old and new.

    `segments [t 2]` spans of tokens; `queries [s d]` the drawn slot queries; `write [h s n]` the share of each token in
    the slots at the moment its own segment is written; `log_keep [h t s]` the logarithm of the share that a slot's
    old content keeps in that write (0 where nothing was written); `written [t]` True once a segment finds slots to read.
    """

    segments: Int[Tensor, "t 2"]
    queries: Float[Tensor, "s d"]
    write: Float[Tensor, "h s n"]
    log_keep: Float[Tensor, "h t s"]
    written: Bool[Tensor, "t"]

    def mixing(self, segment: int, heads: Int[Tensor, "g"] | None = None) -> Float[Tensor, "g s m"]:
        """The share of each token before a segment in the slots that the segment reads. Cost: s·n a head."""
        write, keep = (self.write, self.log_keep) if heads is None else (self.write[heads], self.log_keep[heads])
        stop = int(self.segments[segment, 0])
        # Shares fade by products of hundreds of factors: sums of logarithms need the longer numbers.
        total = keep[:, :segment].double().cumsum(1)
        later = (total[:, -1:] - total).exp().to(write.dtype)  # what each write still counts for now
        widths = self.segments[:segment].diff(dim=1)[:, 0].to(write.device)
        return write[..., :stop] * later.mT.repeat_interleave(widths, dim=2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Slots:
    """What the slots hold: `keys [h s d]`, `values [h s e]`; `written` is False while they are empty."""

    keys: Float[Tensor, "h s d"]
    values: Float[Tensor, "h s e"]
    written: bool


def write_segment(
    slots: Slots, queries: Float[Tensor, "s d"], sequence: Sequence, start: int, stop: int
) -> tuple[Slots, Float[Tensor, "h s m"], Float[Tensor, "h s"]]:
    """The slots after a segment, each token's share in the write, and the log of what the old content kept.

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
    lead = (slots.keys * queries).sum(-1) / root - scores.logsumexp(-1)  # of the old content over the segment
    keep = lead.sigmoid()[..., None]
    shares = shares * (-lead).sigmoid()[..., None]
    mixed = Slots(keys=keep * slots.keys + shares @ keys, values=keep * slots.values + shares @ values, written=True)
    return mixed, shares, logsigmoid(lead)


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotMap(Attended):
    """Weights on own tokens as they are, weights on slots spread over the tokens that the slots are mixed of."""

    layout: Layout

    def _read(
        self, queries: Int[Tensor, "s"], heads: Int[Tensor, "g"], slot_keys: Float[Tensor, "g x d"], segment: int
    ) -> tuple[Float[Tensor, "g s x"], Float[Tensor, "g s m"]]:
        """The softmax of queries of one segment over the slots (none yet: x = 0) and the segment's own tokens."""
        sequence = self.sequence
        start, stop = self.layout.span(segment)
        mask = (sequence.real[start:stop] & sequence.real[queries, None]).expand(len(queries), -1)
        if sequence.causal:
            mask = mask & (torch.arange(start, stop, device=queries.device) <= queries[:, None])
        rows = sequence.q[heads[:, None], queries]
        keys = torch.cat((slot_keys, sequence.k[heads, start:stop]), dim=1)
        here = sequence.real[queries, None].expand(-1, slot_keys.shape[1])
        scores = rows @ keys.mT / math.sqrt(sequence.d)
        weights = masked_softmax(scores, torch.cat((here, mask), dim=1).expand_as(scores))
        return weights[..., : slot_keys.shape[1]], weights[..., slot_keys.shape[1] :]

    def _mixing(self, segment: int, heads: Int[Tensor, "g"]) -> Float[Tensor, "g x m"]:
        mixing: Tensor = self.trace.mixing(segment, heads)
        return mixing if bool(self.trace.written[segment]) else mixing[:, :0]

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        out = self.output.new_zeros(len(heads), len(queries), self.sequence.n)
        for segment, places in by_segment(queries, self.layout.segment):
            start, stop = self.layout.span(segment)
            mixing = self._mixing(segment, heads)
            far, near = self._read(queries[places], heads, mixing @ self.sequence.k[heads, :start], segment)
            out[:, places, :start] = far @ mixing
            out[:, places, start:stop] = near
        return out

    def _kept(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        ends = (queries // self.layout.segment + 1) * self.layout.segment
        read = torch.arange(self.sequence.n, device=queries.device) < ends[:, None]
        return (self.sequence.allowed(queries) & read).expand(len(heads), -1, -1)

    def _read_count(self, head: int, query: int) -> ReadCount:
        if not bool(self.sequence.real[query]):
            return ReadCount(count=0, unit="keys and slots")
        segment = query // self.layout.segment
        start, stop = self.layout.span(segment)
        own = int(self.sequence.real[start : query + 1 if self.sequence.causal else stop].sum())
        slots = len(self.trace.queries) if bool(self.trace.written[segment]) else 0
        return ReadCount(count=own + slots, unit="keys and slots")

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """The mean needs the slots' shares per cell only, and those follow the recurrence: cost n·(segment + s·cells)."""
        if reduce == "max":
            return super()._pooled(rows, columns, reduce, heads)
        sequence, layout, trace = self.sequence, self.layout, self.trace
        device = self.output.device
        tops, sides = torch.tensor(rows, device=device), torch.tensor(columns, device=device)
        tokens = torch.arange(sequence.n, device=device)
        row_cell = torch.bucketize(tokens, tops[1:-1], right=True)
        column_cell = torch.bucketize(tokens, sides[1:-1], right=True)
        inside = (tokens >= columns[0]) & (tokens < columns[-1])
        out = self.output.new_zeros(len(heads), len(rows) - 1, len(columns) - 1)
        shares = out.new_zeros(len(heads), len(trace.queries), out.shape[2])
        keys = out.new_zeros(len(heads), len(trace.queries), sequence.d)
        for segment in range(math.ceil(rows[-1] / layout.segment)):
            start, stop = layout.span(segment)
            asked = tokens[max(start, rows[0]) : min(stop, rows[-1])]
            if len(asked):
                empty = 0 if not bool(trace.written[segment]) else len(trace.queries)
                far, near = self._read(asked, heads, keys[:, :empty], segment)
                cells = (far @ shares[:, :empty]).index_add(2, column_cell[start:stop], near * inside[start:stop].to(near.dtype))
                out.index_add_(1, row_cell[asked], cells)
            keep = trace.log_keep[heads, segment, :, None].exp()
            write = trace.write[heads, :, start:stop]
            keys = keep * keys + write @ sequence.k[heads, start:stop]
            shares = (keep * shares).index_add(2, column_cell[start:stop], write * inside[start:stop].to(write.dtype))
        return out / (tops.diff()[:, None] * sides.diff()[None, :]).to(out.dtype)

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
        else:
            device = self.output.device
            heads, queries = torch.tensor([head], device=device), torch.tensor([query], device=device)
            mixing = self._mixing(own, heads)
            far, _ = self._read(queries, heads, mixing @ self.sequence.k[heads, :start], own)
            read, mix = far[0, 0], mixing[0, :, key]
            slot = int((read * mix).argmax())
            facts |= {
                "slot": slot,
                "read": float(read[slot]),
                "mix": float(mix[slot]),
                "through_slot": float(read[slot] * mix[slot]),
                "slots": len(read),
                "on_slots": float(read.sum()),
                "rewrites": own - other - 1,
            }
            reason = MemoryReason.SLOT
            text = (
                f"The key is out of sight and reaches the query only through {len(read)} slots: most of it through "
                f"slot {slot}, which gets {facts['read']:.3g} of the query's weight and is made of this key "
                f"to {facts['mix']:.3g}."
            )
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


def attend_slots(mechanism: Mechanism, sequence: Sequence, *, segment: int, slots: int) -> SlotMap:
    """Cost: (segment + slots)·(d + e) a token and head to read, slots·(2d + e) to write; slots·n numbers of trace."""
    layout = Layout.of(sequence.n, segment)
    queries = normal(mechanism.seed, "slot queries", slots, sequence.d, like=sequence.q)
    now = Slots(
        keys=sequence.k.new_zeros(sequence.h, slots, sequence.d),
        values=sequence.v.new_zeros(sequence.h, slots, sequence.e),
        written=False,
    )
    parts, writes, keeps, written = [], [], [], []
    for run in runs(layout, heads=sequence.h, width=sequence.d + sequence.e, far=slots):
        found = []
        for number in run:
            found.append(now)
            now, write, log_keep = write_segment(now, queries, sequence, *layout.span(number))
            writes.append(write.detach())
            keeps.append(log_keep.detach())
        there = torch.tensor([state.written for state in found], device=sequence.q.device)
        written.append(there)
        far = Far(
            keys=torch.stack([state.keys for state in found], dim=1),
            values=torch.stack([state.values for state in found], dim=1),
            there=there[:, None].expand(-1, slots),
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
