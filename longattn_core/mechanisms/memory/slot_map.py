"""The map of memory slots: weights on slots spread over the tokens that the slots are mixed of.

Source: Bulatov et al. 2022, arXiv:2207.06881, section 3; the mixing is ours, see `slots`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Explanation, ReadCount, Reduce
from longattn_core.contracts.pooling import areas, cell_of
from longattn_core.mechanisms.memory.reasons import Facts, MemoryReason, reason_by_segment, segment_facts
from longattn_core.mechanisms.memory.segments import Layout, by_segment
from longattn_core.numerics.softmax import masked_softmax


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotTrace:
    """The draw, and the shares of old and new content in each write.

    `segments [t 2]`: spans of tokens; `queries [s d]`: the drawn slot queries; `write [h s n]`: the share of each token in
    the slots when its own segment is written; `log_keep [h t s]`: the logarithm of the share that a slot's old content keeps
    in that write (0 where nothing is written); `written [t]`: True for a segment that finds written slots.
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
        # Shares are products of hundreds of factors, so the sums of their logarithms are taken in double precision.
        total = keep[:, :segment].double().cumsum(1)
        remaining = (total[:, -1:] - total).exp().to(write.dtype)
        widths = self.segments[:segment].diff(dim=1)[:, 0].to(write.device)
        return write[..., :stop] * remaining.mT.repeat_interleave(widths, dim=2)


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotMap(Attended):
    """The weights on the own segment's tokens, and those on slots, spread over the tokens that the slots are mixed of."""

    layout: Layout

    def _read(
        self, queries: Int[Tensor, "s"], heads: Int[Tensor, "g"], slot_keys: Float[Tensor, "g x d"], segment: int
    ) -> tuple[Float[Tensor, "g s x"], Float[Tensor, "g s m"]]:
        """The softmax of queries of one segment over the slots (x = 0 while there are none) and the segment's own tokens."""
        sequence = self.sequence
        start, stop = self.layout.span(segment)
        mask = (sequence.real[start:stop] & sequence.real[queries, None]).expand(len(queries), -1)
        if sequence.causal:
            mask = mask & (torch.arange(start, stop, device=queries.device) <= queries[:, None])
        rows = sequence.q[heads[:, None], queries]
        keys = torch.cat((slot_keys, sequence.k[heads, start:stop]), dim=1)
        slots = sequence.real[queries, None].expand(-1, slot_keys.shape[1])
        scores = rows @ keys.mT / math.sqrt(sequence.d)
        weights = masked_softmax(scores, torch.cat((slots, mask), dim=1).expand_as(scores))
        return weights[..., : slot_keys.shape[1]], weights[..., slot_keys.shape[1] :]

    def _mixing(self, segment: int, heads: Int[Tensor, "g"]) -> Float[Tensor, "g x m"]:
        """The share of each earlier token in the slots that the segment reads; no slot while none is written."""
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
        """The mean needs only the slots' shares per cell, which follow the same recurrence. Cost n·(segment + s·cells)."""
        if reduce == "max":
            return super()._pooled(rows, columns, reduce, heads)
        sequence, layout, trace = self.sequence, self.layout, self.trace
        device = self.output.device
        tokens = torch.arange(sequence.n, device=device)
        row_cell, column_cell = (cell_of(edges, sequence.n, device) for edges in (rows, columns))
        inside = column_cell >= 0
        column_cell = column_cell.clamp_min(0)
        out = self.output.new_zeros(len(heads), len(rows) - 1, len(columns) - 1)
        shares = out.new_zeros(len(heads), len(trace.queries), out.shape[2])
        keys = out.new_zeros(len(heads), len(trace.queries), sequence.d)
        for segment in range(math.ceil(rows[-1] / layout.segment)):
            start, stop = layout.span(segment)
            queries = tokens[max(start, rows[0]) : min(stop, rows[-1])]
            if len(queries):
                count = len(trace.queries) if bool(trace.written[segment]) else 0
                far, near = self._read(queries, heads, keys[:, :count], segment)
                cells = (far @ shares[:, :count]).index_add(2, column_cell[start:stop], near * inside[start:stop].to(near.dtype))
                out.index_add_(1, row_cell[queries], cells)
            keep = trace.log_keep[heads, segment, :, None].exp()
            write = trace.write[heads, :, start:stop]
            keys = keep * keys + write @ sequence.k[heads, start:stop]
            shares = (keep * shares).index_add(2, column_cell[start:stop], write * inside[start:stop].to(write.dtype))
        return out / areas(rows, columns, out)

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        facts = segment_facts(self.layout, query, key)
        found = reason_by_segment(self.layout, query, key)
        reason, text = self._through_slots(facts, head, query, key) if found is None else found
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)

    def _through_slots(self, facts: Facts, head: int, query: int, key: int) -> tuple[MemoryReason, str]:
        """Reason and text for a key of an earlier segment; adds to the facts."""
        device = self.output.device
        own, other = query // self.layout.segment, key // self.layout.segment
        heads, queries = torch.tensor([head], device=device), torch.tensor([query], device=device)
        mixing = self._mixing(own, heads)
        far, _ = self._read(queries, heads, mixing @ self.sequence.k[heads, : self.layout.span(own)[0]], own)
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
        text = (
            f"The key is out of sight and reaches the query only through {len(read)} slots: most of it through "
            f"slot {slot}, which gets {facts['read']:.3g} of the query's weight and is made of this key "
            f"to {facts['mix']:.3g}."
        )
        return MemoryReason.SLOT, text
