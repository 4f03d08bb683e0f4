"""Random features as an estimate of the softmax kernel e^{xᵀy}: mean squared errors, the gain of orthogonality, SMREG.

Source: Choromanski et al. 2020, arXiv:2009.14794: lemma 2 (errors), theorem 2 (orthogonality; closed forms here), theorem 1 and
section 2.5 (SMREG). Throughout x = q/d^¼, y = k/d^¼, m is the number of ω, and z = ‖x + y‖. All forms are exact. Monte Carlo can
confirm them only for z² ≤ 2: for larger z even a million draws miss the rare ω that dominate the expectation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, hyp0f1, hyp1f1, ive

__all__ = [
    "kernel",
    "mse_hyperbolic",
    "mse_positive",
    "mse_ratio",
    "mse_trigonometric",
    "orthogonal_gain",
    "relative_deviation",
    "smreg_bound",
    "smreg_ratio",
]

Numbers = NDArray[np.float64]

CONFIRMABLE = 2.0
"""The largest ‖x + y‖² for which Monte Carlo can confirm the closed forms."""


def kernel(x: ArrayLike, y: ArrayLike) -> Numbers:
    """SM(x, y) = e^{xᵀy}; x and y are `[..., d]`."""
    return np.asarray(np.exp(_products(x, y)[2]))


def mse_trigonometric(x: ArrayLike, y: ArrayLike, m: int) -> Numbers:
    """(1/2m)·e^{‖x+y‖²}·SM^{−2}·(1 − e^{−‖x−y‖²})², for independent ω ~ N(0, I)."""
    xx, yy, xy = _products(x, y)
    return np.asarray(np.exp(xx + yy) * np.expm1(-(xx + yy - 2 * xy)) ** 2 / (2 * _features(m)))


def mse_positive(x: ArrayLike, y: ArrayLike, m: int) -> Numbers:
    """(1/m)·e^{‖x+y‖²}·SM²·(1 − e^{−‖x+y‖²}), for independent ω ~ N(0, I)."""
    xx, yy, xy = _products(x, y)
    square = xx + yy + 2 * xy
    return np.asarray(-np.exp(square + 2 * xy) * np.expm1(-square) / _features(m))


def mse_hyperbolic(x: ArrayLike, y: ArrayLike, m: int) -> Numbers:
    """½·(1 − e^{−‖x+y‖²})·MSE_pos, for independent ω ~ N(0, I); m is the number of ω, its features are 2m."""
    xx, yy, xy = _products(x, y)
    return np.asarray(-0.5 * np.expm1(-(xx + yy + 2 * xy)) * mse_positive(x, y, m))


def orthogonal_gain(x: ArrayLike, y: ArrayLike, m: int) -> Numbers:
    """By how much orthogonal ω reduce MSE_pos, and MSE_hyp by the same amount, for m ≤ d. Never negative.

    ((m − 1)/m)·e^{−‖x‖²−‖y‖²}·(e^{z²} − ₁F₁(d; d/2; z²/2)), with ω in a Haar-random orthogonal block and independent lengths
    from χ_d. For hyperbolic features E[cosh(ω₁·(x+y))·cosh(ω₂·(x+y))] = E[e^{(ω₁+ω₂)·(x+y)}], because ω₂ and −ω₂ have the same
    distribution: so the term is the same. For trigonometric features there is no such law.

    Raises: ValueError when m is larger than d.
    """
    d = np.shape(x)[-1]
    if _features(m) > d:
        raise ValueError(f"the closed form holds within one orthogonal block: m at most d = {d}, found {m}")
    xx, yy, xy = _products(x, y)
    square = xx + yy + 2 * xy
    # Kummer's transformation avoids the difference of two large exponentials: the remaining factor is at most 1.
    left = -np.expm1(np.log(hyp1f1(-d / 2, d / 2, -square / 2)) - square / 2)
    return np.asarray((m - 1) / m * np.exp(2 * xy) * left)


def mse_ratio(length: ArrayLike, angle: ArrayLike) -> Numbers:
    """MSE_trig/MSE_pos for ‖x‖ = ‖y‖ = ℓ at an angle in radians: the paper's figure 2. It does not depend on m.

    At ‖x + y‖ = 0 positive features are exact and the ratio is infinite; at x = y it is 0.
    """
    length, angle = np.asarray(length, float), np.asarray(angle, float)
    square, dot = length**2, length**2 * np.cos(angle)
    apart, together = 2 * square - 2 * dot, 2 * square + 2 * dot
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(0.5 * np.exp(-4 * dot) * np.expm1(-apart) ** 2 / -np.expm1(-together))


def relative_deviation(sum_square: ArrayLike, m: int) -> Numbers:
    """√MSE_pos/SM = √((e^{z²} − 1)/m), z² = ‖x + y‖²: 186 at m = 256 for unit Gaussian heads of width 64 (z² = 16)."""
    return np.asarray(np.sqrt(np.expm1(np.asarray(sum_square, float)) / _features(m)))


def smreg_ratio(z: ArrayLike, d: int) -> Numbers:
    """SMREG/SM = Γ(d/2)·(2/(√d·z))^{d/2−1}·I_{d/2−1}(√d·z)·e^{−z²/2}, ω on the sphere of radius √d. At most 1. Exact.

    Raises: ValueError for d below 1 or a negative z.
    """
    z = np.asarray(z, float)
    if d < 1 or (z < 0).any():
        raise ValueError(f"a ratio needs d ≥ 1 and z ≥ 0, found d = {d}, z = {z.min():g}")
    order, reach = d / 2 - 1, np.sqrt(d) * z
    # The scaled Bessel function underflows for small z, and the series overflows for large z.
    near = z**2 < CONFIRMABLE
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        series = np.log(hyp0f1(d / 2, np.where(near, reach, 0.0) ** 2 / 4))
        bessel = gammaln(d / 2) + order * np.log(2 / reach) + np.log(ive(order, reach)) + reach
    return np.asarray(np.exp(np.where(near, series, bessel) - z**2 / 2))


def smreg_bound(d: ArrayLike) -> Numbers:
    """The paper's lower bound 1 − 2/d^{1/3}, up to o(d^{−1/3}) and only for bounded scores: at d = 64, z² = 64 it fails."""
    return np.asarray(1 - 2 / np.cbrt(np.asarray(d, float)))


def _products(x: ArrayLike, y: ArrayLike) -> tuple[Numbers, Numbers, Numbers]:
    x, y = np.asarray(x, float), np.asarray(y, float)
    return np.asarray((x * x).sum(-1)), np.asarray((y * y).sum(-1)), np.asarray((x * y).sum(-1))


def _features(m: int) -> int:
    if m < 1:
        raise ValueError(f"there must be at least one feature, found {m}")
    return m
