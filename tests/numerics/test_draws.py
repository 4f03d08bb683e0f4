"""Draws that are kept."""

import pytest
import torch

from longattn_core.numerics.draws import haar_blocks, normal


@pytest.mark.parametrize(
    "draw", [lambda: normal(3, "kept", 4, like=torch.zeros(1, dtype=torch.float64)), lambda: haar_blocks(3, "kept", 4, 4)]
)
def test_what_is_written_into_a_draw_is_not_drawn_again(draw):
    first = draw()
    kept = first.clone()
    first.zero_()
    assert torch.equal(draw(), kept)
