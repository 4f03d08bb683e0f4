"""The sorting order of small whole numbers, which hashing and clustering need for all tokens in every round.

Source: ours. Numpy's `stable` sort of 16-bit numbers is a radix sort, several times as fast as torch's comparisons.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

DIGIT = 16
"""Bits that one pass sorts by."""


def stable_order(x: Int[Tensor, "*b n"], below: int) -> Int[Tensor, "*b n"]:
    """The places of the numbers in rising order; equal numbers keep their order. All must lie in 0 … below − 1.

    Cost: n for every sixteen bits of `below`; n·ln n on a device other than the CPU.
    """
    if x.device.type != "cpu":
        return x.argsort(dim=-1, stable=True)
    numbers = x.numpy()
    order = np.argsort(numbers.astype(np.uint16), axis=-1, kind="stable")
    for shift in range(DIGIT, max(0, below - 1).bit_length(), DIGIT):
        digits = (np.take_along_axis(numbers, order, -1) >> shift).astype(np.uint16)
        order = np.take_along_axis(order, np.argsort(digits, axis=-1, kind="stable"), -1)
    return torch.from_numpy(order)
