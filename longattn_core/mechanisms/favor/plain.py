"""Attention as a ratio of two sums over features, for every kind of feature, dtype and gradient, in time and memory O(n).

Source: Choromanski et al. 2020, arXiv:2009.14794, algorithm 1. `fast` computes the same for positive features in single
precision. Ours: a column of ones beside the values gives the denominator; each feature has a running maximum over the keys
read so far, and each query a factor of its own, so neither sum can overflow or vanish. Under a causal mask every maximum is
taken over keys that *all* the queries that use it may see (halves of halves within a chunk, and a running state before
it), so later keys do not change even the rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from longattn_core.contracts.indexing import row_chunks
from longattn_core.mechanisms.favor.features import FeatureMap, Features

ROWS = 1024
"""How many tokens' features are held at once: few enough to stay in a processor's cache."""

CHUNK = 64
"""How many tokens are compared pair by pair before their features join the running state; a power of two."""

Phi: TypeAlias = Callable[[Float[Tensor, "n d"]], Features]
"""The feature map of one head's queries, or of its keys."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """What each query gathered, up to a factor e^scale of its own.

    `total [n e+1]` holds the weighted sum of values and, last, the sum of weights; `scale [n]`; `reference [s]` is the
    largest exponent of each feature over all keys.
    """

    total: Float[Tensor, "n e1"]
    scale: Float[Tensor, "n"]
    reference: Float[Tensor, "s"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """What the queries of all heads gathered.

    `output [h n e]`; `log_sum [h n]`, the logarithm of the absolute value of each query's sum of weights, and `negative [h n]`
    where that sum is below 0; `reference [h s]`, the largest exponent of each feature over all keys; `underflowed [h n]`, the
    queries for which the fast path is not exact enough.
    """

    output: Float[Tensor, "h n e"]
    log_sum: Float[Tensor, "h n"]
    negative: Bool[Tensor, "h n"]
    reference: Float[Tensor, "h s"]
    underflowed: Bool[Tensor, "h n"]


def gather_plainly(
    feature_map: FeatureMap,
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    v: Float[Tensor, "h n e"],
    heads: Sequence[int],
    *,
    causal: bool,
) -> Gathered:
    """The chosen heads one by one, for features, dtypes and exponents of any kind. Cost: that of `sums_over_all` and `_past`."""
    gather = sums_over_past if causal else sums_over_all
    sums = []
    for head in heads:
        queries, keys = (partial(feature_map.of, head=head, keys=side) for side in (False, True))
        sums.append(gather(queries, keys, q[head], k[head], v[head]))
    outputs = [ratio(of_head, v[head]) for of_head, head in zip(sums, heads, strict=True)]
    weights = torch.stack([of_head.total[:, -1].detach() for of_head in sums])
    scales, references = (torch.stack([getattr(of_head, name) for of_head in sums]) for name in ("scale", "reference"))
    negative = weights < 0
    return Gathered(
        output=torch.stack(outputs),
        log_sum=weights.abs().log() + scales,
        negative=negative,
        reference=references,
        underflowed=torch.zeros_like(negative),
    )


def patched(fast: Gathered, plain: Gathered, heads: list[int]) -> Gathered:
    """The fast path's results, with underflowed queries taken from the plain path, which has computed `heads` alone."""
    for index, head in enumerate(heads):
        underflowed = fast.underflowed[head]
        fast.output[head, underflowed] = plain.output[index, underflowed]
        fast.log_sum[head, underflowed] = plain.log_sum[index, underflowed]
    return fast


def sums_over_all(queries: Phi, keys: Phi, q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], v: Float[Tensor, "n e"]) -> Sums:
    """Every query gathers every key. Cost 2·n·c·(e + 1) above the features; memory 1024·c."""
    reference, state = _no_keys(v)
    for rows in row_chunks(len(k), 1, ROWS):
        reference, state = _add_keys(reference, state, keys(k[rows]), _with_ones(v[rows]))
    totals, scales = [], []
    for rows in row_chunks(len(q), 1, ROWS):
        total, scale = _read(queries(q[rows]), reference, state)
        totals.append(total)
        scales.append(scale)
    return Sums(total=torch.cat(totals), scale=torch.cat(scales).squeeze(-1), reference=reference)


def sums_over_past(queries: Phi, keys: Phi, q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], v: Float[Tensor, "n e"]) -> Sums:
    """Every query gathers the keys up to its own position. Cost as without a mask, and n·(64·(c + e) + 7·c) within chunks."""
    reference, state = _no_keys(v)
    totals, scales = [], []
    for rows in row_chunks(len(k), 1, ROWS):
        count = len(q[rows])
        # The last chunk is filled up after its last token; no query reads what is filled in.
        fill = (0, 0, 0, -count % CHUNK)
        f, g = queries(pad(q[rows], fill)), keys(pad(k[rows], fill))
        values = _with_ones(pad(v[rows], fill))
        parts = [_itself(f, g, values), *_earlier_in_chunk(f, g, values)]
        before = []
        for start in range(0, len(values), CHUNK):
            chunk = slice(start, start + CHUNK)
            before.append(_read(_part(f, chunk), reference, state))
            real = slice(start, min(start + CHUNK, count))
            reference, state = _add_keys(reference, state, _part(g, real), values[real])
        parts.append((torch.cat([total for total, _ in before]), torch.cat([scale for _, scale in before])))
        total, scale = _join(parts)
        totals.append(total[:count])
        scales.append(scale[:count])
    return Sums(total=torch.cat(totals), scale=torch.cat(scales).squeeze(-1), reference=reference)


