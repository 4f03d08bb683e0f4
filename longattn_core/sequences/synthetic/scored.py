"""Synthetic sequences defined by their scores: all equal, Gaussian, one needle, one sink.

Source: ours; their laws are in `measures.theory.dilution`. The scores of a query of length σ√d with Gaussian keys are independent
N(0, σ²) along its row, exactly and for every d.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from longattn_core.contracts.mechanism import dial
from longattn_core.sequences.synthetic.base import Draws, Head, Synthetic

__all__ = ["Gaussian", "Identical", "Needle", "Sink"]


def _directions(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return functional.normalize(x, dim=-1)


def _noisy(draws: Draws, head: int, n: int, d: int, noise: float) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Queries and keys whose scores are independent N(0, noise²) along each row; their last channel is 0."""
    q, k = torch.zeros(n, d, dtype=torch.float64), torch.zeros(n, d, dtype=torch.float64)
    q[:, :-1] = noise * math.sqrt(d) * _directions(draws.tokens("q", head, n, d - 1))
    k[:, :-1] = draws.tokens("k", head, n, d - 1)
    return q, k


class Identical(Synthetic):
    """Every row of q and k is one row of ±1: all scores are equal, so every weight is 1/n, or 1/(i + 1) when causal.

    With ±1 a score is a sum of whole numbers, which is exact in every order of summation: at sharpness 1 the weights are equal
    bit for bit.
    """

    title: ClassVar[str] = "Identical rows"
    idea: ClassVar[str] = "All tokens are alike (Q = K), so attention can only average."

    kind: Literal["identical"] = "identical"

    def _head(self, draws: Draws, head: int, n: int) -> Head:
        signs = torch.where(draws.tokens("row", head, 1, self.d) < 0, -1.0, 1.0).to(torch.float64).expand(n, -1)
        return signs, signs, draws.tokens("v", head, n, self.e)

    def _facts(self) -> str:
        return "one row of ±1 for all queries and keys"


class Gaussian(Synthetic):
    """q and k are independent N(0, scale²), v is N(0, 1): scores have mean 0 and variance scale⁴."""

    title: ClassVar[str] = "Gaussian"
    idea: ClassVar[str] = "Independent Gaussian queries and keys: nothing to find, no structure to use."

    kind: Literal["gaussian"] = "gaussian"
    scale: float = dial(
        1.0, title="Scale", symbol="s", ge=0.1, le=4, help="Deviation of each channel of q and k; scores have the variance s⁴."
    )

    def _head(self, draws: Draws, head: int, n: int) -> Head:
        q, k = (self.scale * draws.tokens(name, head, n, self.d) for name in ("q", "k"))
        return q, k, draws.tokens("v", head, n, self.e)

    def _facts(self) -> str:
        return f"channels of q and k with deviation {self.scale:g}"


class Needle(Synthetic):
    """One key, the needle, has exactly the score g; along a row all others have independent scores N(0, σ²).

    One channel holds the needle: it is √(g√d) in the needle's key and in the queries that look for it, 0 in all other keys. The
    other d − 1 channels hold the noise, and are 0 in the needle's key. For any other query the needle has the score 0.
    """

    title: ClassVar[str] = "Needle in noise"
    idea: ClassVar[str] = "One relevant key leads all others by g: how long does it keep its weight as n grows?"

    kind: Literal["needle"] = "needle"
    lead: float = dial(8.0, title="Lead g", symbol="g", ge=0, le=40, help="The needle's score; the others average 0.")
    noise: float = dial(1.0, title="Noise σ", symbol="σ", ge=0, le=6, help="Deviation of the other keys' scores.")
    position: int = dial(
        16, title="Needle at token", symbol="p", ge=0, le=65_535, help="Counted from 0; the last token if there are fewer."
    )
    asks: Literal["all", "last"] = dial(
        "all",
        title="Who asks",
        help="Which queries look for the needle.",
        options={"all": "every query", "last": "the last query"},
    )

    def _head(self, draws: Draws, head: int, n: int) -> Head:
        channel = math.sqrt(self.lead * math.sqrt(self.d))
        at = self._at(n)
        q, k = _noisy(draws, head, n, self.d, self.noise)
        q[0 if self.asks == "all" else n - 1 :, -1] = channel
        k[at] = 0.0
        k[at, -1] = channel
        return q, k, draws.tokens("v", head, n, self.e)

    def _at(self, n: int) -> int:
        return min(self.position, n - 1)

    def _tokens(self, draws: Draws, n: int) -> tuple[str, ...]:
        return tuple("needle" if i == self._at(n) else f"t{i}" for i in range(n))

    def _facts(self) -> str:
        who = "every query" if self.asks == "all" else "the last query"
        return f"token {self._at(self.n)} leads by {self.lead:g} for {who}, noise {self.noise:g}"


class Sink(Synthetic):
    """The first key, the sink, has the share p of every row, and a short value.

    Along a row the scores of the other keys are independent N(0, σ²). One channel holds the sink's score: for a query with c
    other visible keys it is ln(p/(1 − p)) + ln c + σ²/2. For σ = 0 the share is then exactly p; for σ > 0 it is p up to the
    fluctuation of the others' sum. The score fits the mask with which the sequence is made.
    """

    title: ClassVar[str] = "Attention sink"
    idea: ClassVar[str] = "The first key swallows most of the weight and adds next to nothing to the output."

    kind: Literal["sink"] = "sink"
    share: float = dial(0.6, title="Sink's share p", symbol="p", ge=0.1, le=0.9, help="The first key's weight in each row.")
    noise: float = dial(1.0, title="Noise σ", symbol="σ", ge=0, le=3, help="Deviation of the other keys' scores.")
    value: float = dial(
        0.1, title="Sink's value", symbol="‖v₀‖", ge=0, le=1, help="Length of the sink's value over √e, the length of the others."
    )

    def _head(self, draws: Draws, head: int, n: int) -> Head:
        others = torch.arange(n, dtype=torch.float64) if self.causal else torch.full((n,), n - 1.0, dtype=torch.float64)
        # The first query under a causal mask sees only the sink: any finite score gives it all the weight.
        score = math.log(self.share / (1 - self.share)) + others.clamp_min(1).log() + self.noise**2 / 2
        q, k = _noisy(draws, head, n, self.d, self.noise)
        q[:, -1] = score
        k[0] = 0.0
        k[0, -1] = math.sqrt(self.d)
        v = draws.tokens("v", head, n, self.e).clone()
        v[0] = self.value * math.sqrt(self.e) * _directions(v[:1])
        return q, k, v

    def _tokens(self, draws: Draws, n: int) -> tuple[str, ...]:
        return ("sink", *(f"t{i}" for i in range(1, n)))

    def _facts(self) -> str:
        return f"the first key takes {self.share:.0%} of each row, noise {self.noise:g}"
