"""Which of a vector's products is the largest: decided in single precision where that is certain, in double elsewhere.

A float32 product of two vectors lies within (d + 4)·2⁻²⁴·|x||y| of the exact one, the rounding of both vectors included
(Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1). Where the largest leads by twice as much, double
precision must find the same; the few rows where it does not are computed again. So the answer is that of double precision.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts import row_chunks

PRODUCT_CELLS = 1 << 18
"""How many products are held at once: 1 MB, which stays near the processor."""

FAINT = 2.0**-100
"""Below this, products may have underflowed and no bound holds: such rows are computed again."""


def rounding(d: int) -> float:
    """How far a float32 product of two vectors of length 1 and width d can lie from the exact one, with room for their norms."""
    return 1.01 * (d + 4) * 2.0**-24


def largest(
    products: Float[Tensor, "*b c"], doubt: Float[Tensor, "*#b"] | float
) -> tuple[Int[Tensor, "*b"], Float[Tensor, "*b"], Bool[Tensor, "*b"]]:
    """The place of the largest, its value, and whether it leads the second by more than `doubt`. Overwrites `products`."""
    value, place = products.max(-1)
    second = products.scatter_(-1, place[..., None], -torch.inf).amax(-1)
    # Of NaN and infinity none is sure: a comparison with NaN is false.
    return place, value, value - second > doubt


def nearest_direction(x: Float[Tensor, "r d"], directions: Float[Tensor, "c d"]) -> Int[Tensor, "r"]:
    """The largest cosine's place among `directions` for each vector; all float64, of length 1 or 0. Cost r·c·d."""
    coarse, table = x.float(), directions.float().mT
    doubt = 2 * rounding(x.shape[1])
    out = torch.empty(len(x), dtype=torch.int64)
    for rows in row_chunks(len(x), len(directions), PRODUCT_CELLS):
        out[rows], _, sure = largest(coarse[rows] @ table, doubt)
        unsure = (~sure).nonzero().squeeze(-1) + rows.start
        if len(unsure):
            out[unsure] = (x[unsure] @ directions.mT).argmax(-1)
    return out
