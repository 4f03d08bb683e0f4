"""The map of segmented attention, and why a pair has the weight it has: cut off, read one by one, or read in a summary."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Explanation, ReadCount
from longattn_core.contracts.sequence import exact_rows
from longattn_core.numerics.maps.grouped import Covering, GroupedMap
from longattn_core.wording import noun_for


class SegmentedReason(StrEnum):
    """Why segmented attention gives a pair its weight."""

    SAME_SEGMENT = "same segment"
    SHIFTED = "same segment only because of the shift"
    OVERLAP = "within the overlap"
    SUMMARY = "read in the mean of its segment"
    INTEGRATED = "read in the integrated summary"
    OTHER_SEGMENT = "cut off"


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentedTrace:
    """The segments and their summaries.

    `boundaries [B+1]` are the segments' starts and n; `unshifted` those without the shift, where there is one; `segment [n]`
    each token's segment. The summaries' queries, keys and values `[h B ·]`, and the values of the integrated summaries, are
    None where the variant has none.
    """

    boundaries: Int[Tensor, "B1"]
    unshifted: Int[Tensor, "B2"] | None
    segment: Int[Tensor, "n"]
    summary_queries: Float[Tensor, "h B d"] | None
    summary_keys: Float[Tensor, "h B d"] | None
    summary_values: Float[Tensor, "h B e"] | None
    integrated_values: Float[Tensor, "h B e"] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentedMap(GroupedMap):
    """Blocks on the diagonal, and the summaries' weights beside them. `integrated`: the summaries are read as one."""

    trace: SegmentedTrace
    integrated: bool

    def _read_count(self, head: int, query: int) -> ReadCount:
        unit = "keys and summaries" if self.reading.groups else "keys"
        return ReadCount(count=self.reading.read_count(query), unit=unit)

    def bounds(self, segment: int) -> tuple[int, int]:
        """The first and last token of a segment."""
        return int(self.trace.boundaries[segment]), int(self.trace.boundaries[segment + 1]) - 1

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        own, other = int(self.trace.segment[query]), int(self.trace.segment[key])
        if own == other:
            reason, facts, text = self._same(query, key, own, weight)
        elif self.reading.groups:
            reason, facts, text = self._summed(head, query, other, self.coverings(head, query, key)[0])
        elif kept:
            reason, facts, text = self._overlapped(query, key, own, weight)
        else:
            reason, facts, text = self._cut(head, query, own, other, exact)
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)

    def _same(self, query: int, key: int, own: int, weight: float) -> _Sentence:
        start, end = self.bounds(own)
        facts: dict[str, float | int | str | bool] = {
            "segment": own,
            "start": start,
            "end": end,
            "items": self.reading.read_count(query),
        }
        among = f"the {facts['items']} {self._read_count(0, query).unit} that the query reads"
        if self.trace.unshifted is not None:
            low, high = sorted((query, key))
            cuts = self.trace.unshifted[(self.trace.unshifted > low) & (self.trace.unshifted <= high)]
            if len(cuts):
                facts["cut"] = int(cuts[0])
                text = (
                    f"Unshifted, a cut before token {facts['cut']} would part them; the shift puts both into "
                    f"{_tokens(start, end)}, and the key gets {weight:.3g} among {among}."
                )
                return SegmentedReason.SHIFTED, facts, text
        text = f"Both stand in one segment, {_tokens(start, end)}; the key gets {weight:.3g} among {among}."
        return SegmentedReason.SAME_SEGMENT, facts, text

    def _summed(self, head: int, query: int, other: int, covering: Covering) -> _Sentence:
        start, end = self.bounds(other)
        size = int(self.reading.groups[0].size[other])
        facts: dict[str, float | int | str | bool] = {
            "segment": other,
            "start": start,
            "end": end,
            "size": size,
            "summary_weight": covering.weight,
        }
        if not self.integrated:
            text = (
                f"The key stands in another segment, {_tokens(start, end)}, which the query sees only as one mean of its "
                f"{size} {noun_for(size, 'token')}: the mean gets {covering.weight:.3g}, and this key 1/{size} of it."
            )
            return SegmentedReason.SUMMARY, facts, text
        queries, heads = (torch.tensor([x], device=self.output.device) for x in (query, head))
        items = self.reading.entries(queries, heads)
        total = float(items.weights[0, 0][items.keys[0, 0] >= self.sequence.n].sum())
        facts |= {"integrated_weight": total, "part": covering.weight / total if total > 0 else 0.0}
        text = (
            f"The query reads the other segments as one integrated summary, which gets {total:.3g}; the mean of "
            f"{_tokens(start, end)} is {facts['part']:.3g} of it, and this key 1/{size} of that mean."
        )
        return SegmentedReason.INTEGRATED, facts, text

    def _overlapped(self, query: int, key: int, own: int, weight: float) -> _Sentence:
        start, end = self.bounds(own)
        beyond = start - key if key < start else key - end
        facts: dict[str, float | int | str | bool] = {
            "segment": own,
            "start": start,
            "end": end,
            "beyond": beyond,
            "items": self.reading.read_count(query),
        }
        text = (
            f"The key stands {beyond} {noun_for(beyond, 'token')} outside the query's segment, {_tokens(start, end)}, but within "
            f"the overlap that it also reads; it gets {weight:.3g} among {facts['items']} keys."
        )
        return SegmentedReason.OVERLAP, facts, text

    def _cut(self, head: int, query: int, own: int, other: int, exact: float) -> _Sentence:
        start, end = self.bounds(own)
        cut = start if other < own else end + 1
        unseen = ~self.kept(query, None, head)[0, 0]
        severed = float(exact_rows(self.sequence, query, head)[0, 0, unseen].sum())
        facts: dict[str, float | int | str | bool] = {
            "cut": cut,
            "cuts": abs(own - other),
            "start": start,
            "end": end,
            "severed": severed,
        }
        text = (
            f"A cut between tokens {cut - 1} and {cut} parts them: the query stands in {_tokens(start, end)} and does not read "
            f"so far, so the {exact:.3g} of exact attention is lost, one part of the {severed:.3g} that this query loses at cuts."
        )
        return SegmentedReason.OTHER_SEGMENT, facts, text


_Sentence = tuple[SegmentedReason, dict[str, float | int | str | bool], str]
"""The parts of an explanation that depend on the case: reason, facts, text."""


def _tokens(start: int, end: int) -> str:
    return f"token {start}" if start == end else f"tokens {start} to {end}"