def ratio(sums: Sums, own: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
    """The output: the sum of values over the sum of weights; where that is exactly 0, the query's own value."""
    weight = sums.total[:, -1:]
    zero = weight == 0
    return torch.where(zero, own, sums.total[:, :-1] / torch.where(zero, torch.ones_like(weight), weight))


def _no_keys(v: Float[Tensor, "n e"]) -> tuple[Float[Tensor, "1"], Float[Tensor, "1 e1"]]:
    """The state before the first key; one row stands for all features."""
    return v.new_full((1,), -math.inf), v.new_zeros(1, v.shape[-1] + 1)


def _add_keys(
    reference: Float[Tensor, "s0"], state: Float[Tensor, "c0 e1"], keys: Features, values: Float[Tensor, "n e1"]
) -> tuple[Float[Tensor, "s"], Float[Tensor, "c e1"]]:
    """The running maxima and the state after some more keys; the old state is rescaled to the new maxima."""
    higher = torch.maximum(reference, keys.exponent.detach().amax(0))
    rescaled = state * (reference - higher).exp()[:, None]
    return higher, rescaled + keys.shifted(-higher).mT @ values


def _read(
    queries: Features, reference: Float[Tensor, "s"], state: Float[Tensor, "c e1"]
) -> tuple[Float[Tensor, "n e1"], Float[Tensor, "n 1"]]:
    """What the queries read from the state, and the scale of each."""
    scale = (queries.exponent.detach() + reference).amax(-1, keepdim=True)
    if bool(torch.isneginf(reference).any()):
        return scale.new_zeros(len(scale), state.shape[-1]), scale
    return queries.shifted(reference - scale) @ state, scale


def _itself(
    queries: Features, keys: Features, values: Float[Tensor, "n e1"]
) -> tuple[Float[Tensor, "n e1"], Float[Tensor, "n 1"]]:
    """What each query reads from its own key, and its scale."""
    products = Features(
        exponent=queries.exponent + keys.exponent,
        wave=None if queries.wave is None or keys.wave is None else queries.wave * keys.wave,
    )
    scale = products.exponent.detach().amax(-1, keepdim=True)
    return products.shifted(-scale).sum(-1, keepdim=True) * values, scale


def _earlier_in_chunk(
    queries: Features, keys: Features, values: Float[Tensor, "n e1"]
) -> list[tuple[Float[Tensor, "n e1"], Float[Tensor, "n 1"]]]:
    """Within blocks of 2, 4, … CHUNK tokens, the queries of the second half gather the keys of the first half."""
    parts = []
    width = 1
    while width < CHUNK:
        second, first = _halves(queries, width, 1), _halves(keys, width, 0)
        reference = first.exponent.detach().amax(-2, keepdim=True)
        scale = (second.exponent.detach() + reference).amax(-1, keepdim=True)
        weights = second.shifted(reference - scale) @ first.shifted(-reference).mT
        total = weights @ values.view(-1, 2, width, values.shape[-1])[:, 0]
        # The queries of the first halves gather nothing in this step.
        total, scale = (torch.stack((torch.full_like(x, fill), x), 1) for x, fill in ((total, 0.0), (scale, -math.inf)))
        parts.append((total.flatten(0, 2), scale.flatten(0, 2)))
        width *= 2
    return parts


def _join(parts: list[tuple[Float[Tensor, "n e1"], Float[Tensor, "n 1"]]]) -> tuple[Float[Tensor, "n e1"], Float[Tensor, "n 1"]]:
    """The sum of sums with different scales, at the largest scale of each query."""
    scales = torch.stack([scale for _, scale in parts])
    highest = scales.amax(0)
    factors = (scales - highest).exp()
    return torch.stack([total * factor for (total, _), factor in zip(parts, factors, strict=True)]).sum(0), highest


def _part(features: Features, rows: slice) -> Features:
    return Features(exponent=features.exponent[rows], wave=None if features.wave is None else features.wave[rows])


def _halves(features: Features, width: int, half: int) -> Features:
    """The first or second halves of blocks of 2·width tokens, `[blocks width c]`."""

    def cut(x: Tensor) -> Tensor:
        return x.view(-1, 2, width, x.shape[-1])[:, half]

    return Features(exponent=cut(features.exponent), wave=None if features.wave is None else cut(features.wave))


def _with_ones(v: Float[Tensor, "n e"]) -> Float[Tensor, "n e1"]:
    return torch.cat((v, v.new_ones(len(v), 1)), dim=-1)
