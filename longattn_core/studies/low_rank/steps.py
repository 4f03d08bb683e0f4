"""The methods step by step: one singular direction at a time, Linformer's mixes, Nyström's three factors.

Source: Wang et al. 2020, arXiv:2006.04768, equation 7; Xiong et al. 2021, arXiv:2102.03902, equation 13.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.mechanisms.low_rank.linformer import LinformerMap
from longattn_core.mechanisms.low_rank.nystrom import NystromMap
from longattn_core.mechanisms.low_rank.pieces import softmax_over
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.pooling import pooled_by_size
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.run import read_prefix, run_mechanism
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.low_rank.decomposition import CELLS, decomposition

LONGEST_STEPPED = 256
"""Tokens of a step-by-step picture: more could not be told apart."""
MOST_DIRECTIONS = 12


class Direction(HeadStudy):
    """One singular direction of the exact map, and the sum of all up to it.

    Arrays: `query side`, `key side` `[n]` (σ½·u and σ½·v, signs such that the key side sums to 0 or more), `one`, `sum`,
    `difference` = sum − exact `[cells cells]`, `value` σ, `held` its share of Σσ², `so_far` that of all up to it; `tokens`.
    """

    key: ClassVar[str] = "low_rank.direction"
    direction: int = Field(0, ge=0, le=1023)

    def _run(self, progress: Progress) -> Result:
        whole = decomposition(self.source, self.head)
        index = min(self.direction, len(whole.values) - 1)
        sign = -1.0 if float(whole.vh[index].sum()) < 0 else 1.0
        value = whole.values[index].float()
        left, right = whole.u[:, index] * sign * value.sqrt(), whole.vh[index] * sign * value.sqrt()
        total = whole.truncated(index + 1)
        energy = whole.values.square()
        arrays = {
            "query side": left.numpy(),
            "key side": right.numpy(),
            "one": pooled_by_size((left[:, None] * right).numpy(), CELLS),
            "sum": pooled_by_size(total.numpy(), CELLS),
            "difference": pooled_by_size((total - whole.exact).numpy(), CELLS),
            "value": np.array(float(value)),
            "held": np.array(float(energy[index] / energy.sum())),
            "so_far": np.array(float(energy[: index + 1].sum() / energy.sum())),
            "tokens": token_array(whole.sequence),
        }
        return Result(study=self, arrays=arrays, words={"origin": whole.sequence.origin})


class _Stepped(HeadStudy):
    """A method on the first tokens of a head, read without a mask; its matrices, and `exact [n n]` and `tokens`."""

    @abstractmethod
    def _matrices(self, sequence: Sequence) -> Mapping[str, Tensor]:
        """The matrices of the method's steps, by name."""

    def _run(self, progress: Progress) -> Result:
        sequence = read_prefix(self.source, self.head, LONGEST_STEPPED, causal=False)
        matrices = {**self._matrices(sequence), "exact": exact_rows(sequence)[0]}
        arrays = {name: matrix.float().cpu().numpy().copy() for name, matrix in matrices.items()}
        return Result(study=self, arrays={**arrays, "tokens": token_array(sequence)}, words={"origin": sequence.origin})


class Mixed(_Stepped):
    """Linformer on the first tokens, unmasked: every matrix on the way from keys and values to the output.

    Arrays: `keys [n d]`, `mix of keys [k n]` (E), `mixed keys [k d]` (E·K), `weights [n k]` = softmax(Q(EK)ᵀ/√d),
    `values [n e]`, `mix of values [k n]` (F), `mixed values [k e]` (F·V), `lifted [n n]` = weights·F, `exact [n n]`; `tokens`.
    """

    key: ClassVar[str] = "low_rank.mixed"
    rank: int = Field(16, ge=1, le=4096)
    projection: Literal["mean", "gaussian", "fitted"] = "mean"
    seed: int = Field(0, ge=0, le=2**31 - 1)

    def _matrices(self, sequence: Sequence) -> Mapping[str, Tensor]:
        mechanism = LowRank(variant="linformer", rank=self.rank, projection=self.projection, seed=self.seed)
        attended = run_mechanism(mechanism, sequence).attended_as(LinformerMap)
        left, right = attended.factors()
        mix_of_keys, mix_of_values = attended.trace.e, right[0].mT
        return {
            "keys": sequence.k[0],
            "mix of keys": mix_of_keys if mix_of_keys.ndim == 2 else mix_of_keys[0],
            "mixed keys": attended.mixed_keys[0],
            "weights": left[0],
            "values": sequence.v[0],
            "mix of values": mix_of_values,
            "mixed values": mix_of_values @ sequence.v[0].to(mix_of_values.dtype),
            "lifted": attended.rows()[0],
        }


class Landmarks(_Stepped):
    """Nyström on the first tokens, unmasked: its three factors and their product.

    Arrays: `near [n k]` = softmax(QK̃ᵀ), `between [k k]` = softmax(Q̃K̃ᵀ), `inverse [k k]` its pseudo-inverse, `far [k n]` =
    softmax(Q̃Kᵀ), `product [n n]`, `exact [n n]`; `tokens`.
    """

    key: ClassVar[str] = "low_rank.landmarks"
    rank: int = Field(16, ge=1, le=1024)
    cutoff: float = Field(0.01, ge=0, le=0.5)

    def _matrices(self, sequence: Sequence) -> Mapping[str, Tensor]:
        mechanism = LowRank(variant="nystrom", rank=self.rank, cutoff=self.cutoff)
        attended = run_mechanism(mechanism, sequence).attended_as(NystromMap)
        trace, (_left, right) = attended.trace, attended.factors()
        return {
            "near": softmax_over(sequence.q[0].double(), trace.landmark_keys[0]),
            "between": softmax_over(trace.landmark_queries[0], trace.landmark_keys[0]),
            "inverse": trace.inverse[0],
            "far": right[0].mT,
            "product": attended.rows()[0],
        }
