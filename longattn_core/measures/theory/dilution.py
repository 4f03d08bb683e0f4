"""The weight of one relevant key (the needle) among n keys, and the lead of its score that a given weight requires.

Source: ours, from the softmax alone. The needle's score leads the mean of the others by g; the others are independent
N(0, σ²). With noise, the sum of the others' exponentials is replaced by its expectation, (n − 1)·e^{σ²/2}.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_ndtr, logit

__all__ = [
    "chance_of_leading",
    "entropy_bound",
    "few_keys_dominate",
    "needed_lead",
    "needle_weight",
    "uniform_weight",
    "weight_holds",
]

Numbers = NDArray[np.float64]

SETTLED = 10.0
"""The sum of the others has a relative variance of (e^{σ²} − 1)/(n − 1); below 1/10 its mean may replace it."""


def uniform_weight(n: ArrayLike) -> Numbers:
    """The weight of each of n identical keys, 1/n; under a causal mask query i has n = i + 1 of them. Exact."""
    return np.asarray(1.0 / _tokens(n))


def needle_weight(lead: ArrayLike, n: ArrayLike, noise: ArrayLike = 0.0) -> Numbers:
    """w* = 1/(1 + (n − 1)·e^{σ²/2 − g}). Exact for σ = 0; else the mean, where `weight_holds` says so."""
    lead, noise = np.asarray(lead, float), np.asarray(noise, float)
    return np.asarray(expit(lead - noise**2 / 2 - _log_others(n)))


def weight_holds(n: ArrayLike, noise: ArrayLike) -> NDArray[np.bool_]:
    """Where the formula with noise may be used: n − 1 ≥ 10·(e^{σ²} − 1). There it is within 0.02 of the mean over draws."""
    return np.asarray(_tokens(n) - 1 >= SETTLED * np.expm1(np.asarray(noise, float) ** 2))


def few_keys_dominate(n: ArrayLike, noise: ArrayLike) -> NDArray[np.bool_]:
    """Where σ² > 2·ln n: a few keys with extreme scores dominate the sum of the others, and its mean does not describe it.

    Between this region and that of `weight_holds` the formula is wrong by more than 0.02, and no other law is known to us.
    """
    return np.asarray(np.asarray(noise, float) ** 2 > 2 * np.log(_tokens(n)))


def needed_lead(weight: ArrayLike, n: ArrayLike, noise: ArrayLike = 0.0) -> Numbers:
    """g*(p, n) = ln((n − 1)·p/(1 − p)) + σ²/2: the lead for the weight p. Grows as ln n; holds where `needle_weight` does.

    Raises: ValueError when a weight is not between 0 and 1.
    """
    weight = np.asarray(weight, float)
    if not ((weight > 0) & (weight < 1)).all():
        raise ValueError(f"a weight to keep must lie between 0 and 1, found {weight}")
    return np.asarray(_log_others(n) + logit(weight) + np.asarray(noise, float) ** 2 / 2)


def chance_of_leading(lead: ArrayLike, n: ArrayLike, noise: ArrayLike) -> Numbers:
    """Φ(g/σ)^{n−1}: the chance that the needle has the largest score of n keys. Exact for independent scores."""
    lead, noise = np.asarray(lead, float), np.asarray(noise, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Without noise all others have the score 0: a positive lead always wins, a negative one never.
        ratio = np.where(noise > 0, lead / noise, np.where(lead > 0, np.inf, -np.inf))
        return np.asarray(np.exp(np.where(_tokens(n) > 1, (_tokens(n) - 1) * log_ndtr(ratio), 0.0)))


def entropy_bound(n: ArrayLike) -> Numbers:
    """H ≤ ln n nats, so the effective number of tokens e^H is at most n; reached by equal weights only. Exact."""
    return np.asarray(np.log(_tokens(n)))


def _tokens(n: ArrayLike) -> Numbers:
    n = np.asarray(n, float)
    if (n < 1).any():
        raise ValueError(f"a sequence has at least one token, found {n.min():g}")
    return n


def _log_others(n: ArrayLike) -> Numbers:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(_tokens(n) - 1))
