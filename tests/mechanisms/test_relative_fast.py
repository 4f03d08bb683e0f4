"""Schemes of positions through torch's kernel: held against the definition in float64, and what they hold while they run."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from benchmarks.memory import peak_of_a_call
from longattn_core import Sequence
from longattn_core.mechanisms.relative import Relative, fast, mechanism
from tests.mechanisms.test_relative import SETTINGS as EVERY
from tests.oracles.relative import oracle
from tests.support.sequences import gaussian

pytestmark = pytest.mark.slow

FAST = ("music", "music, clipped", "xl", "t5", "alibi", "rope", "yarn", "sinusoidal")
SETTINGS = {name: EVERY[name] for name in FAST}
settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
masks = pytest.mark.parametrize("causal", [True, False], ids=["causal", "unmasked"])

HELD = 250
"""Megabytes above inputs and output at 8,192 tokens and two heads, where a score for each pair would be 512: two to six chunks
of 16 MB are held, and what the allocator keeps between them."""


@settings
@masks
@pytest.mark.parametrize("rows", [7, 50, 1024], ids=["seams", "one stretch", "a short stretch"])
def test_the_kernel_gives_the_definitions_output(setting, causal, rows, monkeypatch):
    monkeypatch.setattr(fast, "ROWS", rows)
    monkeypatch.setattr(fast, "SKEWED_ROWS", rows)
    monkeypatch.setattr(mechanism, "attend_plainly", lambda _: pytest.fail("the plain form ran"))
    # Positions that begin anywhere: only their differences count, but for the sinusoids.
    sequence = replace(gaussian(50, heads=3, d=8, e=8, causal=causal, scale=1.5), positions=torch.arange(11, 61))
    attended = setting.attend(sequence.to(dtype=torch.float32))
    draws = setting.trace(sequence.to(dtype=torch.float32))
    fine = {name: x.double() for name, x in vars(draws).items() if isinstance(x, torch.Tensor) and x.is_floating_point()}
    expected, _, _ = oracle(setting, sequence, replace(draws, **fine))
    assert_close(attended.output.double(), expected, rtol=2e-5, atol=5e-6)  # float32 against float64


@settings
def test_one_token_and_none_behind_it(setting):
    sequence = gaussian(1, d=8, e=8, dtype=torch.float32)
    assert_close(setting.attend(sequence).output, sequence.v, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("change", ["double", "padding", "gradient", "width", "gaps", "value vectors"])
def test_what_the_kernel_cannot_do_takes_the_plain_form(change, monkeypatch):
    sequence = gaussian(40, d=8, e=6 if change == "width" else 8, padding="holes" if change == "padding" else "none")
    sequence = sequence if change == "double" else sequence.to(dtype=torch.float32)
    if change == "gradient":
        sequence = replace(sequence, q=sequence.q.clone().requires_grad_(True))
    if change == "gaps":
        sequence = replace(sequence, positions=torch.arange(40) * 2)
    ran, plain = [], mechanism.attend_plainly
    monkeypatch.setattr(mechanism, "attend_plainly", lambda encoding: ran.append(1) or plain(encoding))
    setting = Relative(variant="shaw" if change == "value vectors" else "alibi")
    attended = setting.attend(sequence)
    assert ran
    expected, _, _ = oracle(setting, sequence.to(dtype=torch.float64), attended.trace)
    assert_close(attended.output.detach().double(), expected, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("variant", ["shaw", "xl", "t5", "alibi", "rope"])
@pytest.mark.slow
def test_gradients_through_the_plain_form_are_those_in_double(variant):
    """Queries, keys and values in single precision: what learns is not sent through the kernel, which has no backward here."""
    base, setting = gaussian(30, d=8, e=8), Relative(variant=variant)
    found = []
    for dtype in (torch.float32, torch.float64):
        learned = [x.to(dtype).requires_grad_(True) for x in (base.q, base.k, base.v)]
        output = setting.attend(Sequence(q=learned[0], k=learned[1], v=learned[2], causal=True)).output
        found.append(torch.autograd.grad(output.square().sum(), learned))
    for single, double in zip(*found, strict=True):
        assert float(double.abs().max()) > 0
        assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


def call(variant, causal, padded, n):
    """A call on two heads, for a process of its own."""
    source = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 64, generator=source) for _ in range(3))
    padding = torch.arange(n) > 3 if padded else None
    sequence, setting = Sequence(q=q, k=k, v=v, causal=causal, padding=padding), Relative(variant=variant)
    return lambda: setting.attend(sequence)


@pytest.mark.parametrize(
    ("variant", "causal", "padded"), [("alibi", True, False), ("xl", False, False), ("alibi", False, True), ("shaw", True, False)]
)
def test_no_scheme_holds_all_pairs(variant, causal, padded):
    held = peak_of_a_call(call, (variant, causal, padded), 8192, 300)
    assert isinstance(held, float), held
    assert held - 4 < HELD  # the output
