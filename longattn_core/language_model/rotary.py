"""Rotary positions: a query or key is turned by an angle proportional to where it stands, so scores see distances.

Source: Su et al. 2021, arXiv:2104.09864, section 3.4.2. Layout: channels `2i` and `2i + 1` are one pair, as in the
paper and in the weights' file; the `transformers` library pairs `i` with `i + d/2`, a permutation of the channels.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["rotary_frequencies", "rotate", "unrotate"]


def rotary_frequencies(head_width: int, base: float) -> Float[Tensor, "pairs"]:
    """Angle in radians by which each pair turns per token: `base^(-2i/d)`, float64, from 1 down to about `1/base`."""
    if head_width < 2 or head_width % 2:
        raise ValueError(f"head_width is {head_width}; rotary positions need an even width of at least 2.")
    return base ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)


def rotate(
    x: Float[Tensor, "*h n d"], positions: Int[Tensor, "n"], frequencies: Float[Tensor, "pairs"]
) -> Float[Tensor, "*h n d"]:
    """Turn pair `i` of the row at `positions[t]` by `positions[t] · frequencies[i]` radians.

    Lengths of rows are unchanged, and `rotate(q) · rotate(k)` depends on the difference of the two positions only.
    dtype and device follow `x`. Cost: 3·d multiply-adds per row.

    Raises:
        ValueError: the width of `x` is not twice the number of frequencies.
    """
    if x.shape[-1] != 2 * frequencies.shape[-1]:
        raise ValueError(f"x has width {x.shape[-1]}, but {len(frequencies)} frequencies turn twice as many channels.")
    # float64, because at position 8,191 a float32 angle is already wrong in its fourth decimal.
    angles = positions.double()[:, None] * frequencies.double()
    cosine, sine = angles.cos().to(x), angles.sin().to(x)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1).flatten(-2)


def unrotate(
    x: Float[Tensor, "*h n d"], positions: Int[Tensor, "n"], frequencies: Float[Tensor, "pairs"]
) -> Float[Tensor, "*h n d"]:
    """Take off what `rotate` put on: the inverse of a turn is the turn to minus the position."""
    return rotate(x, -positions, frequencies)
