"""Strided attention: a query reads itself and every s-th key before it.

Source: Child et al. 2019, arXiv:1904.10509, section 4.2. Deviation: without the other half of their pattern, the s nearest
keys; and causal only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self

import torch
from jaxtyping import Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Family, Mechanism, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.maps.listed import SparseMap, entries_of_scores, inverse_root

LARGEST_STRIDE = 65536


class StridedReason(StrEnum):
    """Why strided attention keeps a pair, or drops it."""

    ON_STRIDE = "on the stride"
    BETWEEN = "between"


@dataclass(frozen=True, kw_only=True, eq=False)
class StridedMap(SparseMap):
    """A short list of keys for each query; `SparseMap` derives rows, kept pairs and pooled maps from it."""

    stride: int

    def _entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        return strided_entries(self.sequence, self.stride, queries, heads)

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        distance, reason = query - key, StridedReason.ON_STRIDE if kept else StridedReason.BETWEEN
        text = f"The key lies {distance} tokens back, which is {'' if kept else 'not '}a multiple of the stride {self.stride}."
        facts = {"distance": distance, "stride": self.stride}
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


class Strided(Mechanism):
    """Softmax over the query itself and every s-th key before it."""

    key: ClassVar[str] = "strided"
    title: ClassVar[str] = "Strided attention"
    idea: ClassVar[str] = "Look back in equal strides."
    paper: ClassVar[str] = "Child et al. 2019, arXiv:1904.10509"
    complexity: ClassVar[str] = "n²/s·d"
    family: ClassVar[Family] = "by place"
    order: ClassVar[int] = 15

    stride: int = dial(8, title="Stride s", symbol="s", ge=1, le=LARGEST_STRIDE, scale="log2", help="One key in s is read.")

    def refuses(self, sequence: Sequence) -> str | None:
        """Sequences without a causal mask."""
        return None if sequence.causal else "Strided attention reads only what came before; give it a causal mask."

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost: n²/2s·(d + e) a head; memory 4 M numbers."""
        heads = torch.arange(sequence.h, device=sequence.q.device)
        output = torch.empty_like(sequence.v)
        slots = sequence.n // self.stride + 1
        for rows in row_chunks(sequence.n, sequence.h * slots * max(sequence.d, sequence.e)):
            queries = torch.arange(rows.start, rows.stop, device=sequence.q.device)
            entries = strided_entries(sequence, self.stride, queries, heads)
            values = sequence.v[heads[:, None, None], entries.keys.clamp_min(0)]
            output[:, rows] = torch.einsum("hrc,hrce->hre", entries.weights, values)
        cost = self.estimated_cost(sequence)
        return StridedMap(mechanism=self, sequence=sequence, output=output, trace=None, cost=cost, stride=self.stride)

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """Every pair on the stride, padding included; keys and values are read once for each of them."""
        pairs = sequence.h * sum(query // self.stride + 1 for query in range(sequence.n))
        numbers = pairs * (sequence.d + sequence.e)
        return Cost(multiply_adds=numbers, bytes_moved=sequence.q.element_size() * numbers, bytes_peak=1 << 25)

    def exact_setting(self, n: int) -> Self:
        """A stride of 1 reads every key."""
        return self.with_dials(stride=1)

    def ladder(self, n: int) -> tuple[Self, ...]:
        """Strides that shrink to 1."""
        return tuple(self.with_dials(stride=stride) for stride in (16, 4, 1))

    def with_budget(self, keys: int, n: int) -> Self:
        """The stride at which the last query reads about `keys` keys."""
        return self.with_dials(stride=min(max(1, n // keys), LARGEST_STRIDE))


def strided_entries(sequence: Sequence, stride: int, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
    """The keys on the stride of each query and their weights. Cost g·r·n/s·d."""
    back = stride * torch.arange(sequence.n // stride + 1, device=queries.device)
    keys = queries[:, None] - back
    there = (keys >= 0) & sequence.real[keys.clamp_min(0)] & sequence.real[queries, None]
    keys = torch.where(there, keys, -1).expand(len(heads), -1, -1)
    return entries_of_scores(sequence.q[heads][:, queries], sequence.k[heads], keys, inverse_root(sequence.d))
