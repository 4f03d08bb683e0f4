"""How the rank of a head's map grows with the length of the text."""

from __future__ import annotations

import math
from typing import ClassVar

import pandas as pd
from pydantic import Field

from longattn_core.measures.sampling import Unavailable
from longattn_core.measures.spread import effective_rank, ranks
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.intervals import summarised
from longattn_core.studies.base.run import read_prefix, reseeded
from longattn_core.studies.base.study import sequence_of
from longattn_core.studies.base.sweep import Point, Row, Sweep, powers_up_to
from longattn_core.studies.low_rank.decomposition import rank_of, uniform_values

LONGEST_RANKED = 2048
"""Tokens up to which the rank is followed: singular values of 2,048 take about ten seconds."""
SHORTEST = 16
"""Tokens of the shortest prefix."""


class LengthPoint(Point):
    """The first n tokens of one draw of a source."""

    source: Source
    head: int
    n: int


class RankAgainstLength(HeadStudy, Sweep[LengthPoint]):
    """The rank of a head's map as the text grows: whole, without its sinks, and of the uniform map under the same mask.

    Tables: `points`; `curves`, a row for each map and length, with the interval over `seeds` draws of a synthetic source.
    """

    key: ClassVar[str] = "low_rank.rank_against_length"
    seeds: int = Field(3, ge=1, le=20)

    def points(self) -> tuple[LengthPoint, ...]:
        """Short lengths first, each for every draw."""
        n = min(sequence_of(self.source).n, LONGEST_RANKED)
        draws = range(self.seeds if self.source.kind == "synthetic" else 1)
        return tuple(
            LengthPoint(source=reseeded(self.source, seed), head=self.head, n=length)
            for length in powers_up_to(n, least=min(SHORTEST, n))
            for seed in draws
        )

    def measure(self, point: LengthPoint) -> Row:
        """The ranks that hold 99 % of the energy, and the effective rank e^H."""
        sequence = read_prefix(point.source, point.head, point.n)
        measured = ranks(sequence)
        if isinstance(measured, Unavailable):
            return {"n": point.n, "whole": math.nan, "without": math.nan, "uniform": math.nan, "effective": math.nan}
        return {
            "n": point.n,
            "whole": rank_of(measured.values[0].numpy()),
            "without": rank_of(measured.without_sinks[0].numpy()),
            "uniform": rank_of(uniform_values(point.n, causal=sequence.causal)),
            "effective": float(effective_rank(measured.values)[0]),
            "sinks": len(measured.sinks[0]),
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
