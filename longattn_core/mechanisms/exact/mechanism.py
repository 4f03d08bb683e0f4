"""Scaled dot-product attention: every query weighs every key that the mask allows.

Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1. Computed by torch's own kernel or in chunks of queries, so
that n × n is never held (Dao et al. 2022, arXiv:2205.14135). The remedies against dilution change only the scores:
a temperature; scaling by ln n (Nakanishi 2025, scalable softmax, arXiv:2501.19399); YaRN's temperature, which depends on the
ratio of the text's length to the trained length (Peng et al. 2023, arXiv:2309.00071, equation 15).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.exact.map import ExactMap, ExactTrace
from longattn_core.numerics.block_attention import attend_whole
from longattn_core.numerics.softmax import exact_cost


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
    causal_note: ClassVar[str] = (
        "The mask hides later keys, and scaling by ln n counts only the keys that a query may see. YaRN's temperature depends on "
        "the length of the whole text: beyond the trained length, a longer text changes earlier rows."
    )

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
        """What the variant multiplies each query's scores by."""
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
        """The plain score, a temperature of 1, or a trained length of at least n; scaling by ln n has no such setting."""
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
        """This setting alone; for a temperature, four settings that fall to 1."""
        if self.variant == "temperature":
            return tuple(self.with_dials(temperature=t) for t in (4.0, 2.0, 1.4, 1.0))
        return (self,)

    def with_budget(self, keys: int, n: int) -> Self:
        """Unchanged: exact attention reads every key, whatever the budget."""
        return self

    @property
    def label(self) -> str:
        """The title, with the remedy when there is one."""
        names = {"temperature": "temperature", "scalable": "ln n scaling", "yarn": "YaRN temperature"}
        return self.title if self.variant == "plain" else f"Exact, {names[self.variant]}"

    @property
    def depends_on_future(self) -> str | None:
        """YaRN's temperature grows with the length of the whole text."""
        if self.variant == "yarn":
            return (
                "YaRN's temperature depends on the length of the whole text: beyond the trained length, each new token "
                "sharpens all rows, the earlier ones too."
            )
        return None


def _cost(sequence: Sequence) -> Cost:
    return exact_cost(
        heads=sequence.h, n=sequence.n, d=sequence.d, e=sequence.e, causal=sequence.causal, number_bytes=sequence.q.element_size()
    )
