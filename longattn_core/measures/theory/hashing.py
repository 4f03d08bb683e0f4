"""The chance that two vectors at an angle share a bucket, in one round and in several.

Source: Charikar 2002 (STOC) for hyperplanes; Andoni et al. 2015, arXiv:1509.02897, for the cross-polytope, for which they give
an exponent in the limit. The integral is ours: it is exact for any number of buckets, for a rotation of independent Gaussian
columns as in Reformer (Kitaev et al. 2020, arXiv:2001.04451).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import owens_t

__all__ = ["bits_collide", "cross_polytope_collision", "cross_polytope_exponent", "found_at_least_once", "same_bit"]

Numbers = NDArray[np.float64]

REACH = 9.0
"""Standard deviations that the integral covers; the rest has a chance below 1e-18."""
NODES = 96
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(NODES)


def same_bit(angle: ArrayLike) -> Numbers:
    """P = 1 − θ/π for one random hyperplane (SimHash); θ in radians, 0 … π. Exact."""
    return np.asarray(1 - _angle(angle) / np.pi)


def bits_collide(angle: ArrayLike, bits: ArrayLike) -> Numbers:
    """P = (1 − θ/π)^b for b independent hyperplanes. Exact."""
    return np.asarray(same_bit(angle) ** np.asarray(bits, float))


def found_at_least_once(chance: ArrayLike, rounds: ArrayLike) -> Numbers:
    """1 − (1 − p)^r for r independent rounds. Exact."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(np.asarray(rounds, float) * np.log1p(-np.asarray(chance, float))))


def cross_polytope_collision(angle: ArrayLike, buckets: int) -> Numbers:
    """P[argmax [xR; −xR] = argmax [yR; −yR]] for R of b/2 independent Gaussian columns, at an angle θ in radians.

    With m = b/2 pairs (u, v) of correlation ρ = cos θ, P = 2m ∫∫_{u,v>0} φ_ρ(u, v)·P[|U| < u, |V| < v]^{m−1} du dv, by
    Gauss–Legendre quadrature (relative error below 1e-6 up to b = 4096) with the inner chance from Owen's T. For
    orthogonal columns it is an approximation. Cost: 96² evaluations an angle.

    Raises: ValueError when the number of buckets is odd or below 2.
    """
    if buckets < 2 or buckets % 2:
        raise ValueError(f"a cross-polytope has an even number of buckets, at least 2, found {buckets}")
    angles = _angle(angle)
    return np.array([_collision(float(one), buckets // 2) for one in angles.ravel()]).reshape(angles.shape)


def _collision(angle: float, pairs: int) -> float:
    cosine, sine = np.cos(angle), np.sin(angle)
    if sine < 1e-6:
        return 1.0 if cosine > 0 else 0.0
    u = REACH * (_POINTS + 1) / 2
    # v is centred at its mean ρu and scaled by its own deviation: this resolves the narrow ridge at a small angle.
    low = np.maximum(0.0, cosine * u - REACH * sine)
    high = np.maximum(low, cosine * u + REACH * sine)
    v = low[:, None] + (high - low)[:, None] * (_POINTS + 1) / 2
    density = np.exp(-(u[:, None] ** 2) / 2 - ((v - cosine * u[:, None]) / sine) ** 2 / 2) / (2 * np.pi * sine)
    inside = _both_within(u[:, None], v, cosine, sine)
    cells = (REACH / 2) * _WEIGHTS[:, None] * ((high - low) / 2)[:, None] * _WEIGHTS
    return float(2 * pairs * (cells * density * inside ** (pairs - 1)).sum())


def _both_within(u: Numbers, v: Numbers, cosine: float, sine: float) -> Numbers:
    """P[|U| < u, |V| < v] for standard normals of correlation ρ: 1 − 2·(four values of Owen's T)."""
    with np.errstate(divide="ignore", over="ignore"):
        corners = sum(owens_t(u, (v / u - sign * cosine) / sine) + owens_t(v, (u / v - sign * cosine) / sine) for sign in (1, -1))
    return np.asarray(np.clip(1 - 2 * corners, 0.0, 1.0))


def cross_polytope_exponent(angle: ArrayLike) -> Numbers:
    """τ²/(4 − τ²) = tan²(θ/2), τ the distance of unit vectors: in the limit P falls as (b/2) to the power of minus this.

    It holds up to factors of ln(b/2): usable for slopes in a log-log plot, not for values.
    """
    return np.asarray(np.tan(_angle(angle) / 2) ** 2)


def _angle(angle: ArrayLike) -> Numbers:
    angle = np.asarray(angle, float)
    if ((angle < 0) | (angle > np.pi)).any():
        raise ValueError(f"an angle must lie in 0 … π, found {angle}")
    return angle
