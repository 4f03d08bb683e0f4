"""Exact attention of a whole sequence: torch's kernel where it may be used, against the streamed form in float64."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from longattn_core.numerics import block_attention
from longattn_core.numerics.block_attention import attend_whole
from longattn_core.numerics.softmax import streaming_attention
from tests.support.sequences import gaussian

SINGLE = {"rtol": 2e-5, "atol": 2e-6}
"""Float32 against float64: sums of a few hundred terms of size 1 in another order."""


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])
@pytest.mark.parametrize("n", [1, 2, 65, 700])
def test_the_kernel_gives_what_the_streamed_form_gives(n, causal, monkeypatch):
    sequence = gaussian(n, d=8, e=8, causal=causal, scale=2.0)
    expected = streaming_attention(sequence)

    def never(_sequence):
        raise AssertionError("the plain form ran")

    monkeypatch.setattr(block_attention, "streaming_attention", never)
    assert_close(attend_whole(sequence.to(dtype=torch.float32)).double(), expected, **SINGLE)


@pytest.mark.parametrize("change", ["double", "padding", "gradient", "width"])
def test_what_the_kernel_cannot_do_is_streamed(change, monkeypatch):
    sequence = gaussian(40, d=8, e=6 if change == "width" else 8, padding="holes" if change == "padding" else "none")
    sequence = sequence if change == "double" else sequence.to(dtype=torch.float32)
    if change == "gradient":
        sequence = replace(sequence, q=sequence.q.clone().requires_grad_(True))
    ran = []
    monkeypatch.setattr(block_attention, "streaming_attention", lambda s: ran.append(s) or streaming_attention(s))
    output = attend_whole(sequence)
    assert len(ran) == 1
    assert_close(output, streaming_attention(sequence), rtol=0, atol=0)
    if change == "padding":
        assert not bool((output[:, ~sequence.real] != 0).any())
