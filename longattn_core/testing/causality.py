"""Under a causal mask, what comes later must not change what came before."""

from __future__ import annotations

from dataclasses import replace

import torch

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.testing.check import expect_close, of_sequences
from longattn_core.testing.sequences import Given

SURPRISE = 3.0
"""Standard deviation of the future that is put in the place of the old one."""


@of_sequences(
    Given(n=80, causal=True, seed=0),
    Given(n=128, causal=True, seed=1),
    Given(n=186, causal=True, seed=2),
    Given(n=100, causal=True, calibrated=False),
)
def the_past_does_not_depend_on_the_future(setting: Mechanism, sequence: Sequence) -> None:
    """When the second half changes, no output and no row of the first changes, unless `depends_on_future` says how one does."""
    if setting.depends_on_future is not None or not sequence.causal:
        return
    cut = max(1, sequence.n // 2)
    before, after = setting.attend(sequence), setting.attend(_with_another_future(sequence, cut))
    what = f"the tokens before {cut} to keep their %s when all later tokens change"
    expect_close(after.output[:, :cut], before.output[:, :cut], what % "outputs", rtol=0, atol=1e-12)
    expect_close(after.rows(slice(0, cut)), before.rows(slice(0, cut)), what % "rows", rtol=0, atol=1e-12)


def _with_another_future(sequence: Sequence, cut: int) -> Sequence:
    """The sequence with new queries, keys and values from token `cut` on."""
    source = torch.Generator().manual_seed(50)
    past = (torch.arange(sequence.n) < cut)[:, None].to(sequence.q.device)

    def changed(x: torch.Tensor) -> torch.Tensor:
        return torch.where(past, x, SURPRISE * torch.randn(x.shape, generator=source, dtype=torch.float64).to(x))

    return replace(sequence, q=changed(sequence.q), k=changed(sequence.k), v=changed(sequence.v))
