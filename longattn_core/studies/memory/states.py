"""How long a running state keeps what was written: what is left of a write, and what a planted token's key still reads.

Source: closed forms of our own beside what is measured. A decay γ leaves γ^lag. Under the delta rule a key that points anywhere
in d dimensions takes β/d of a write away on average, so (1 − β/d)^lag is left if keys were random; real keys are not.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from longattn_core.contracts.mechanism import Refused
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.delta import DeltaMap
from longattn_core.mechanisms.memory.gates import feature
from longattn_core.mechanisms.memory.states import StateMap
from longattn_core.studies.base.head_study import HeadStudy, Parts
from longattn_core.studies.base.query import query_place, token_array, watched_key
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result

Running = Literal["state", "decay", "gated", "delta"]

RUNNING: dict[Running, str] = {"state": "running state", "decay": "fading", "gated": "with gates", "delta": "delta rule"}
"""The running states, in words."""


class StateLife(HeadStudy):
    """The four running states on one sequence, at one half-life and strength.

    Table `survival`: `variant`, `label`, `lag`, `left` (mean share of a write that its own key still reads) and `formula`.
    Table `norms`: `token`, `norm` (Frobenius norm of the state, as a share of its last).
    Table `recall`: for the planted token, at each snapshot after it: `age`, `cosine` of what its own key reads with its own
    value, and `control`, the cosine of the mean of all values so far. `words["refusal"]` where there is no mask.
    """

    key: ClassVar[str] = "memory.states"
    half_life: float = Field(128.0, ge=1, le=float(1 << 20))
    beta: float = Field(0.5, ge=0.01, le=1)
    decays: Literal["one", "by head"] = "one"
    planted: int | None = Field(None, ge=0, le=131072)
    seed: int = Field(0, ge=0, le=2**31 - 1)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        context = Parts(arrays={"tokens": token_array(sequence)})
        return self._result_of(context, lambda: self._measure(sequence, progress))

    def _measure(self, sequence: Sequence, progress: Progress) -> Parts:
        if not sequence.causal:
            raise Refused("Without a mask a state has no before and after: it holds every token alike.")
        head = self.head_in(sequence)
        planted = self.place(sequence, head)
        lags = torch.tensor([0, *(1 << power for power in range((sequence.n - 1).bit_length()))])
        survival, norms, recall = [], [], []
        for place, (variant, label) in enumerate(RUNNING.items()):
            progress(place / len(RUNNING), label)
            attended = kept_run(self.source, self.memory(variant)).attended_as(StateMap)  # type: ignore[type-abstract]
            names = {"variant": variant, "label": label}
            left = attended.survival(lags)[head].double().tolist()
            survival += [
                {**names, "lag": lag, "left": share, "formula": self.formula(variant, lag, sequence, head)}
                for lag, share in zip(lags.tolist(), left, strict=True)
            ]
            states = attended.trace.states[head].double()
            ends = attended.trace.ends
            sizes = states.flatten(1).norm(dim=-1)
            norms += [
                {**names, "token": end + 1, "norm": size}
                for end, size in zip(ends.tolist(), (sizes / sizes[-1].clamp_min(1e-12)).tolist(), strict=True)
            ]
            recall += [{**names, **row} for row in _recalled(attended, sequence, head, planted)]
        tables = {
            "survival": pd.DataFrame.from_records(survival),
            "norms": pd.DataFrame.from_records(norms),
            "recall": pd.DataFrame.from_records(recall),
        }
        tables["survival"].attrs["units"] = {"lag": "tokens", "left": "share", "formula": "share"}
        tables["norms"].attrs["units"] = {"token": "tokens", "norm": "share of the last"}
        tables["recall"].attrs["units"] = {"age": "tokens", "cosine": "cosine", "control": "cosine"}
        return Parts(arrays={"planted": np.array(planted)}, tables=tables)

    def memory(self, variant: Running) -> Memory:
        """One of the four, with the dials of this study that it has."""
        return Memory(variant=variant, half_life=self.half_life, beta=self.beta, decays=self.decays, seed=self.seed)

    def place(self, sequence: Sequence, head: int) -> int:
        """The planted token: the one asked for, or the key that the last token weighs most (not the first token, not itself)."""
        if self.planted is not None and self.planted < sequence.n:
            return self.planted
        last = query_place(sequence)
        return watched_key(exact_rows(sequence, last, head)[0, 0], last)

    def formula(self, variant: Running, lag: int, sequence: Sequence, head: int) -> float:
        """What is left after `lag` tokens by the closed form: exact for a state and one decay, otherwise only a comparison."""
        if variant == "state":
            return 1.0
        if variant == "delta":
            return (1 - self.beta / sequence.d) ** lag
        if variant == "decay" and self.decays == "by head":
            return float((1 - 2.0 ** (-5 - sequence.head_numbers[head])) ** lag)
        return float(2.0 ** (-lag / self.half_life))


def _recalled(attended: StateMap, sequence: Sequence, head: int, planted: int) -> list[dict[str, float]]:
    """What the planted key reads from each snapshot after it, by direction, beside the mean of all values so far."""
    ends = attended.trace.ends
    after = (ends >= planted).nonzero().squeeze(-1)
    key, value = sequence.k[head, planted].double(), sequence.v[head, planted].double()
    states = attended.trace.states[head, after].double()
    reads = (normalize(key, dim=-1) if isinstance(attended, DeltaMap) else feature(key)) @ states
    real = sequence.real[:, None]
    means = (sequence.v[head].double() * real).cumsum(0) / real.double().cumsum(0).clamp_min(1)
    return [
        {"age": float(end - planted), "cosine": _cosine(read, value), "control": _cosine(means[end], value)}
        for end, read in zip(ends[after].tolist(), reads, strict=True)
    ]


def _cosine(a: Float[Tensor, "e"], b: Float[Tensor, "e"]) -> float:
    return float(cosine_similarity(a, b, dim=0)) if float(a.norm()) > 0 and float(b.norm()) > 0 else math.nan
