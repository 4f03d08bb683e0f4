"""What routing may learn from: the tokens that centroids and a router are fitted on, and how.

Source: spherical k-means as in Roy et al. 2020 (Routing Transformer), arXiv:2003.05997, section 4.1; multinomial logistic
regression by Newton's method (Böhning 1992). Our deviations: centroids come from whole passes over up to 8,192 tokens and
not from a moving average over training steps; the router is fitted to the path that serves each query best, and not
trained with the model.
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
"""Passes of k-means at most; it ends sooner when no token moves."""

FIT_TOKENS = 8192
"""Centroids are fitted on at most this many tokens, evenly spaced, so that a fit costs no more than one use."""

RIDGE = 0.03
"""Weight of the router's squared length against its mean loss, for queries scaled to unit variance."""

NEWTON_STEPS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """What may be fitted on: a sequence, the first query that may use the fit, and where it came from in words."""

    sequence: Sequence
    start: int
    name: str


def ground_of(sequence: Sequence) -> Ground:
    """Without a mask the sequence itself; under a causal one the calibration, or else the past alone.

    The past alone: the first quarter of the real tokens is what is fitted on, and only the queries behind it use the fit.
    """
    if not sequence.causal:
        return Ground(sequence=sequence, start=0, name="this sequence (no mask hides any of it)")
    if (other := sequence.calibration) is not None:
        # The calibration is its own ground: nothing in it is hidden from a fit.
        named = replace(other.masked(True), calibration=other)
        return Ground(sequence=named, start=0, name=f"calibration sequence: {other.origin}")
    real = sequence.real.nonzero().squeeze(-1)
    start = int(real[(len(real) + 3) // 4 - 1]) + 1
    name = f"the past alone: the first {start} tokens, for the queries behind them"
    return Ground(sequence=sequence.prefix(start), start=start, name=name)


def evenly(tokens: Int[Tensor, "r"], count: int) -> Int[Tensor, "s"]:
    """At most `count` of these tokens, evenly spaced from the first to the last."""
    if len(tokens) <= count:
        return tokens
    return tokens[torch.linspace(0, len(tokens) - 1, count, dtype=torch.float64).round().long().to(tokens.device)]


def mean_of(x: Float[Tensor, "h n d"], sequence: Sequence) -> Float[Tensor, "h d"]:
    """The mean over real tokens, in float64 on the CPU."""
    real = sequence.real.nonzero().squeeze(-1)
    return torch.stack([one.index_select(0, real).to("cpu", torch.float64).mean(0) for one in x.detach()])


def unit(x: Float[Tensor, "*b d"], centre: Float[Tensor, "#*b d"] | None) -> Float[Tensor, "*b d"]:
    """Directions from the centre, in float64 on the CPU: no rounding sends a token elsewhere on another device."""
    moved = x.detach().to("cpu", torch.float64)
    return torch.nn.functional.normalize(moved if centre is None else moved - centre, dim=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Centroids:
    """`directions [h c d]`, each of length 1; `agreement [h t]`, the mean cosine of a token with its own in each pass (the
    last one repeated once nothing moves); `products`, how many cosines were computed in all.
    """

    directions: Float[Tensor, "h c d"]
    agreement: Float[Tensor, "h t"]
    products: int


def spherical_means(vectors: Iterable[Float[Tensor, "N d"]], count: int, seed: int) -> Centroids:
    """Centroids of each head's vectors, float64 of length 1. Cost at most 10·N·c·d a head.

    They start from vectors drawn without replacement; one that loses all its vectors stays where it is. With fewer
    vectors than clusters there are as many clusters as vectors.
    """
    found, agreements, products = [], [], 0
    for x in vectors:
        chosen = torch.randperm(len(x), generator=generator(seed, "centroids"))[:count]
        centre, agreement = x[chosen], []
        coarse, before = x.float(), torch.full((len(x),), -1)
        for _ in range(PASSES):
            nearest = nearest_direction(coarse, x.__getitem__, centre)
            sums = torch.zeros_like(centre).index_add_(0, nearest, x)
            # What a cluster's vectors sum to, along its direction, is the sum of their cosines with it.
            agreement.append(float((sums * centre).sum()) / len(x))
            if torch.equal(nearest, before):
                break
            before = nearest
            length = sums.norm(dim=-1, keepdim=True)
            centre = torch.where(length > 0, sums / length.clamp_min(1e-300), centre)
        products += len(agreement) * len(x) * len(centre)
        found.append(centre)
        agreements.append(torch.tensor(agreement + agreement[-1:] * (PASSES - len(agreement)), dtype=torch.float64))
    return Centroids(directions=torch.stack(found), agreement=torch.stack(agreements), products=products)


def nearest_cluster(
    x: Float[Tensor, "h n d"], centre: Float[Tensor, "h d"] | None, centroids: Float[Tensor, "h c d"]
) -> Int[Tensor, "h n"]:
    """The centroid of the largest cosine, for each token. Cost n·c·d a head."""
    out = torch.empty(x.shape[:2], dtype=torch.int64)
    for head, directions in enumerate(centroids):
        one, middle = x[head].detach().cpu(), None if centre is None else centre[head]
        moved = one.float() if middle is None else (one.double() - middle).float()
        coarse = torch.nn.functional.normalize(moved, dim=-1)
        out[head] = nearest_direction(coarse, partial(_some, one, middle), directions)
    return out.to(x.device)


def _some(x: Float[Tensor, "n d"], centre: Float[Tensor, "d"] | None, rows: Int[Tensor, "s"]) -> Float[Tensor, "s d"]:
    return unit(x[rows], centre)


def logistic_regression(x: Float[Tensor, "s d"], shares: Float[Tensor, "s p"]) -> Float[Tensor, "d p"]:
    """W for which softmax(x W) comes nearest to `shares`, with a small ridge; float64. Cost 20·(s + d·p)·(d·p)² at most.

    Convex with one minimum, so that Newton's steps, halved while they do not help, always end in the same place.
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
        size, now = 1.0, loss(w)
        while size > 1e-6 and loss(w - size * step) > now:
            size /= 2
        w = w - size * step
    return w / scale
