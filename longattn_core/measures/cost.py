"""What a mechanism costs as the sequence grows: counted on prefixes of a sequence, or by formula at any length.

Source: ours. A mechanism counts its cost for the sequence that it reads (`Attended.cost`), and has a formula for any shape
(`Mechanism.estimated_cost`); nothing is extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Collection
from dataclasses import dataclass

import torch

from longattn_core.contracts.mechanism import Cost, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.sampling import Unavailable
from longattn_core.numerics.softmax import exact_cost

__all__ = [
    "CostPoint",
    "break_even",
    "cost_curve",
    "counted_at",
    "doublings",
    "exact_cost",
    "growth",
    "hollow",
    "key_value_bytes",
]


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """What a mechanism costs on the first n tokens, or the sentence why it cannot read them."""

    n: int
    cost: Cost | Unavailable


def cost_curve(mechanism: Mechanism, sequence: Sequence, lengths: Collection[int]) -> tuple[CostPoint, ...]:
    """The counted cost of attending to the first n tokens, for each n. Cost: that of attending at each length.

    Raises: ValueError when a length lies outside the sequence.
    """
    points = []
    for n in lengths:
        prefix = sequence.prefix(n)
        refusal = mechanism.refuses(prefix)
        cost = mechanism.attend(prefix).cost if refusal is None else Unavailable(reason=refusal)
        points.append(CostPoint(n=n, cost=cost))
    return tuple(points)


def hollow(n: int, *, d: int, e: int, causal: bool) -> Sequence:
    """A sequence of one head with a shape but no content, for `Mechanism.estimated_cost`. Memory: n positions."""
    zero = torch.zeros(1, 1, 1)
    q, v = (zero.expand(1, n, width) for width in (d, e))
    return Sequence(q=q, k=q, v=v, causal=causal, origin="a shape without content")


def counted_at(mechanism: Mechanism, shape: Sequence) -> CostPoint:
    """The cost of a sequence of this shape by the mechanism's formula, or the sentence why it cannot read one."""
    refusal = mechanism.refuses(shape)
    return CostPoint(n=shape.n, cost=mechanism.estimated_cost(shape) if refusal is None else Unavailable(reason=refusal))


def doublings(longest: int, *, start: int = 64) -> tuple[int, ...]:
    """Lengths that double from `start`, and `longest` itself."""
    if longest < 1 or start < 1:
        raise ValueError(f"lengths must be at least 1, found {longest} and {start}")
    steps = range(max(0, math.ceil(math.log2(longest / start))))
    return (*(start << step for step in steps if start << step < longest), longest)


def growth(points: Collection[CostPoint]) -> float | Unavailable:
    """The power of n with which the multiply-adds grow between the two longest lengths: 2 for n², 1 for n·w."""
    counted = [(point.n, point.cost.multiply_adds) for point in points if isinstance(point.cost, Cost)]
    if len(counted) < 2:
        return Unavailable(reason="A rate of growth needs two lengths that the mechanism can read.")
    (short, few), (long, many) = sorted(counted)[-2:]
    return math.log(many / few) / math.log(long / short)


def break_even(points: Collection[CostPoint], *, heads: int, d: int, e: int, causal: bool) -> int | None:
    """The shortest of the lengths from which on the mechanism needs fewer multiply-adds than exact attention, or None."""
    least = None
    for point in sorted(points, key=lambda point: -point.n):
        exact = exact_cost(heads=heads, n=point.n, d=d, e=e, causal=causal)
        if isinstance(point.cost, Unavailable) or point.cost.multiply_adds >= exact.multiply_adds:
            return least
        least = point.n
    return least


def key_value_bytes(*, layers: int, key_value_heads: int, d: int, e: int, number_bytes: int = 2) -> int:
    """The size of one token in a model's KV cache: a key and a value in each layer and key/value head."""
    return layers * key_value_heads * (d + e) * number_bytes
