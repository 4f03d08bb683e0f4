"""The expected relative error of an estimate of the kernel, by closed form.

Source: Choromanski et al. 2020, arXiv:2009.14794, lemma 2 (the three mean squared errors) and theorem 1 (SMREG). Ours:
both follow from two averages over one direction ω, of e^(ω·z) and of cos(ω·u), so one formula serves Gaussian
directions and directions on the sphere. Directions count as independent; the error of orthogonal ones is a little smaller.
"""

from __future__ import annotations

import math

from longattn_core.mechanisms.favor.features import UNBIASED, Kind


def relative_deviation(kind: Kind, *, m: int, d: int, sum_norm: float, difference_norm: float, regularised: bool) -> float | None:
    """Root mean square of (estimate − kernel) / kernel, for `sum_norm` ‖x+y‖² and `difference_norm` ‖x−y‖².

    It is the same for the softmax and the Gaussian kernel, whose factors cancel. Infinite beyond the largest float; None for
    features that are unbiased estimates of neither kernel.
    """
    if kind not in UNBIASED:
        return None
    if kind == "trigonometric":
        target = math.exp(-difference_norm / 2)
        mean = _mean_cosine(difference_norm, d, regularised)
        spread = (1 + _mean_cosine(4 * difference_norm, d, regularised)) / 2 - mean**2
        if target == 0:
            return math.inf
        return math.sqrt(max(0.0, spread) / m + (mean - target) ** 2) / target
    # In units of the kernel, whose logarithm without the common factor is sum_norm / 2.
    mean = _exp(_log_mean_exponential(sum_norm, d, regularised) - sum_norm / 2)
    square = _exp(_log_mean_exponential(4 * sum_norm, d, regularised) - sum_norm)
    if kind == "hyperbolic":
        square = (square + math.exp(-sum_norm)) / 2
    return math.sqrt(max(0.0, square - mean**2) / m + (mean - 1) ** 2)


def _log_mean_exponential(square: float, d: int, regularised: bool) -> float:
    """ln E e^(ω·z) for ‖z‖² = `square`."""
    if not regularised:
        return square / 2
    # Imported here, because the import takes a tenth of a second of a server's start.
    from scipy import special

    reach = math.sqrt(d * square)
    if reach < 100:
        return math.log(special.hyp0f1(d / 2, reach**2 / 4))
    order = d / 2 - 1
    scaled = special.ive(order, reach)
    return float(special.gammaln(d / 2) + order * math.log(2 / reach) + math.log(scaled) + reach)


def _mean_cosine(square: float, d: int, regularised: bool) -> float:
    """E cos(ω·u) for ‖u‖² = `square`."""
    if not regularised:
        return math.exp(-square / 2)
    from scipy import special

    return float(special.hyp0f1(d / 2, -d * square / 4))


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
