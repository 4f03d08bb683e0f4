"""Rotary positions: pairs of channels turned by angles that grow with the position, so that scores see distances only.

Source: Su et al. 2021, arXiv:2104.09864, section 3.4.2. Channels 2t and 2t + 1 are one pair, as in the paper; other
libraries pair t with t + d/2, which is a permutation of the channels.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotary_frequencies(d: int, base: float) -> Float[Tensor, "half"]:
    """The angle in radians by which each pair turns from one position to the next, base^(−2t/d), in float64.

    Raises: ValueError for a width that is not even.
    """
    if d < 2 or d % 2:
        raise ValueError(f"rotary positions turn pairs of channels, so the width must be even, found {d}")
    return torch.pow(base, -torch.arange(0, d, 2, dtype=torch.float64) / d)


def rotate(
    x: Float[Tensor, "*h n d"], positions: Int[Tensor, "n"], frequencies: Float[Tensor, "half"]
) -> Float[Tensor, "*h n d"]:
    """Turn pair t of the row at `positions[i]` by `positions[i]·frequencies[t]`. Lengths stay. Cost: 2 products a channel.

    Raises: ValueError unless there is one frequency for each pair of channels.
    """
    if x.shape[-1] != 2 * len(frequencies):
        raise ValueError(f"{len(frequencies)} frequencies turn {2 * len(frequencies)} channels, found {x.shape[-1]}")
    # In float32 an angle of some thousand radians has lost its fourth decimal.
    angles = positions.to(torch.float64)[:, None] * frequencies.to(torch.float64)
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((first * cosine - second * sine, first * sine + second * cosine), dim=-1)
    return turned.flatten(-2)


def unrotate(
    x: Float[Tensor, "*h n d"], positions: Int[Tensor, "n"], frequencies: Float[Tensor, "half"]
) -> Float[Tensor, "*h n d"]:
    """Turn back what `rotate` turned. Raises: ValueError as `rotate` does."""
    return rotate(x, -positions, frequencies)


def sinusoids(positions: Int[Tensor, "n"], d: int, base: float = 10000.0) -> Float[Tensor, "n d"]:
    """Sines at even channels and cosines at odd ones, of positions (or distances) times base^(−2t/d), in float64.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5. An odd width loses the last cosine.
    """
    frequencies = torch.pow(base, -torch.arange(0, d, 2, dtype=torch.float64, device=positions.device) / d)
    angles = positions.to(torch.float64)[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[:, :d]
