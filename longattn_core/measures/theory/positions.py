"""The fixed numbers of position schemes: slopes, buckets, frequencies.

Source: Press et al. 2021, arXiv:2108.12409 (ALiBi); Raffel et al. 2019, arXiv:1910.10683, section 2.1 (T5); Su et al. 2021,
arXiv:2104.09864 (rotary); Chen et al. 2023, arXiv:2306.15595 (interpolation); Peng et al. 2023, arXiv:2309.00071 (NTK, YaRN).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "alibi_slopes",
    "interpolated",
    "ntk_base",
    "rotary_frequencies",
    "sinusoids",
    "t5_bucket",
    "yarn_frequencies",
    "yarn_temperature",
]

Numbers = NDArray[np.float64]


def alibi_slopes(heads: int) -> Numbers:
    """m_h = 2^{−8h/H} for h = 1 … H: the score loses m_h per token of distance. As in the paper where H is a power of two."""
    return np.asarray(2.0 ** (-8 * np.arange(1, heads + 1) / heads))


def t5_bucket(distance: ArrayLike, *, buckets: int = 32, furthest: int = 128, causal: bool = True) -> NDArray[np.int64]:
    """The bucket of the distance query − key: half of the buckets hold one distance each, the others logarithmic ranges.

    The last bucket holds all distances beyond `furthest`. Not causal: the upper half of the buckets is for later keys. Causal:
    later keys share bucket 0.
    """
    distance = np.asarray(distance, np.int64)
    later = np.zeros_like(distance) if causal else np.where(distance < 0, buckets // 2, 0)
    count = buckets if causal else buckets // 2
    away = np.maximum(distance, 0) if causal else np.abs(distance)
    exact = count // 2
    # Base 2, so that rounding does not put a power of two at the edge of a bucket into the bucket below.
    steps = np.log2(np.maximum(away, exact) / exact) / np.log2(furthest / exact) * (count - exact)
    return np.asarray(later + np.where(away < exact, away, np.minimum(exact + steps.astype(np.int64), count - 1)))


def rotary_frequencies(d: int, base: float = 10_000.0) -> Numbers:
    """θ_t = base^{−2t/d} radians per token, t = 0 … d/2 − 1."""
    return np.asarray(base ** (-np.arange(0, d, 2) / d))


def interpolated(frequencies: ArrayLike, stretch: float) -> Numbers:
    """Position interpolation: every frequency divided by the ratio of lengths, so that no angle exceeds the trained ones."""
    return np.asarray(frequencies, float) / stretch


def ntk_base(d: int, stretch: float, base: float = 10_000.0) -> float:
    """The base b·s^{d/(d−2)}: the slowest pair is interpolated by s, the fastest not at all. Raises: ValueError for d ≤ 2."""
    if d <= 2:
        raise ValueError(f"the NTK-aware base needs a width above 2, found {d}")
    return float(base * stretch ** (d / (d - 2)))


def yarn_frequencies(frequencies: ArrayLike, stretch: float, *, trained: int, slow: float = 1.0, fast: float = 32.0) -> Numbers:
    """YaRN: pairs with fewer than `slow` turns in the trained length are interpolated, those with more than `fast` are not."""
    frequencies = np.asarray(frequencies, float)
    turns = trained * frequencies / (2 * np.pi)
    kept = np.clip((turns - slow) / (fast - slow), 0.0, 1.0)
    return np.asarray((1 - kept) * frequencies / stretch + kept * frequencies)


def yarn_temperature(stretch: ArrayLike) -> Numbers:
    """1/√t = 0.1·ln s + 1, the factor of q and of k; 1 when nothing is stretched."""
    return np.asarray(0.1 * np.log(np.maximum(np.asarray(stretch, float), 1.0)) + 1)


def sinusoids(n: int, d: int, base: float = 10_000.0) -> Numbers:
    """Sinusoidal absolute positions `[n d]`: sine and cosine of i·base^{−2t/d} in alternate channels (Vaswani 2017)."""
    angles = np.arange(n)[:, None] * rotary_frequencies(d, base)
    return np.stack((np.sin(angles), np.cos(angles)), axis=-1).reshape(n, -1)
