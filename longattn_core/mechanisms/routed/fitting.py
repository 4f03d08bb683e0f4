"""The data that centroids and a router may be fitted on, and the two fits.

Source: spherical k-means as in Roy et al. 2020 (Routing Transformer), arXiv:2003.05997, section 4.1; multinomial logistic
regression by Newton's method (Böhning 1992). Our deviations: centroids come from whole passes over up to 8,192 tokens and
not from a moving average over training steps; the router is fitted to the path with the least error for each query, and is
not trained with the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.certain_argmax import nearest_direction
from longattn_core.numerics.draws import generator

PASSES = 10
"""The largest number of k-means passes; it stops earlier when no token changes its cluster."""

FIT_TOKENS = 8192
"""Centroids are fitted on at most this many tokens, evenly spaced, so that a fit costs no more than one application."""

RIDGE = 0.03
"""Weight of the router's squared norm beside its mean loss, for queries scaled to unit variance."""

NEWTON_STEPS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class FitData:
    """What may be fitted on: a sequence, the first query that may use the fit, and a name of the data in words."""

    sequence: Sequence
    start: int
    name: str


def fit_data(sequence: Sequence) -> FitData:
    """Without a mask the sequence itself; under a causal mask the calibration or, without one, the past alone.

    The past alone is the first quarter of the real tokens; only the queries after it use the fit.
    """
    if not sequence.causal:
        return FitData(sequence=sequence, start=0, name="this sequence (no mask hides any of it)")
    if (other := sequence.calibration) is not None:
        # The calibration is its own calibration: nothing in it is hidden from a fit.
        own = replace(other.masked(True), calibration=other)
        return FitData(sequence=own, start=0, name=f"calibration sequence: {other.origin}")
    real = sequence.real.nonzero().squeeze(-1)
    start = int(real[(len(real) + 3) // 4 - 1]) + 1
    name = f"the past alone: the first {start} tokens, for the queries behind them"
    return FitData(sequence=sequence.prefix(start), start=start, name=name)


def evenly(tokens: Int[Tensor, "r"], count: int) -> Int[Tensor, "s"]:
    """At most `count` of these tokens, evenly spaced from the first to the last."""
    if len(tokens) <= count:
        return tokens
    return tokens[torch.linspace(0, len(tokens) - 1, count, dtype=torch.float64).round().long().to(tokens.device)]


def mean_of(x: Float[Tensor, "h n d"], sequence: Sequence) -> Float[Tensor, "h d"]:
    """The mean over real tokens, in float64 on the CPU."""
    real = sequence.real.nonzero().squeeze(-1)
    return torch.stack([head.index_select(0, real).to("cpu", torch.float64).mean(0) for head in x.detach()])


def unit(x: Float[Tensor, "*b d"], centre: Float[Tensor, "#*b d"] | None) -> Float[Tensor, "*b d"]:
    """Directions from the centre, in float64 on the CPU, so that rounding is the same for every device."""
    moved = x.detach().to("cpu", torch.float64)
    return torch.nn.functional.normalize(moved if centre is None else moved - centre, dim=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Centroids:
    """The centroids and how the fit went.

    `directions [h c d]`, each of length 1; `agreement [h t]`, the mean cosine of a token with its centroid in each pass (the
    last value repeated after an early stop); `products`, how many cosines were computed in all.
    """

    directions: Float[Tensor, "h c d"]
    agreement: Float[Tensor, "h t"]
    products: int


def spherical_means(vectors: Iterable[Float[Tensor, "N d"]], count: int, seed: int) -> Centroids:
    """Centroids of each head's vectors, float64 of length 1. Cost at most 10·N·c·d a head.

    They start from vectors drawn without replacement; a centroid that loses all its vectors stays the same. With fewer
    vectors than clusters there are as many clusters as vectors.
    """
    directions, agreements, products = [], [], 0
    for x in vectors:
        chosen = torch.randperm(len(x), generator=generator(seed, "centroids"))[:count]
        centre, agreement = x[chosen], []
        coarse, before = x.float(), torch.full((len(x),), -1)
        for _ in range(PASSES):
            nearest = nearest_direction(coarse, x.__getitem__, centre)
            sums = torch.zeros_like(centre).index_add_(0, nearest, x)
            # The product of a cluster's centroid with the sum of its vectors is the sum of their cosines.
            agreement.append(float((sums * centre).sum()) / len(x))
            if torch.equal(nearest, before):
                break
            before = nearest
            length = sums.norm(dim=-1, keepdim=True)
            centre = torch.where(length > 0, sums / length.clamp_min(1e-300), centre)
        products += len(agreement) * len(x) * len(centre)
        directions.append(centre)
        agreements.append(torch.tensor(agreement + agreement[-1:] * (PASSES - len(agreement)), dtype=torch.float64))
    return Centroids(directions=torch.stack(directions), agreement=torch.stack(agreements), products=products)


def nearest_cluster(
    x: Float[Tensor, "h n d"], centre: Float[Tensor, "h d"] | None, centroids: Float[Tensor, "h c d"]
) -> Int[Tensor, "h n"]:
    """The centroid of the largest cosine, for each token. Cost n·c·d a head."""
    out = torch.empty(x.shape[:2], dtype=torch.int64)
    for head, directions in enumerate(centroids):
        vectors, mean = x[head].detach().cpu(), None if centre is None else centre[head]
        moved = vectors.float() if mean is None else (vectors.double() - mean).float()
        coarse = torch.nn.functional.normalize(moved, dim=-1)
        out[head] = nearest_direction(coarse, partial(_unit_rows, vectors, mean), directions)
    return out.to(x.device)


def _unit_rows(x: Float[Tensor, "n d"], centre: Float[Tensor, "d"] | None, rows: Int[Tensor, "s"]) -> Float[Tensor, "s d"]:
    """The exact directions of some rows, for those that float32 leaves in doubt."""
    return unit(x[rows], centre)


def logistic_regression(x: Float[Tensor, "s d"], shares: Float[Tensor, "s p"]) -> Float[Tensor, "d p"]:
    """The W that minimises the cross-entropy of softmax(x W) with `shares`, with a small ridge; float64.

    The loss is strictly convex, so Newton's steps, halved while they increase it, always end in the one minimum. Cost at most
    20·(s + d·p)·(d·p)².
    """
    samples, d = x.shape
    p = shares.shape[1]
    scale = x.square().mean().sqrt().clamp_min(1e-300)
    x = x / scale
    ridge = RIDGE * torch.eye(d * p, dtype=x.dtype)

    def loss(w: Float[Tensor, "d p"]) -> Float[Tensor, ""]:
        fit = -(shares * (x @ w).log_softmax(-1)).sum() / samples
        return fit + RIDGE / 2 * w.square().sum()

    w = torch.zeros(d, p, dtype=x.dtype)
    for _ in range(NEWTON_STEPS):
        r = (x @ w).softmax(-1)
        gradient = x.mT @ (r - shares) / samples + RIDGE * w
        if float(gradient.abs().max()) < 1e-10:
            break
        curvature = torch.diag_embed(r) - r[:, :, None] * r[:, None, :]
        hessian = torch.einsum("sa,spq,sb->apbq", x, curvature, x).reshape(d * p, d * p) / samples + ridge
        step = torch.linalg.solve(hessian, gradient.reshape(-1)).view(d, p)
        factor, current = 1.0, loss(w)
        while factor > 1e-6 and loss(w - factor * step) > current:
            factor /= 2
        w = w - factor * step
    return w / scale
