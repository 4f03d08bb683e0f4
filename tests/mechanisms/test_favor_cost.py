"""FAVOR+'s formula of its cost, against what the way that runs multiplies and holds."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from longattn_core import mechanism
from longattn_core.mechanisms.favor import fast, plain
from tests.support.sequences import gaussian
from tests.support.sizes import largest_tensor

FACTORS = {"mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "addmm": (1, 2), "addmm_": (1, 2), "baddbmm": (1, 2), "baddbmm_": (1, 2)}
"""Which arguments of a product are its factors."""


class Products(TorchDispatchMode):
    """Counts the multiply-adds of matrix products."""

    def __init__(self):
        super().__init__()
        self.counted = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in FACTORS:
            left, right = (args[place] for place in FACTORS[name])
            self.counted += math.prod(left.shape) * (right.shape[-1] if right.ndim > 1 else 1)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fast", "plain"])
@pytest.mark.parametrize("variant", ["positive", "hyperbolic"])
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
def test_the_formula_counts_what_is_multiplied(causal, variant, dtype):
    sequence = gaussian(1280, heads=2, d=16, e=16, causal=causal, dtype=dtype, scale=0.5)
    setting = mechanism("favor", variant=variant, features=64)
    with Products() as products:
        cost = setting.attend(sequence).cost
    # The column of ones is a sum in the fast way; the plain way's halves are rounded up to whole chunks.
    assert cost.multiply_adds == pytest.approx(products.counted, rel=0.04)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fast", "plain"])
def test_the_formula_counts_the_tile_that_is_held(dtype):
    """Without a mask: of 512 tokens in the fast way, of 1,024 in the plain one, however many follow."""
    tile = fast.ROWS if dtype == torch.float32 else plain.ROWS
    setting = mechanism("favor", features=256)
    costs, largest = [], []
    for n in (2048, 4096):
        sequence = gaussian(n, heads=1, d=8, e=8, causal=False, dtype=dtype, scale=0.5)
        largest.append(largest_tensor(lambda one=sequence: costs.append(setting.attend(one).cost)))
    assert largest == [tile * 256] * 2
    assert costs[0].bytes_peak == costs[1].bytes_peak
    # The plain way holds four such at once: exponents, weights, and what they are made of.
    tiles = 1 if dtype == torch.float32 else 4
    size = 4 if dtype == torch.float32 else 8
    assert tiles * tile * 256 <= costs[0].bytes_peak / size < 1.25 * tiles * tile * 256
