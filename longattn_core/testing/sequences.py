"""The sequences that the checks read: short Gaussian heads, with any mask and padding, with sentences and a calibration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Levels, Sequence

Padding: TypeAlias = Literal["none", "right", "left", "holes"]

PADDINGS: tuple[Padding, ...] = get_args(Padding)

CALIBRATION = 40
"""Tokens of the calibration sequence."""


def gaussian(
    n: int,
    *,
    heads: int = 2,
    d: int = 8,
    e: int = 6,
    seed: int = 0,
    causal: bool = True,
    padding: Padding = "none",
    dtype: torch.dtype = torch.float64,
    calibrated: bool = True,
    scale: float = 1.0,
) -> Sequence:
    """Gaussian queries, keys and values of standard deviation `scale`, n tokens long.

    Sentences have 5 to 9 tokens, paragraphs 3 sentences. `calibrated` adds a calibration sequence of 40 tokens.
    """
    source = torch.Generator().manual_seed(seed)

    def draw(tokens: int, width: int) -> Float[Tensor, "h n w"]:
        return (torch.randn(heads, tokens, width, generator=source, dtype=torch.float64) * scale).to(dtype)

    calibration = None
    if calibrated:
        q, k, v = draw(CALIBRATION, d), draw(CALIBRATION, d), draw(CALIBRATION, e)
        calibration = Sequence(q=q, k=k, v=v, causal=True, origin="calibration for tests")
    sentence: list[int] = []
    while len(sentence) < n:
        number = sentence[-1] + 1 if sentence else 0
        sentence += [number] * (5 + number * 3 % 5)
    groups = torch.tensor(sentence[:n])
    levels = Levels(sentence=groups, paragraph=groups // 3)
    q, k, v = draw(n, d), draw(n, d), draw(n, e)
    return Sequence(q=q, k=k, v=v, causal=causal, padding=pad(n, padding), levels=levels, calibration=calibration)


def pad(n: int, kind: Padding) -> Bool[Tensor, "n"] | None:
    """A mask of real tokens: all (None), the first two thirds, the last two thirds, or all but every fifth."""
    if kind == "none":
        return None
    index = torch.arange(n)
    if kind == "right":
        return index < max(1, 2 * n // 3)
    if kind == "left":
        return index >= n // 3
    return (index % 5 != 3) | (n == 1)


@dataclass(frozen=True, kw_only=True)
class Given:
    """A sequence that a check reads, by the arguments of `gaussian`.

    `causal` None stands for a causal mask where the setting reads one, else for no mask.
    """

    n: int
    causal: bool | None = None
    padding: Padding = "none"
    heads: int = 2
    seed: int = 0
    dtype: torch.dtype = torch.float64
    calibrated: bool = True

    def sequence(self, setting: Mechanism) -> Sequence:
        """The sequence itself; the setting may refuse it."""
        if self.causal is not None:
            return _made(self, self.causal)
        causal = _made(self, True)
        return causal if setting.refuses(causal) is None else _made(self, False)


@lru_cache(maxsize=128)
def _made(given: Given, causal: bool) -> Sequence:
    return gaussian(
        given.n,
        heads=given.heads,
        seed=given.seed,
        causal=causal,
        padding=given.padding,
        dtype=given.dtype,
        calibrated=given.calibrated,
    )


def described(sequence: Sequence) -> str:
    """A sequence in a few words, for the message of a failed check."""
    padded = int((~sequence.real).sum())
    parts = [
        f"{sequence.n} tokens",
        f"{sequence.h} heads",
        f"d = {sequence.d}, e = {sequence.e}",
        str(sequence.q.dtype).removeprefix("torch."),
        "causal" if sequence.causal else "unmasked",
        f"{padded} tokens of padding" if padded else "no padding",
        "calibrated" if sequence.calibration is not None else "without calibration",
    ]
    return ", ".join(parts)
