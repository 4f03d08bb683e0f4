"""FAVOR+ with positive features in single precision, at the speed of the machine's matrix products.

Source: Choromanski et al. 2020, arXiv:2009.14794, algorithm 1. Ours: features are written into buffers that stay in the
processor's cache, and no ε is added. `plain` computes the same for every dtype and feature and keeps a maximum for each
feature; here all features of the keys share one reference exponent:

- Without a mask, the reference is the largest exponent so far; when a tile exceeds it by more than `SLACK`, the sums are
  rescaled.
- Under a causal mask, the reference depends on the draw alone: ω·x − ‖x‖²/2 is never above ‖ω‖²/2, so nothing overflows, and no
  later key changes the output of an earlier query, not even in its last bit.

Exponents are powers of two, with log₂e as a factor of the directions: torch's `exp2` takes a third of the time of its `exp`.
The sums of weights are a separate product with a vector: one more column would make the matrix product a fifth slower.
A query whose sum of weights is close to the smallest float is marked in `underflowed` and left to the plain path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.mechanisms.favor.plain import Gathered
from longattn_core.numerics.huge_pages import empty_like

ROWS = 1024
"""Tokens of one head whose features are held at once, without a mask: with 256 features a megabyte, which stays in cache."""
CHUNK = 64
"""Tokens of all heads that are compared pair by pair before their features join the state, under a causal mask."""
LOG2_E = 1 / math.log(2)
HIGHEST = 40.0 * LOG2_E
"""The largest exponent that a key's feature can have under a causal mask: sums of 65,536 of them stay far below overflow."""
SLACK = 20.0
"""How far a key's exponent may lie above the reference without a mask: 2²⁰ of them are still far from overflow."""
BOUNDED = 70.0
"""Exponents of queries within this distance of 0 need no reference: neither they nor their sums can overflow or vanish."""
LOWEST = 1e-30
"""A sum of weights below this may have lost terms that are as large as itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Directions:
    """What a token's exponents are made of: log₂e times (x/d^¼)·ω − `square_factor`·‖x‖² − ½·log₂ c, for c columns ω.

    `columns [d c]` are the directions with all their factors. `highest` bounds every exponent; `longest` times ‖x‖ bounds the
    size of its first term.
    """

    columns: Float[Tensor, "d c"]
    square_factor: float
    highest: float
    longest: float

    @classmethod
    def of(cls, projection: Float[Tensor, "m d"], *, both_signs: bool, gaussian: bool) -> Directions:
        """The columns of drawn directions; `both_signs` adds −ω for every ω (hyperbolic features)."""
        d = projection.shape[-1]
        signed = torch.cat((projection, -projection)) if both_signs else projection
        return cls(
            columns=(signed * (LOG2_E * d**-0.25)).mT.contiguous(),
            square_factor=LOG2_E * (1.0 if gaussian else 0.5) / math.sqrt(d),
            highest=LOG2_E * float(projection.square().sum(-1).max()) / 2,
            longest=LOG2_E * d**-0.25 * float(projection.norm(dim=-1).max()),
        )

    def offsets(self, norms: Float[Tensor, "*b n 1"], reference: float) -> Float[Tensor, "*b n 1"]:
        """What is added to all exponents of a token of that norm, minus a reference."""
        return norms.square().mul_(-self.square_factor).sub_(math.log2(self.columns.shape[-1]) / 2 + reference)


def gather_all(
    directions: Directions, q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"]
) -> Gathered:
    """Every query gathers every key. Cost n·c·(2·d + 2·(e + 1)) multiply-adds a head; memory 1,024·c."""
    h, n, _d = q.shape
    columns, e = directions.columns, v.shape[-1]
    output, weights, factors = empty_like(v), v.new_empty(h, n), v.new_empty(h, n)
    references = v.new_full((h, columns.shape[-1]), -math.inf)
    buffer, value_sums = v.new_empty(min(ROWS, n), columns.shape[-1]), v.new_zeros(e, columns.shape[-1])
    for head in range(h):
        feature_sums, reference = v.new_zeros(columns.shape[-1]), 0.0
        value_sums.zero_()
        # Offsets of all tokens at once: on a single tile the call would take longer than the arithmetic.
        offsets = directions.offsets(_norms(k[head]), 0.0)
        for tile, (keys, values, offset) in enumerate(_tiles(k[head], v[head], offsets)):
            features = buffer[: len(keys)]
            torch.addmm(offset.sub_(reference), keys, columns, out=features)
            largest = features.amax(0)
            rise = float(largest.max())
            torch.maximum(references[head], largest.add_(reference), out=references[head])
            if rise > SLACK or tile == 0:
                # The sums so far were taken with the lower reference.
                if tile > 0:
                    value_sums.mul_(2**-rise)
                    feature_sums.mul_(2**-rise)
                features.sub_(rise)
                reference += rise
            # Transposed: the product takes a twentieth less time with the features as its second factor.
            value_sums.addmm_(values.mT, features.exp2_())
            feature_sums.add_(features.sum(0))
        norms = _norms(q[head])
        factors[head] = directions.offsets(norms, -reference).squeeze(-1)
        bounded = float(norms.max()) * directions.longest < BOUNDED
        for queries, norm, factor, weight, out in _tiles(q[head], norms, factors[head], weights[head], output[head]):
            features = buffer[: len(queries)]
            torch.mm(queries, columns, out=features)
            if not (bounded or float(norm.max()) * directions.longest < BOUNDED):
                largest = features.amax(-1, keepdim=True)
                factor.add_(largest.squeeze(-1))
                features.sub_(largest)
            torch.mv(features.exp2_(), feature_sums, out=weight)
            torch.mm(features, value_sums.mT, out=out).div_(weight[:, None])
    return _gathered(output, weights, factors, references)


def gather_past(
    directions: Directions, q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"]
) -> Gathered:
    """Every query gathers the keys up to its own position. Cost as without a mask, and n·64·(c + e) within chunks."""
    h, n, _d = q.shape
    columns, e = directions.columns.expand(h, -1, -1), v.shape[-1]
    output, weights, factors = empty_like(v), v.new_empty(h, n), v.new_empty(h, n)
    references = v.new_full((h, columns.shape[-1]), -math.inf)
    reference = max(0.0, directions.highest - HIGHEST)
    value_sums, feature_sums = v.new_zeros(h, columns.shape[-1], e), v.new_zeros(h, columns.shape[-1], 1)
    past = v.new_ones(CHUNK, CHUNK).tril_()
    for start in range(0, n, CHUNK):
        rows, count = slice(start, start + CHUNK), min(CHUNK, n - start)
        keys = torch.baddbmm(directions.offsets(_norms(k[:, rows]), reference), k[:, rows], columns)
        torch.maximum(references, keys.amax(1), out=references)
        keys.exp2_()
        queries = torch.bmm(q[:, rows], columns)
        largest = queries.amax(-1, keepdim=True)
        queries.sub_(largest).exp2_()
        pairs = torch.bmm(queries, keys.mT).mul_(past[:count, :count])
        weight = torch.bmm(queries, feature_sums).add_(pairs.sum(-1, keepdim=True))
        weights[:, rows] = weight.squeeze(-1)
        factors[:, rows] = directions.offsets(_norms(q[:, rows]), -reference).add_(largest).squeeze(-1)
        torch.div(torch.bmm(queries, value_sums).baddbmm_(pairs, v[:, rows]), weight, out=output[:, rows])
        value_sums.baddbmm_(keys.mT, v[:, rows])
        feature_sums.add_(keys.sum(1).unsqueeze(-1))
    return _gathered(output, weights, factors, references.add_(reference))


def _tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors of one head in tiles of `ROWS` tokens."""
    return zip(*(torch.split(tensor, ROWS) for tensor in tensors), strict=True)


def _norms(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n 1"]:
    norms: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norms


def _gathered(
    output: Float[Tensor, "h n e"], weights: Float[Tensor, "h n"], factors: Float[Tensor, "h n"], references: Float[Tensor, "h c"]
) -> Gathered:
    underflowed = ~((weights > LOWEST) & (weights < math.inf))
    return Gathered(
        output=output,
        log_sum=weights.log().add_(factors, alpha=1 / LOG2_E),
        negative=torch.zeros_like(underflowed),
        reference=references / LOG2_E,
        underflowed=underflowed,
    )
