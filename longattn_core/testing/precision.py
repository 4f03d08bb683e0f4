"""What must not change the output: the precision, a second run, other heads in the batch; and gradients."""

from __future__ import annotations

from dataclasses import replace

import torch

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.testing.check import expect, expect_close, of_sequences
from longattn_core.testing.sequences import Given


@of_sequences(Given(n=130, seed=3))
def float32_agrees_with_float64(setting: Mechanism, sequence: Sequence) -> None:
    """In float32 the output is float32, and the median row lies within 1e-4 of the one in float64."""
    fine, coarse = setting.attend(sequence), setting.attend(sequence.to(dtype=torch.float32))
    expect(coarse.output.dtype == torch.float32, f"an output in float32, found {coarse.output.dtype}")
    # A choice, of a bucket or of the top k, may differ where two values tie within rounding: so the median row counts.
    difference = (coarse.output.double() - fine.output).norm(dim=-1) / fine.output.norm(dim=-1).clamp_min(1e-3)
    median = float(difference.median())
    expect(median < 1e-4, f"a relative difference below 1e-4 in the median row, found {median:.3g}")


@of_sequences(Given(n=100))
def the_seed_decides_every_draw(setting: Mechanism, sequence: Sequence) -> None:
    """The same seed gives the same bits, and nothing is drawn from torch's global generator."""
    before = torch.random.get_rng_state()
    first, second = setting.attend(sequence), setting.attend(sequence)
    expect(torch.equal(first.output, second.output), "two runs with one seed to give the same output")
    expect(torch.equal(first.rows(), second.rows()), "two runs with one seed to give the same rows")
    expect(torch.equal(before, torch.random.get_rng_state()), "torch's global generator to be left alone")


@of_sequences(Given(n=100, heads=3), Given(n=100, heads=3, dtype=torch.float32))
def each_head_is_computed_alone(setting: Mechanism, sequence: Sequence) -> None:
    """A head gives the same output and the same rows alone as in a batch."""
    tolerance = 1e-11 if sequence.q.dtype == torch.float64 else 2e-5
    together = setting.attend(sequence)
    for head in range(sequence.h):
        alone = setting.attend(sequence.select_heads(head))
        both = ((together.output[head], alone.output[0], "output"), (together.rows(heads=head)[0], alone.rows()[0], "rows"))
        for batched, single, name in both:
            what = f"head {head} to have the same {name} in the batch as alone"
            expect_close(batched, single, what, rtol=tolerance, atol=tolerance)


@of_sequences(Given(n=70))
def gradients_reach_queries_keys_and_values(setting: Mechanism, sequence: Sequence) -> None:
    """Gradients of the output are finite and not all 0, unless `differentiable` is False."""
    tensors = {name: getattr(sequence, name).clone().requires_grad_(True) for name in ("q", "k", "v")}
    output = setting.attend(replace(sequence, **tensors)).output
    same = setting.attend(sequence).output
    expect_close(output.detach(), same, "the output with gradients to be the one without", rtol=1e-9, atol=1e-9)
    if not output.requires_grad:
        expect(not setting.differentiable, "the output to require gradients, or `differentiable` to be False")
        return
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    gradients = torch.autograd.grad((output * weights).sum(), list(tensors.values()), allow_unused=True)
    if not setting.differentiable:
        return
    for name, gradient in zip(tensors, gradients, strict=True):
        expect(gradient is not None, f"a gradient to reach {name}, or `differentiable` to be False")
        expect(bool(torch.isfinite(gradient).all()), f"a finite gradient of {name}")
        expect(float(gradient.abs().max()) > 0, f"a gradient of {name} that is not 0 everywhere")
