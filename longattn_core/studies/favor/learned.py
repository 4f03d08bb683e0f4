"""Whether features that are fitted to a head err less than drawn ones of the same width.

Source: Zhang et al. 2024, arXiv:2402.04347 (Hedgehog). Each point is one draw on the sequence's first 1,024 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pandas as pd
from pydantic import Field

from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.map import FavorMap
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.intervals import summarised
from longattn_core.studies.base.run import run_mechanism
from longattn_core.studies.base.study import Result
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.favor.finding import similar
from longattn_core.studies.favor.sampled import sampled_head

WIDTHS = (8, 16, 32, 64, 128, 256)


class LearnedPoint(Point):
    """Drawn or fitted features of the same width on one head."""

    source: Source
    head: int
    variant: Literal["positive", "hedgehog"]
    columns: int
    seed: int


class LearnedAgainstDrawn(HeadStudy, Sweep[LearnedPoint]):
    """Fitted features (Hedgehog) against drawn ones of the same number of columns. Table `curves`: with intervals."""

    key: ClassVar[str] = "favor.learned_against_drawn"
    seeds: int = Field(3, ge=1, le=16)

    def points(self) -> tuple[LearnedPoint, ...]:
        """Narrow ones first."""
        return tuple(
            LearnedPoint(source=self.source, head=self.head, variant=variant, columns=columns, seed=seed)
            for columns in WIDTHS
            for seed in range(self.seeds)
            for variant in ("positive", "hedgehog")
        )

    def measure(self, point: LearnedPoint) -> Row:
        """Attend once; fitted features are fitted first. Cost: 60 steps on at most 256 tokens."""
        head = sampled_head(point.source, point.head)
        favor = Favor(variant=point.variant, features=point.columns, seed=point.seed)
        attended = run_mechanism(favor, head.sequence).attended_as(FavorMap)
        return {
            "features": "learned" if point.variant == "hedgehog" else "drawn",
            "columns": attended.feature_map.columns,
            "seed": point.seed,
            "error": head.error(attended.output),
            "control": head.control,
            "calibration": attended.trace.calibration,
        }

    @property
    def units(self) -> dict[str, str]:
        """Relative errors; counts."""
        return {"error": "relative", "control": "relative", "columns": "columns"}

    def name_of(self, point: LearnedPoint) -> str:
        """What is being measured."""
        return f"{'learned' if point.variant == 'hedgehog' else 'drawn'}, {point.columns} columns"

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        return {"curves": summarised(rows, by=["features", "columns"], value="error", log=True)}

    def _words(self, rows: pd.DataFrame) -> dict[str, str]:
        learned = rows.loc[rows["features"] == "learned", "calibration"]
        return {} if learned.empty else {"calibration": str(learned.iloc[0])}


@dataclass(frozen=True, kw_only=True)
class LearnedFinding:
    """Fitted against drawn features at the widest width at which both were measured."""

    kind: Literal["learned", "drawn", "alike"]
    columns: int
    learned: float
    drawn: float
    control: float


def learned_finding(result: Result) -> LearnedFinding | None:
    """Read a `LearnedAgainstDrawn` result; None while no width has both."""
    wide = result.tables["curves"].pivot_table(index="columns", columns="features", values="error").dropna()
    if wide.empty or set(wide) != {"drawn", "learned"}:
        return None
    columns, widest = int(wide.index.max()), wide.loc[wide.index.max()]
    learned, drawn = float(widest["learned"]), float(widest["drawn"])
    return LearnedFinding(
        kind="alike" if similar(learned, drawn) else "learned" if learned < drawn else "drawn",
        columns=columns,
        learned=learned,
        drawn=drawn,
        control=float(result.tables["points"]["control"].iloc[0]),
    )
