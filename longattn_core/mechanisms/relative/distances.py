"""The arithmetic of distances: the skew, T5's buckets, ALiBi's slopes, and rotary frequencies past the trained length.

Source: Huang et al. 2018, arXiv:1809.04281, section 3.4.1 (the skew, here for any stretch of rows and keys); Raffel et al.
2019, arXiv:1910.10683, section 2.1 (buckets); Press et al. 2021, arXiv:2108.12409, section 3 (slopes); Chen et al. 2023,
arXiv:2306.15595 (interpolation); Peng et al. 2023, arXiv:2309.00071, sections 3.1 to 3.4 (NTK-aware and YaRN).
"""

import math
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from longattn_core.numerics.rotary import rotary_frequencies

Scaling: TypeAlias = Literal["none", "interpolation", "ntk", "yarn"]


def skew(logits: Float[Tensor, "*h c m"], keys: int) -> Float[Tensor, "*h c k"]:
    """Shift row i of c rows by c − 1 − i, so that logits by distance become logits by key.

    `logits[i, t]` belongs to key j = t − (c − 1 − i), with m = keys + c − 1. Two views of one padded copy: no index of
    n × n is built, and no entry is garbage on either side of the diagonal.
    """
    rows = logits.shape[-2]
    flat = pad(logits, (0, 1)).flatten(-2)[..., rows - 1 :]
    width = keys + rows - 1
    return flat[..., : rows * width].reshape(*logits.shape[:-2], rows, width)[..., :keys]


def t5_buckets(lag: Int[Tensor, "*s"], causal: bool, buckets: int, reach: int) -> Int[Tensor, "*s"]:
    """The bucket of each distance i − j: half of them exact, half logarithmic up to `reach`, one for all beyond.

    Without a mask earlier keys have the first half of the buckets, later keys the second.
    """
    side = buckets if causal else buckets // 2
    exact = side // 2
    distance = lag.clamp_min(0) if causal else lag.abs()
    growth = math.log(max(reach, exact + 1) / exact)
    steps = ((distance.clamp_min(1).to(torch.float64) / exact).log() / growth * (side - exact)).floor()
    far = (exact + steps.to(torch.int64)).clamp(exact, side - 1)
    bucket = torch.where(distance < exact, distance, far)
    return bucket if causal else bucket + side * (lag < 0)


def alibi_slopes(heads: tuple[int, ...], total: int) -> Float[Tensor, "h"]:
    """2^(−8(h + 1)/H) for head number h (from 0) of H, in float64."""
    return torch.pow(2.0, -8 * (torch.tensor(heads, dtype=torch.float64) + 1) / total)


def scaled_frequencies(d: int, base: float, scaling: Scaling, trained: int, length: int) -> tuple[Float[Tensor, "half"], float]:
    """Rotary frequencies for a text `length/trained` times as long as trained on, and the factor on q and on k.

    Interpolation divides all frequencies by that ratio s; NTK-aware scaling raises the base to base·s^(d/(d−2)), so that
    the slowest pair slows by s and the fastest by nothing; YaRN slows only pairs that turn less than 32 times within the
    trained length, those below one turn by s, and sharpens the scores by 0.1·ln s + 1 on either side.
    """
    ratio = max(1.0, length / trained)
    if scaling == "ntk" and d > 2:
        return rotary_frequencies(d, base * ratio ** (d / (d - 2))), 1.0
    frequencies = rotary_frequencies(d, base)
    if scaling == "interpolation":
        return frequencies / ratio, 1.0
    if scaling == "yarn":
        turns = trained * frequencies / (2 * math.pi)
        kept = ((turns - 1) / (32 - 1)).clamp(0, 1)
        return frequencies * (kept + (1 - kept) / ratio), 0.1 * math.log(ratio) + 1
    return frequencies, 1.0
