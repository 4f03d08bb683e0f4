"""Which queries a measure reads, and their rows: block by block, so that n × n weights are never held.

Source: ours. Beyond a few thousand tokens a measure of n² pairs is taken on a sample of the queries, and its text says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import edges, row_chunks
from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.numerics.draws import generator

__all__ = ["QuerySample", "Unavailable", "blocks", "map_rows", "sample_queries", "spread_draw"]

CELLS = 1 << 20
"""Weights of one map that are held at once: 8 MB in float64; a measure holds about ten such blocks."""


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """Takes the place of a number that would have no meaning; `reason` says why, in one sentence."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class QuerySample:
    """The queries that a measure reads, chosen with `seed` from the `real` queries of the sequence."""

    queries: tuple[int, ...]
    real: int
    seed: int

    @property
    def whole(self) -> bool:
        """Whether every query is read."""
        return len(self.queries) == self.real

    @property
    def text(self) -> str:
        """How the queries were chosen, in words."""
        if self.whole:
            return f"measured on all {self.real:,} queries"
        return (
            f"measured on {len(self.queries):,} of {self.real:,} queries: the last, and one drawn from each of as many "
            f"equal spans before it (seed {self.seed})"
        )


def sample_queries(sequence: Sequence, count: int | None = None, seed: int = 0) -> QuerySample:
    """All real queries, or `count` of them: one drawn from each of `count` equal spans, always with the last query.

    Drawn and not evenly spaced, because evenly spaced queries could all have the same place in a mechanism's blocks.
    Raises: ValueError for a count below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"a sample needs at least one query, found {count}")
    real = sequence.real.nonzero().squeeze(-1).tolist()
    if count is None or count >= len(real):
        return QuerySample(queries=tuple(real), real=len(real), seed=seed)
    chosen = spread_draw(len(real), count, generator(seed, "queries"))
    return QuerySample(queries=tuple(real[i] for i in chosen), real=len(real), seed=seed)


def spread_draw(total: int, count: int, draws: torch.Generator) -> list[int]:
    """`count` of the numbers 0 … total − 1 in order: one drawn from each of `count` equal spans, always with the last number."""
    spans = edges(0, total, count)
    places = torch.rand(count, generator=draws, dtype=torch.float64).tolist()
    chosen = [start + int(u * (stop - start)) for start, stop, u in zip(spans[:-1], spans[1:], places, strict=True)]
    chosen[-1] = total - 1
    return chosen


def blocks(sequence: Sequence, sample: QuerySample) -> Iterator[Int[Tensor, "r"]]:
    """The sampled queries in blocks, whose rows over all keys and heads have at most `CELLS` weights."""
    queries = torch.tensor(sample.queries, device=sequence.q.device)
    for rows in row_chunks(len(queries), sequence.h * sequence.n, CELLS):
        yield queries[rows]


def map_rows(of: Sequence | Attended, queries: Int[Tensor, "r"]) -> Float[Tensor, "h r n"]:
    """Rows in float64: those of exact attention for a sequence, those of the mechanism for what it gave back."""
    rows = exact_rows(of, queries) if isinstance(of, Sequence) else of.rows(queries)
    return rows.double()
