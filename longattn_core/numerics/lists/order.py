"""The order of small whole numbers, as hashing and clustering need it of every token in every round.

Source: ours; numpy sorts sixteen bits at a time by counting (its `stable` sort), several times as fast as torch compares.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

DIGIT = 16
"""Bits that are sorted by in one pass."""


def stable_order(x: Int[Tensor, "*b n"], below: int) -> Int[Tensor, "*b n"]:
    """The places of numbers of 0 … below − 1 (there must be no others) in rising order, equal ones as they stand.

    Cost n for every sixteen bits of `below`, on a device other than the CPU n·ln n.
    """
    if x.device.type != "cpu":
        return x.argsort(dim=-1, stable=True)
    numbers = x.numpy()
    order = np.argsort(numbers.astype(np.uint16), axis=-1, kind="stable")
    for shift in range(DIGIT, max(0, below - 1).bit_length(), DIGIT):
        digits = (np.take_along_axis(numbers, order, -1) >> shift).astype(np.uint16)
        order = np.take_along_axis(order, np.argsort(digits, axis=-1, kind="stable"), -1)
    return torch.from_numpy(order)
