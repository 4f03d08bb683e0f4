"""Error against rank, rank against length, and the law of Gaussian mixes: sweeps of independent points.

Source: Wang et al. 2020, arXiv:2006.04768; Xiong et al. 2021, arXiv:2102.03902; the law is `measures.theory.rank`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.fidelity import mean_of_visible, relative_error
from longattn_core.measures.spread import effective_rank, ranks
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.mechanisms.low_rank.linformer import gaussian_projections, linformer
from longattn_core.numerics.block_attention import attend_whole
from longattn_core.sequences.sources import Source, SyntheticSource
from longattn_core.sequences.synthetic import Gaussian
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.intervals import summarised
from longattn_core.studies.base.run import read_prefix
from longattn_core.studies.base.study import Result, sequence_of
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.low_rank.spectrum import LONGEST, decomposition, rank_of, uniform_values

LONGEST_RANKED = 2048
"""Tokens up to which the rank is followed: singular values of 2,048 take about ten seconds."""

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
"""Nyström below full rank leaves out singular values under 1 %: the true inverse makes small differences large."""


def reseeded(source: Source, seed: int) -> Source:
    """Another draw of a synthetic sequence; a text or an upload is the same whatever the seed."""
    if source.kind != "synthetic" or seed == 0:
        return source
    settings = source.settings.with_dials(seed=(source.settings.seed + seed) % 2**31)
    return SyntheticSource.model_validate({"settings": settings.model_dump()})


def steps_to(most: int, least: int = 1) -> tuple[int, ...]:
    """Powers of two from `least` up to `most`, and `most` itself."""
    powers = [2**i for i in range(20) if least <= 2**i < most]
    return (*powers, most)


class ErrorPoint(Point):
    """One method at one rank, on one draw of the unmasked sequence."""

    source: Source
    head: int
    method: Method
    rank: int
    seed: int


class ErrorAgainstRank(HeadStudy, Sweep[ErrorPoint]):
    """How far each method is from exact attention as its rank grows: of the output, and of the map itself.

    Every method reads the same sequence without a mask, which Linformer and Nyström cannot honour: for a causal model's
    heads an unmasked reading. `seeds` draws of whatever is random: Gaussian projections, and a synthetic sequence
    itself. Tables: `points`; `curves` with the 95 % interval of the mean over seeds, for each of `error` and `map_error`.
    """

    key: ClassVar[str] = "low_rank.error_against_rank"
    seeds: int = Field(5, ge=1, le=20)

    def points(self) -> tuple[ErrorPoint, ...]:
        """Every method at every rank for the first draw, then the other draws of what is random."""
        n = read_prefix(self.source, self.head, LONGEST).n
        drawn = self.source.kind == "synthetic"
        return tuple(
            ErrorPoint(source=reseeded(self.source, seed), head=self.head, method=method, rank=rank, seed=seed)
            for seed in range(self.seeds)
            for rank in steps_to(n)
            for method in METHODS
            if seed == 0 or drawn or method in RANDOM
        )

    def measure(self, point: ErrorPoint) -> Row:
        """Relative errors of one method: of the output (beside its control) and of the map."""
        whole = decomposition(point.source, point.head, causal=False)
        sequence, exact = whole.sequence, whole.exact
        reference = attend_whole(sequence)
        if point.method == "svd":
            k = min(point.rank, len(whole.values))
            rows = (whole.u[:, :k] * whole.values[:k].float()) @ whole.vh[:k]
            output = (rows.to(sequence.v.dtype) @ sequence.v[0])[None]
        else:
            attended = _method(point).attend(sequence)
            rows, output = attended.rows()[0].float(), attended.output
        control = mean_of_visible(sequence)
        plain = sequence.real.float().expand_as(exact) / float(sequence.real.sum())
        return {
            "method": METHODS[point.method],
            "rank": point.rank,
            "seed": point.seed,
            "error": float(relative_error(output, reference)),
            "control": float(relative_error(control, reference)),
            "map_error": float((rows - exact).norm() / exact.norm()),
            "map_control": float((plain - exact).norm() / exact.norm()),
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


def _method(point: ErrorPoint) -> Mechanism:
    if point.method == "nystrom":
        return LowRank(variant="nystrom", rank=point.rank, cutoff=CUTOFF)
    return LowRank.model_validate({"variant": "linformer", "projection": point.method, "rank": point.rank, "seed": point.seed})


class LengthPoint(Point):
    """The first n tokens of one draw of a source."""

    source: Source
    head: int
    n: int


class RankAgainstLength(HeadStudy, Sweep[LengthPoint]):
    """The rank of a head's map as the text grows: whole, without its sinks, and of the uniform map under the same mask.

    Tables: `points`; `curves`, a row a map and length, with the interval over `seeds` draws of a synthetic source.
    """

    key: ClassVar[str] = "low_rank.rank_against_length"
    seeds: int = Field(3, ge=1, le=20)

    def points(self) -> tuple[LengthPoint, ...]:
        """Short lengths first, each for every draw."""
        n = min(sequence_of(self.source).n, LONGEST_RANKED)
        draws = range(self.seeds if self.source.kind == "synthetic" else 1)
        return tuple(
            LengthPoint(source=reseeded(self.source, seed), head=self.head, n=length)
            for length in steps_to(n, least=min(16, n))
            for seed in draws
        )

    def measure(self, point: LengthPoint) -> Row:
        """The ranks that hold 99 % of the energy, and the effective rank e^H."""
        sequence = read_prefix(point.source, point.head, point.n)
        found = ranks(sequence)
        values = getattr(found, "values", None)
        if values is None:
            return {"n": point.n, "whole": math.nan, "without": math.nan, "uniform": math.nan, "effective": math.nan}
        return {
            "n": point.n,
            "whole": rank_of(found.values[0].numpy()),  # type: ignore[union-attr]
            "without": rank_of(found.without_sinks[0].numpy()),  # type: ignore[union-attr]
            "uniform": rank_of(uniform_values(point.n, causal=sequence.causal)),
            "effective": float(effective_rank(values)[0]),
            "sinks": len(found.sinks[0]),  # type: ignore[union-attr]
        }

    @property
    def units(self) -> dict[str, str]:
        """Ranks count directions."""
        return {"n": "tokens", **dict.fromkeys(("whole", "without", "uniform", "effective"), "directions")}

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        names = {"whole": "this map", "without": "without its sinks", "uniform": "uniform map"}
        if not (rows["whole"] != rows["without"]).any():
            names.pop("without")
        parts = [
            summarised(rows, by=("n",), value=column).rename(columns={column: "rank"}).assign(map=name)
            for column, name in names.items()
        ]
        return {"curves": pd.concat(parts, ignore_index=True)}

    def name_of(self, point: LengthPoint) -> str:
        """The length."""
        return f"{point.n:,} tokens"


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the rank grows with the length: from `low` at `first` tokens to `high` at `last`, about n to the `power`.

    `uniform` holds the uniform map's two ranks.
    """

    first: int
    last: int
    low: float
    high: float
    power: float
    uniform: tuple[float, float] | None


def growth(result: Result) -> Growth | None:
    """Read a `RankAgainstLength` result; None while there are fewer than two lengths."""
    curves = result.tables["curves"]
    own = curves[curves["map"] == "this map"].sort_values("n")
    if len(own) < 2:
        return None
    plain = curves[curves["map"] == "uniform map"].sort_values("n")
    slope = np.polyfit(np.log(own["n"].to_numpy(float)), np.log(own["rank"].to_numpy(float)), 1)[0]
    return Growth(
        first=int(own["n"].iloc[0]),
        last=int(own["n"].iloc[-1]),
        low=float(own["rank"].iloc[0]),
        high=float(own["rank"].iloc[-1]),
        power=float(slope),
        uniform=(float(plain["rank"].iloc[0]), float(plain["rank"].iloc[-1])),
    )


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
    """The variance of q·k/√d over all pairs of one head: what the law of Gaussian mixes asks for."""
    scores: Tensor = sequence.q[0] @ sequence.k[0].mT / math.sqrt(sequence.d)
    return float(torch.var(scores, unbiased=False))
