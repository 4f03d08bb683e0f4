"""Linformer with Gaussian projections on Gaussian heads: its error settles above 1, as the law in `measures.theory.rank` says.

Source: Wang et al. 2020, arXiv:2006.04768, for the method; the law is ours.
"""

from __future__ import annotations

import math
from typing import ClassVar

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.fidelity import relative_error
from longattn_core.mechanisms.low_rank.linformer import gaussian_projections, linformer
from longattn_core.numerics.block_attention import attend_whole
from longattn_core.sequences.sources import Source, SyntheticSource
from longattn_core.sequences.synthetic import Gaussian
from longattn_core.studies.base.intervals import summarised
from longattn_core.studies.base.run import read_prefix, reseeded
from longattn_core.studies.base.study import sequence_of
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.low_rank.decomposition import LONGEST


class LawPoint(Point):
    """One pair of Gaussian projections on one draw of Gaussian heads."""

    source: Source
    rank: int
    shared: bool
    seed: int


def _gaussian_heads() -> SyntheticSource:
    return SyntheticSource(settings=Gaussian(n=512, causal=False))


class GaussianLaw(Sweep[LawPoint]):
    """Linformer with Gaussian E and F on Gaussian heads: its error settles above 1, however many columns it has.

    `shared` takes E = F. Table `curves`: the mean over `seeds` draws of heads and projections, with its interval.
    """

    key: ClassVar[str] = "low_rank.gaussian_law"
    source: Source = Field(default_factory=_gaussian_heads)
    seeds: int = Field(6, ge=2, le=20)

    def points(self) -> tuple[LawPoint, ...]:
        """Ranks from three eighths of n to n, with one projection and with two."""
        n = sequence_of(self.source).n
        return tuple(
            LawPoint(source=reseeded(self.source, seed), rank=rank, shared=shared, seed=seed)
            for seed in range(self.seeds)
            for rank in sorted({max(1, n * eighth // 8) for eighth in range(3, 9)})
            for shared in (False, True)
        )

    def measure(self, point: LawPoint) -> Row:
        """The relative error of the output."""
        sequence = read_prefix(point.source, 0, LONGEST, causal=False)
        e, f = gaussian_projections(sequence, point.rank, point.seed)
        output, _keys = linformer(sequence, e, e if point.shared else f)
        error = float(relative_error(output, attend_whole(sequence)))
        kind = "E = F" if point.shared else "E and F apart"
        return {"projections": kind, "rank": point.rank, "seed": point.seed, "error": error}

    @property
    def units(self) -> dict[str, str]:
        """Relative to the exact output."""
        return {"rank": "columns", "error": "relative"}

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        return {"curves": summarised(rows, by=("projections", "rank"), value="error", log=True)}


def score_variance(sequence: Sequence) -> float:
    """The variance of q·k/√d over all pairs of the first head, which the law needs."""
    scores: Tensor = sequence.q[0] @ sequence.k[0].mT / math.sqrt(sequence.d)
    return float(torch.var(scores, unbiased=False))
