"""Truncated SVD: the best map of a given rank, to which the others are compared.

Source: Eckart & Young 1936, Psychometrika 1, 211–218. Ours: the product is set to zero outside the mask and not renormalised.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.mechanisms.low_rank.map import LowRankMap


@dataclass(frozen=True, kw_only=True, eq=False)
class SvdTrace:
    """The factors `u, v [h n k]`, orthonormal columns with zeros at padding, and all singular values `[h real]`."""

    u: Float[Tensor, "h n k"]
    singular_values: Float[Tensor, "h real"]
    v: Float[Tensor, "h n k"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SvdMap(LowRankMap):
    """U_k S_k V_kᵀ, zero above the diagonal under a causal mask."""

    def _left(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r k"]:
        trace: SvdTrace = self.trace
        return trace.u[heads][:, queries] * trace.singular_values[heads][:, None, : self.rank]

    def _right(self, keys: Int[Tensor, "c"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g c k"]:
        trace: SvdTrace = self.trace
        return trace.v[heads][:, keys]

    def _story(self, head: int, query: int, key: int) -> tuple[Mapping[str, float | int | str | bool], str]:
        energy = self.trace.singular_values[head].double().square()
        kept = float(energy[: self.rank].sum() / energy.sum())
        largest = "largest holds" if self.rank == 1 else f"{self.rank} largest hold"
        return (
            {"directions": len(energy), "kept": kept},
            f"Of the map's {len(energy)} singular directions the {largest} {kept:.1%} of the energy",
        )


def truncate(sequence: Sequence, rank: int) -> tuple[Float[Tensor, "h n e"], SvdTrace]:
    """The output through the best map of `rank`, and its factors. Cost n²·d + 10·n³ per head; memory n² and more."""
    tokens = sequence.real.nonzero().squeeze(-1)
    k = min(rank, len(tokens))
    u, v = (sequence.q.new_zeros(sequence.h, sequence.n, k) for _ in "uv")
    values = sequence.q.new_zeros(sequence.h, len(tokens))
    with torch.no_grad():
        for head, (left, singular, right) in enumerate(_decomposed(sequence, tokens)):
            values[head] = singular
            u[head, tokens], v[head, tokens] = left[:, :k], right[:k].mT
        trace = SvdTrace(u=u, singular_values=values, v=v)
        return _output(sequence, trace, k), trace


KEPT = 1024
"""Up to this many tokens, the whole decomposition of the last sequence is kept for the next rank."""

_Factors = tuple[Tensor, Tensor, Tensor]
_last: list[tuple[weakref.ref[Sequence], list[_Factors]]] = []


def _decomposed(sequence: Sequence, tokens: Int[Tensor, "real"]) -> list[_Factors]:
    """Each head's full SVD. It does not depend on the rank, so a new rank of the same sequence uses it again."""
    for reference, factors in tuple(_last):
        if reference() is sequence:
            return factors
    factors = [tuple(torch.linalg.svd(exact_rows(sequence, tokens, head)[0][:, tokens])) for head in range(sequence.h)]
    if sequence.n <= KEPT:
        _last[:] = [(weakref.ref(sequence), factors)]
    return factors


def _output(sequence: Sequence, trace: SvdTrace, k: int) -> Float[Tensor, "h n e"]:
    left = trace.u * trace.singular_values[:, None, :k]
    if not sequence.causal:
        return left @ (trace.v.mT @ sequence.v)
    parts = []
    for rows in row_chunks(sequence.n, sequence.n * sequence.h):
        # The factors are zero at padding, so only the part above the diagonal must be set to zero.
        weights = left[:, rows] @ trace.v[:, : rows.stop].mT
        parts.append(weights.tril(rows.start) @ sequence.v[:, : rows.stop])
    return torch.cat(parts, dim=1)
