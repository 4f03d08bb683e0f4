"""The output and the map that it implies: they agree, and mask, padding and weights are as the contract says."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.testing.check import expect, expect_close, implied_output, of_sequences, reading
from longattn_core.testing.sequences import PADDINGS, Given

LENGTHS = (1, 2, 63, 64, 65, 257)
"""The shortest sequences, one around a round number of tokens, and one that many block sizes do not divide."""

EVERY_SHAPE = tuple(
    Given(n=n, causal=causal, padding=padding)
    for n in LENGTHS
    for causal in (True, False)
    for padding in (PADDINGS if n < 200 else ("none", "holes"))
)
"""Every length with every mask and padding; the longest with two paddings."""


@of_sequences(*EVERY_SHAPE)
def rows_times_values_are_the_output(setting: Mechanism, sequence: Sequence) -> None:
    """The output is finite, has the shape of the values, and equals `rows @ v + offset`."""
    found = reading(setting, sequence)
    output = found.attended.output
    expect(output.shape == sequence.v.shape, f"an output of shape {list(sequence.v.shape)}, found {list(output.shape)}")
    expect(bool(torch.isfinite(output).all()), "a finite output")
    implied = implied_output(found.attended, found.rows)
    expect_close(implied, output, "rows @ v + offset to be the output", rtol=1e-10, atol=1e-10)


@of_sequences(*EVERY_SHAPE)
def hidden_pairs_are_not_kept(setting: Mechanism, sequence: Sequence) -> None:
    """No pair that the mask hides is kept, nor has weight unless the setting declares that it leaks."""
    found, hidden = reading(setting, sequence), ~sequence.allowed() & _real_pairs(sequence)
    expect(not bool(found.kept[:, hidden].any()), "no pair to be kept that the mask hides")
    if setting.depends_on_future is None or not sequence.causal:
        expect(not bool((found.rows[:, hidden] != 0).any()), "no pair to have weight that the mask hides")


@of_sequences(*EVERY_SHAPE)
def dropped_pairs_have_no_weight(setting: Mechanism, sequence: Sequence) -> None:
    """A pair that is not kept has weight 0."""
    found = reading(setting, sequence)
    weighted = (found.rows != 0) & ~found.kept & _real_pairs(sequence)
    expect(not bool(weighted.any()), f"weight 0 where a pair is not kept, found {int(weighted.sum())} such pairs with weight")


@of_sequences(*EVERY_SHAPE)
def padding_takes_no_part(setting: Mechanism, sequence: Sequence) -> None:
    """A padded query has output 0; no pair with a padded token is kept or has weight."""
    found, padded = reading(setting, sequence), ~_real_pairs(sequence)
    expect(not bool((found.attended.output[:, ~sequence.real] != 0).any()), "the output of a padded query to be 0")
    expect(not bool(found.kept[:, padded].any()), "no pair with padding to be kept")
    expect(not bool((found.rows[:, padded] != 0).any()), "no pair with padding to have weight")


@of_sequences(*EVERY_SHAPE)
def rows_sum_to_one(setting: Mechanism, sequence: Sequence) -> None:
    """Weights are not negative and each row sums to 1, unless `not_stochastic` says why not."""
    if setting.not_stochastic is not None:
        return
    rows = reading(setting, sequence).rows[:, sequence.real]
    expect(float(rows.min()) >= 0, f"weights that are not negative, found {float(rows.min()):.3g}")
    sums = rows.sum(-1)
    expect_close(sums, torch.ones_like(sums), "each row to sum to 1", rtol=1e-10, atol=1e-10)


def _real_pairs(sequence: Sequence) -> Bool[Tensor, "n n"]:
    """Pairs of two real tokens."""
    return sequence.real[:, None] & sequence.real[None, :]
