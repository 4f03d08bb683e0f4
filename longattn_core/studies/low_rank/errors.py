"""How far each low-rank method is from exact attention as its rank grows.

Source: Wang et al. 2020, arXiv:2006.04768; Xiong et al. 2021, arXiv:2102.03902.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import pandas as pd
from pydantic import Field

from longattn_core.measures.fidelity import mean_of_visible, relative_error
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.numerics.block_attention import attend_whole
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.intervals import summarised
from longattn_core.studies.base.run import read_prefix, reseeded
from longattn_core.studies.base.sweep import Point, Row, Sweep, powers_up_to
from longattn_core.studies.low_rank.decomposition import LONGEST, decomposition

Method = Literal["svd", "mean", "gaussian", "fitted", "nystrom"]
METHODS: dict[Method, str] = {
    "svd": "SVD (the best there is)",
    "mean": "Linformer, means",
    "gaussian": "Linformer, Gaussian",
    "fitted": "Linformer, fitted",
    "nystrom": "Nyström",
}
RANDOM: tuple[Method, ...] = ("gaussian",)
CUTOFF = 0.01
"""Nyström's cut-off here: with the true pseudo-inverse small differences between landmarks become large errors."""


class ErrorPoint(Point):
    """One method at one rank, on one draw of the unmasked sequence."""

    source: Source
    head: int
    method: Method
    rank: int
    seed: int

    def mechanism(self) -> LowRank:
        """The method as a mechanism; the SVD's map is taken from the kept decomposition instead."""
        if self.method == "nystrom":
            return LowRank(variant="nystrom", rank=self.rank, cutoff=CUTOFF)
        dials = {"variant": "linformer", "projection": self.method, "rank": self.rank, "seed": self.seed}
        return LowRank.model_validate(dials)


class ErrorAgainstRank(HeadStudy, Sweep[ErrorPoint]):
    """How far each method is from exact attention as its rank grows: of the output, and of the map itself.

    Every method reads the same sequence without a mask, because Linformer and Nyström cannot hide the future. A head of a
    causal model is therefore read as the model never reads it. `seeds` draws of whatever is random: Gaussian projections,
    and a synthetic sequence itself. Tables: `points`; for each of `error` and `map_error` a table of that name with the
    95 % interval of the mean over the seeds.
    """

    key: ClassVar[str] = "low_rank.error_against_rank"
    seeds: int = Field(5, ge=1, le=20)

    def points(self) -> tuple[ErrorPoint, ...]:
        """Every method at every rank for the first draw, then the other draws of what is random."""
        n = read_prefix(self.source, self.head, LONGEST).n
        synthetic = self.source.kind == "synthetic"
        return tuple(
            ErrorPoint(source=reseeded(self.source, seed), head=self.head, method=method, rank=rank, seed=seed)
            for seed in range(self.seeds)
            for rank in powers_up_to(n)
            for method in METHODS
            if seed == 0 or synthetic or method in RANDOM
        )

    def measure(self, point: ErrorPoint) -> Row:
        """Relative errors of the output and of the map, each beside that of the mean of the visible values."""
        whole = decomposition(point.source, point.head, causal=False)
        sequence, exact = whole.sequence, whole.exact
        reference = attend_whole(sequence)
        if point.method == "svd":
            rows = whole.truncated(point.rank)
            output = (rows.to(sequence.v.dtype) @ sequence.v[0])[None]
        else:
            attended = point.mechanism().attend(sequence)
            rows, output = attended.rows()[0].float(), attended.output
        uniform = sequence.real.float().expand_as(exact) / float(sequence.real.sum())
        return {
            "method": METHODS[point.method],
            "rank": point.rank,
            "seed": point.seed,
            "error": float(relative_error(output, reference)),
            "control": float(relative_error(mean_of_visible(sequence), reference)),
            "map_error": float((rows - exact).norm() / exact.norm()),
            "map_control": float((uniform - exact).norm() / exact.norm()),
        }

    @property
    def units(self) -> dict[str, str]:
        """Errors are relative to the size of the exact output, or map."""
        return {"rank": "columns", **dict.fromkeys(("error", "control", "map_error", "map_control"), "relative")}

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        return {name: summarised(rows, by=("method", "rank"), value=name, log=True) for name in ("error", "map_error")}

    def name_of(self, point: ErrorPoint) -> str:
        """The method and its rank."""
        return f"{METHODS[point.method]}, rank {point.rank}"
