"""Which of a vector's products is the largest: decided in single precision where that is certain, in double elsewhere.

A float32 product of two vectors lies within d·2⁻²⁴·|x||y| of the exact one, and a few times 2⁻²⁴ more for the rounding of
both vectors (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1). Where the largest leads by twice as
much, double precision must find the same; the rows where it does not are computed again. So the answer is always that of
double precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks

PRODUCT_CELLS = 1 << 18
"""How many products are held at once: 1 MB, which stays near the processor."""

FAINT = 2.0**-100
"""Below this, products may have underflowed and no bound holds: such rows are computed again."""


def rounding(d: int) -> float:
    """How far a float32 product of two vectors of length 1 and width d can lie from the exact one, with some room."""
    return 1.01 * (d + 8) * 2.0**-24


def certain_argmax(
    products: Float[Tensor, "*b c"], doubt: Float[Tensor, "*#b"] | float
) -> tuple[Int[Tensor, "*b"], Float[Tensor, "*b"], Bool[Tensor, "*b"]]:
    """The place of the largest of non-negative float32 products, its value, and whether it leads the second by more than
    `doubt`. Overwrites `products`.

    The last bits of each number give way to its place, so that one maximum finds both: four times as fast as asking for
    the place, for a little more doubt.
    """
    columns = products.shape[-1]
    bits = (columns - 1).bit_length()
    places = torch.arange(columns, dtype=torch.int32)
    products.view(torch.int32).bitwise_and_(-(1 << bits)).bitwise_or_(places)
    value = products.amax(-1)
    place = (value.view(torch.int32) & ((1 << bits) - 1)).clamp_max_(columns - 1).long()
    second = products.scatter_(-1, place[..., None], 0.0).amax(-1)
    # Infinities have become NaN, and of those none is sure: a comparison with NaN is false.
    return place, value, value - second > doubt + value * 2.0 ** (bits - 22) + FAINT


def nearest_direction(
    coarse: Float[Tensor, "r d"], fine: Callable[[Int[Tensor, "s"]], Float[Tensor, "s d"]], directions: Float[Tensor, "c d"]
) -> Int[Tensor, "r"]:
    """The place of the largest cosine among `directions` (float64, of length 1) for each vector. Cost r·c·d.

    The vectors are given in float32, of length 1 or less, and some of them in float64 when `fine` is asked.
    """
    table, doubt = directions.float().mT.contiguous(), 2 * rounding(coarse.shape[1])
    held = table.new_empty(max(1, PRODUCT_CELLS // len(directions)), len(directions))
    out = torch.empty(len(coarse), dtype=torch.int64)
    for rows in row_chunks(len(coarse), len(directions), PRODUCT_CELLS):
        # Moved out of the negative numbers, and by more than any cosine's own rounding.
        some = coarse[rows]
        out[rows], _, sure = certain_argmax(torch.mm(some, table, out=held[: len(some)]).add_(1.5), doubt)
        unsure = (~sure).nonzero().squeeze(-1) + rows.start
        if len(unsure):
            out[unsure] = (fine(unsure) @ directions.mT).argmax(-1)
    return out
