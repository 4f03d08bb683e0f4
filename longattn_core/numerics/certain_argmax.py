"""The argmax of a vector's products, as double precision finds it: from float32 where its rounding leaves no doubt.

A float32 product of two vectors lies within d·2⁻²⁴·|x||y| of the exact one, and a few times 2⁻²⁴ more for the rounding of
both vectors (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1). If the largest product leads the
second by more than twice this bound, double precision finds the same argmax. All other rows are computed again in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks

PRODUCT_CELLS = 1 << 18
"""How many products are held at once: 1 MB, which stays in the cache."""

FAINT = 2.0**-100
"""Products smaller than this may have underflowed, so the bound does not hold: such rows are not certain."""


def rounding(d: int) -> float:
    """A bound on the error of a float32 product of two vectors of length 1 and width d, with some room."""
    return 1.01 * (d + 8) * 2.0**-24


def certain_argmax(
    products: Float[Tensor, "*b c"], margin: Float[Tensor, "*#b"] | float
) -> tuple[Int[Tensor, "*b"], Float[Tensor, "*b"], Bool[Tensor, "*b"]]:
    """The argmax of non-negative float32 products, its value, and whether it leads the second by more than `margin`.

    Overwrites `products`. The last bits of each number are replaced by its place, so that one maximum finds value and place.
    This is four times as fast as torch's argmax; in return the lead must be a little larger than `margin`.
    """
    columns = products.shape[-1]
    bits = (columns - 1).bit_length()
    places = torch.arange(columns, dtype=torch.int32)
    products.view(torch.int32).bitwise_and_(-(1 << bits)).bitwise_or_(places)
    value = products.amax(-1)
    place = (value.view(torch.int32) & ((1 << bits) - 1)).clamp_max_(columns - 1).long()
    second = products.scatter_(-1, place[..., None], 0.0).amax(-1)
    # Infinities have become NaN, and a comparison with NaN is false: such rows are not certain.
    return place, value, value - second > margin + value * 2.0 ** (bits - 22) + FAINT


def nearest_direction(
    coarse: Float[Tensor, "r d"], fine: Callable[[Int[Tensor, "s"]], Float[Tensor, "s d"]], directions: Float[Tensor, "c d"]
) -> Int[Tensor, "r"]:
    """The place of the largest cosine among `directions` (float64, of length 1) for each vector. Cost r·c·d.

    `coarse` holds the vectors in float32, with length 1 or less; `fine(places)` gives chosen ones of them in float64.
    """
    table, margin = directions.float().mT.contiguous(), 2 * rounding(coarse.shape[1])
    buffer = table.new_empty(max(1, PRODUCT_CELLS // len(directions)), len(directions))
    out = torch.empty(len(coarse), dtype=torch.int64)
    for rows in row_chunks(len(coarse), len(directions), PRODUCT_CELLS):
        vectors = coarse[rows]
        # 1.5 makes all cosines positive, whatever their rounding.
        cosines = torch.mm(vectors, table, out=buffer[: len(vectors)]).add_(1.5)
        out[rows], _, certain = certain_argmax(cosines, margin)
        uncertain = (~certain).nonzero().squeeze(-1) + rows.start
        if len(uncertain):
            out[uncertain] = (fine(uncertain) @ directions.mT).argmax(-1)
    return out
