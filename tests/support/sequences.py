"""Small sequences that every test of a mechanism can use."""

import torch

from longattn_core import Sequence
from longattn_core.contracts.sequence import Levels

PADDINGS = ("none", "right", "left", "holes")


def gaussian(n, *, heads=2, d=8, e=6, seed=0, causal=True, padding="none", dtype=torch.float64, calibrated=True, scale=1.0):
    """Unit Gaussian heads with sentences of 5 to 9 tokens in paragraphs of 3 sentences, and a calibration of 40 tokens."""
    source = torch.Generator().manual_seed(seed)

    def draw(tokens, width):
        return (torch.randn(heads, tokens, width, generator=source, dtype=torch.float64) * scale).to(dtype)

    calibration = None
    if calibrated:
        calibration = Sequence(q=draw(40, d), k=draw(40, d), v=draw(40, e), causal=True, origin="calibration for tests")
    sentence, count = [], 0
    while len(sentence) < n:
        sentence += [count] * (5 + count * 3 % 5)
        count += 1
    groups = torch.tensor(sentence[:n])
    return Sequence(
        q=draw(n, d),
        k=draw(n, d),
        v=draw(n, e),
        causal=causal,
        padding=pad(n, padding),
        levels=Levels(sentence=groups, paragraph=groups // 3),
        calibration=calibration,
    )


def pad(n, kind):
    """A mask of real tokens: all, the first two thirds, the last two thirds, or all but every fifth."""
    if kind == "none":
        return None
    index = torch.arange(n)
    real = {"right": index < max(1, 2 * n // 3), "left": index >= n // 3, "holes": (index % 5 != 3) | (n == 1)}[kind]
    return real
