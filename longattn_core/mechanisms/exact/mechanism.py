"""Scaled dot-product attention: every query weighs every key that the mask allows.

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1. Computed by torch's own kernel or in chunks of queries, so
that n × n is never held (Dao et al. 2022, arXiv:2205.14135). The remedies against dilution change the score and nothing else:
a temperature; scaling by ln n (Nakanishi 2025, scalable softmax, arXiv:2501.19399); YaRN's temperature, which goes
with the ratio of lengths (Peng et al. 2023, arXiv:2309.00071, equation 15).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Family, Mechanism, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.block_attention import attend_whole
from longattn_core.numerics.maps.listed import ScoredMap
from longattn_core.numerics.softmax import exact_cost


class ExactReason(StrEnum):
    """Why exact attention gives a pair its weight."""

    OUTWEIGHED = "outweighed"
    LEADS = "leads"


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactTrace:
    """The factor on each query's scores, `[n]`: 1 for plain scaled dot-product attention."""

    factor: Float[Tensor, "n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactMap(ScoredMap):
    """The softmax map itself."""

    trace: ExactTrace

    def _scores(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        sequence = self.sequence
        q = sequence.q[heads][:, queries] * self.trace.factor[queries, None]
        return q @ sequence.k[heads].mT / math.sqrt(sequence.d)

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        rows = self.rows(query, None, head)[0, 0]
        rank = int((rows > rows[key]).sum()) + 1
        visible = int(self.sequence.allowed(query).sum())
        facts = {"rank": rank, "visible": visible, "uniform": 1 / visible}
        reason = ExactReason.LEADS if rank == 1 else ExactReason.OUTWEIGHED
        place = "the largest weight" if rank == 1 else f"the weight of rank {rank}"
        shares = f"({weight:.3g}; an equal share is {1 / visible:.3g})"
        text = f"Exact attention sees every key; this one has {place} of {visible} {shares}."
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


class Exact(Mechanism):
    """Softmax of q·k/√d over all visible keys, with an optional remedy against dilution."""

    key: ClassVar[str] = "exact"
    title: ClassVar[str] = "Exact attention"
    idea: ClassVar[str] = "Weigh every key by the softmax of its score."
    paper: ClassVar[str] = "Vaswani et al. 2017, arXiv:1706.03762"
    complexity: ClassVar[str] = "n²·d"
    family: ClassVar[Family] = "reference"
    order: ClassVar[int] = 0
    quadratic: ClassVar[bool] = True

    variant: Literal["plain", "temperature", "scalable", "yarn"] = dial(
        "plain",
        title="Score",
        help="What the scores are multiplied by before the softmax.",
        options={
            "plain": "as in the paper",
            "temperature": "divided by a temperature",
            "scalable": "times s·ln n",
            "yarn": "YaRN's temperature",
        },
    )
    temperature: float = dial(
        0.7,
        title="Temperature τ",
        symbol="τ",
        ge=0.05,
        le=20,
        scale="log10",
        when={"variant": ("temperature",)},
        help="Scores are divided by τ; below 1 the weights are sharper.",
    )
    scalable: float = dial(
        0.43,
        title="Scale s",
        symbol="s",
        ge=0.01,
        le=2,
        when={"variant": ("scalable",)},
        help="Scores are multiplied by s·ln of the number of visible keys; the paper learns s, 0.43 is its mean.",
    )
    trained: int = dial(
        2048,
        title="Trained length",
        symbol="L",
        ge=16,
        le=131072,
        scale="log2",
        when={"variant": ("yarn",)},
        help="The length that the model was trained on; YaRN's temperature falls with n over this length.",
    )

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost: n²·(d + e) per head under no mask, half of it under a causal one; at most 32 MB above the output."""
        factor = self._factor(sequence)
        output = attend_whole(replace(sequence, q=sequence.q * factor[:, None]))
        return ExactMap(mechanism=self, sequence=sequence, output=output, trace=ExactTrace(factor=factor), cost=_cost(sequence))

    def _factor(self, sequence: Sequence) -> Float[Tensor, "n"]:
        ones = torch.ones(sequence.n, dtype=sequence.q.dtype, device=sequence.q.device)
        if self.variant == "temperature":
            return ones / self.temperature
        if self.variant == "scalable":
            real = sequence.real.to(ones.dtype)
            visible = real.cumsum(0) if sequence.causal else real.sum() * ones
            return self.scalable * visible.clamp_min(1).log()
        if self.variant == "yarn":
            ratio = max(1.0, sequence.n / self.trained)
            return ones * (0.1 * math.log(ratio) + 1) ** 2
        return ones

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """Every pair that the mask allows."""
        return _cost(sequence)

    def exact_setting(self, n: int) -> Self | None:
        """The plain score, or a temperature of 1; the other remedies never are exact attention."""
        return {
            "plain": self,
            "temperature": self.with_dials(temperature=1.0),
            "yarn": self.with_dials(trained=max(16, n)) if n <= 131072 else None,
        }.get(self.variant)

    @property
    def no_exact_setting(self) -> str | None:
        """Scaling by ln n differs from one query to the next under a causal mask."""
        if self.variant == "scalable":
            return "The factor s·ln n is 1 for at most one number of visible keys, so no setting is plain softmax."
        return None

    def ladder(self, n: int) -> tuple[Self, ...]:
        """One rung; for a temperature, a few that come down to 1."""
        if self.variant == "temperature":
            return tuple(self.with_dials(temperature=t) for t in (4.0, 2.0, 1.4, 1.0))
        return (self,)

    def with_budget(self, keys: int, n: int) -> Self:
        """Exact attention looks at every key, whatever the budget."""
        return self

    @property
    def label(self) -> str:
        """The title, with the remedy when there is one."""
        names = {"temperature": "temperature", "scalable": "ln n scaling", "yarn": "YaRN temperature"}
        return self.title if self.variant == "plain" else f"Exact, {names[self.variant]}"


def _cost(sequence: Sequence) -> Cost:
    return exact_cost(
        heads=sequence.h, n=sequence.n, d=sequence.d, e=sequence.e, causal=sequence.causal, number_bytes=sequence.q.element_size()
    )
