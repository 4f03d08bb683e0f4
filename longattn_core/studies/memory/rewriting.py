"""The same key written again and again: whose value does a running state give back, the newest or all of them?

Source: ours, run through the mechanisms themselves. The keys are those of the sequence, but every `gap`-th is replaced by the
first one, and every query equals that key. With no other key in between, the first of r writes keeps 1/r in a state
that only adds, γ^{(r−1)·gap} of the sum of such powers in one that fades, and (1 − β)^{r−1} in the same way under the delta rule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.memory.states import RUNNING, Running


class Rewriting(HeadStudy):
    """The share of the first and of the newest write among all writes under one key.

    Table `writes`: `variant`, `label`, `writes` (how often the key has been written), `first` and `newest` share, and
    `formula` (the first's, with no other key in between).
    """

    key: ClassVar[str] = "memory.rewriting"
    half_life: float = Field(128.0, ge=1, le=float(1 << 20))
    beta: float = Field(0.5, ge=0.01, le=1)
    decays: Literal["one", "by head"] = "one"
    writes: int = Field(8, ge=2, le=32)
    gap: int = Field(16, ge=1, le=64)
    seed: int = Field(0, ge=0, le=2**31 - 1)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = self.head_in(sequence)
        gap = max(1, min(self.gap, sequence.n // self.writes))
        rewritten = self.rewritten(sequence, head, gap)
        places = torch.arange(0, rewritten.n, gap)
        records = []
        for place, (variant, label) in enumerate(RUNNING.items()):
            progress(place / len(RUNNING), label)
            mechanism = Memory(variant=variant, half_life=self.half_life, beta=self.beta, decays=self.decays, seed=self.seed)
            rows = mechanism.attend(rewritten).rows(places, places)[0].double()
            shares = rows / rows.sum(-1, keepdim=True)
            records += [
                {
                    "variant": variant,
                    "label": label,
                    "writes": count + 1,
                    "first": float(shares[count, 0]),
                    "newest": float(shares[count, count]),
                    "formula": self.formula(variant, count + 1, gap, rewritten),
                }
                for count in range(len(places))
            ]
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {"writes": "writes", "first": "share", "newest": "share", "formula": "share"}
        arrays = {"tokens": token_array(rewritten), "gap": np.array(gap)}
        return Result(study=self, arrays=arrays, tables={"writes": table})

    def rewritten(self, sequence: Sequence, head: int, gap: int) -> Sequence:
        """The first tokens of one head, every gap-th with the first one's key, which is also every query; no padding, causal."""
        n = min(sequence.n, gap * self.writes)
        alone = replace(sequence.select_heads(head).prefix(n), padding=None, causal=True)
        k = alone.k.clone()
        k[:, ::gap] = k[:, :1]
        return replace(alone, k=k, q=k[:, :1].expand_as(k).contiguous())

    def formula(self, variant: Running, writes: int, gap: int, sequence: Sequence) -> float:
        """The first write's share with no other key in between (for gates: with the drawn part at zero)."""
        factor = {"state": 1.0, "delta": 1 - self.beta}.get(variant, 2.0 ** (-gap / self.half_life))
        if variant == "decay" and self.decays == "by head":
            factor = (1 - 2.0 ** (-5 - sequence.head_numbers[0])) ** gap
        powers = np.array([factor**power for power in range(writes)])
        return float(powers[-1] / powers.sum())
