"""FAVOR+ with positive features in single precision, at the speed of the machine's matrix products.

Source: Choromanski et al. 2020, arXiv:2009.14794, algorithm 1. Ours: features are written into buffers that stay in the
processor's cache, and no ε is added. The plain way beside it is `linear`, which keeps a maximum for every feature. Here
keys have one reference for all features:

- without a mask it follows the largest exponent so far: when one rises `SLACK` above it, the sums are rescaled;
- under a causal mask it depends on the draw alone: ω·x − ‖x‖²/2 is never above ‖ω‖²/2, so nothing can overflow, and no
  later key can move what an earlier query gets, not even in its last bit.

Exponents are held in powers of two, log₂e being part of the directions: torch's `exp2` takes a third of the time of its `exp`.

The sums of weights are a product with a vector of their own: a column more would cost a matrix product a fifth.

A query whose sum of weights has sunk towards the smallest float is named in `underflowed`, and is left to the plain way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.mechanisms.favor.linear import Gathered
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
CALM = 70.0
"""Exponents of queries within this distance of 0 are taken as they are: neither they nor their sums can overflow or vanish."""
LOWEST = 1e-30
"""A sum of weights below this may have lost terms that are as large as itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Directions:
    """What a token's exponents are made of: log₂e times (x/d^¼)·ω − `squares`·‖x/d^¼‖² − ½·ln c, for `c` columns ω.

    `highest` is a bound of all of them; `longest` times ‖x‖ is one of the size of their first term.
    """

    across: Float[Tensor, "d c"]
    squares: float
    highest: float
    longest: float

    @classmethod
    def of(cls, projection: Float[Tensor, "m d"], *, both_ways: bool, gaussian: bool) -> Directions:
        """Of drawn directions; `both_ways` adds −ω for every ω (hyperbolic features)."""
        d = projection.shape[-1]
        turned = torch.cat((projection, -projection)) if both_ways else projection
        return cls(
            across=(turned * (LOG2_E * d**-0.25)).mT.contiguous(),
            squares=LOG2_E * (1.0 if gaussian else 0.5) / math.sqrt(d),
            highest=LOG2_E * float(projection.square().sum(-1).max()) / 2,
            longest=LOG2_E * d**-0.25 * float(projection.norm(dim=-1).max()),
        )

    def offsets(self, norms: Float[Tensor, "*b n 1"], less: float) -> Float[Tensor, "*b n 1"]:
        """What is added to every exponent of a token of that norm, less a reference."""
        return norms.square().mul_(-self.squares).sub_(math.log2(self.across.shape[-1]) / 2 + less)


def gather_all(
    directions: Directions, q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"]
) -> Gathered:
    """Every query gathers every key. Cost n·c·(2·d + 2·(e + 1)) multiply-adds a head; memory 1,024·c."""
    h, n, _d = q.shape
    across, e = directions.across, v.shape[-1]
    output, weights, factors = empty_like(v), v.new_empty(h, n), v.new_empty(h, n)
    reference = v.new_full((h, across.shape[-1]), -math.inf)
    features, values = v.new_empty(min(ROWS, n), across.shape[-1]), v.new_zeros(e, across.shape[-1])
    for head in range(h):
        count, highest = v.new_zeros(across.shape[-1]), 0.0
        values.zero_()
        # Of all tokens at once: a call for each tile would take longer than its numbers.
        offsets = directions.offsets(_norms(k[head]), 0.0)
        for place, (keys, held, offset) in enumerate(_tiles(k[head], v[head], offsets)):
            here = features[: len(keys)]
            torch.addmm(offset.sub_(highest), keys, across, out=here)
            tops = here.amax(0)
            rise = float(tops.max())
            torch.maximum(reference[head], tops.add_(highest), out=reference[head])
            if rise > SLACK or not place:
                # The sums so far have the factor of a lower reference.
                if place:
                    values.mul_(2**-rise)
                    count.mul_(2**-rise)
                here.sub_(rise)
                highest += rise
            # Turned: with the features as the second factor the product takes a twentieth less.
            values.addmm_(held.mT, here.exp2_())
            count.add_(here.sum(0))
        norms = _norms(q[head])
        factors[head] = directions.offsets(norms, -highest).squeeze(-1)
        bounded = float(norms.max()) * directions.longest < CALM
        for queries, norm, factor, weight, out in _tiles(q[head], norms, factors[head], weights[head], output[head]):
            here = features[: len(queries)]
            torch.mm(queries, across, out=here)
            if not (bounded or float(norm.max()) * directions.longest < CALM):
                tops = here.amax(-1, keepdim=True)
                factor.add_(tops.squeeze(-1))
                here.sub_(tops)
            torch.mv(here.exp2_(), count, out=weight)
            torch.mm(here, values.mT, out=out).div_(weight[:, None])
    return _gathered(output, weights, factors, reference)


def gather_past(
    directions: Directions, q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], v: Float[Tensor, "h n e"]
) -> Gathered:
    """Every query gathers the keys up to its own place. Cost as without a mask, and n·64·(c + e) within chunks."""
    h, n, _d = q.shape
    across, e = directions.across.expand(h, -1, -1), v.shape[-1]
    output, weights, factors = empty_like(v), v.new_empty(h, n), v.new_empty(h, n)
    reference = v.new_full((h, across.shape[-1]), -math.inf)
    lowered = max(0.0, directions.highest - HIGHEST)
    values, count = v.new_zeros(h, across.shape[-1], e), v.new_zeros(h, across.shape[-1], 1)
    earlier = v.new_ones(CHUNK, CHUNK).tril_()
    for start in range(0, n, CHUNK):
        rows, there = slice(start, start + CHUNK), min(CHUNK, n - start)
        keys = torch.baddbmm(directions.offsets(_norms(k[:, rows]), lowered), k[:, rows], across)
        torch.maximum(reference, keys.amax(1), out=reference)
        keys.exp2_()
        queries = torch.bmm(q[:, rows], across)
        tops = queries.amax(-1, keepdim=True)
        queries.sub_(tops).exp2_()
        here = torch.bmm(queries, keys.mT).mul_(earlier[:there, :there])
        weight = torch.bmm(queries, count).add_(here.sum(-1, keepdim=True))
        weights[:, rows] = weight.squeeze(-1)
        factors[:, rows] = directions.offsets(_norms(q[:, rows]), -lowered).add_(tops).squeeze(-1)
        torch.div(torch.bmm(queries, values).baddbmm_(here, v[:, rows]), weight, out=output[:, rows])
        values.baddbmm_(keys.mT, v[:, rows])
        count.add_(keys.sum(1).unsqueeze(-1))
    return _gathered(output, weights, factors, reference.add_(lowered))


def _tiles(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tokens of one head, as many at once as features are held for."""
    return zip(*(torch.split(tensor, ROWS) for tensor in tensors), strict=True)


def _norms(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n 1"]:
    norms: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norms


def _gathered(
    output: Float[Tensor, "h n e"], weights: Float[Tensor, "h n"], factors: Float[Tensor, "h n"], reference: Float[Tensor, "h c"]
) -> Gathered:
    underflowed = ~((weights > LOWEST) & (weights < math.inf))
    return Gathered(
        output=output,
        log_sum=weights.log().add_(factors, alpha=1 / LOG2_E),
        negative=torch.zeros_like(underflowed),
        reference=reference / LOG2_E,
        underflowed=underflowed,
    )
