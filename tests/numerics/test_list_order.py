"""Sorting by digits gives the order that a stable comparison gives."""

import pytest
import torch

from longattn_core.numerics.lists.order import stable_order


@pytest.mark.parametrize("below", [1, 2, 300, 1 << 16, (1 << 16) + 1, 131_073, 1 << 33])
def test_the_order_is_that_of_a_stable_comparison(below):
    draws = torch.Generator().manual_seed(below)
    numbers = torch.randint(0, below, (2, 3, 500), generator=draws)
    numbers[..., ::7] = below - 1
    numbers[..., ::5] = below // 2
    assert torch.equal(stable_order(numbers, below), numbers.argsort(dim=-1, stable=True))
    assert torch.equal(stable_order(numbers[1, 2], below), numbers[1, 2].argsort(stable=True))


def test_nothing_has_an_order_too():
    assert stable_order(torch.zeros(2, 0, dtype=torch.int64), 1).shape == (2, 0)
