"""How the error falls with the number of features, rises with the scores' sharpness, and what fitted features change.

Source: Choromanski et al. 2020, arXiv:2009.14794, lemma 2 and figures 2 and 4; Zhang et al. 2024, arXiv:2402.04347
(learned features). Each point is one draw on the sequence's first 1,024 tokens.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import pandas as pd
from pydantic import Field

from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.map import FavorMap
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.intervals import summarised
from longattn_core.studies.base.study import Setting
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.favor.common import Measured, favor_of, log_rows, measured_at, norms

FAMILIES: dict[str, dict[str, object]] = {
    "positive": {"variant": "positive"},
    "hyperbolic": {"variant": "hyperbolic"},
    "trigonometric": {"variant": "trigonometric"},
    "Gaussian kernel": {"variant": "positive", "kernel": "gaussian"},
    "ReLU": {"variant": "relu"},
}
"""The five kinds that are compared, each with orthogonal and with independent directions."""
COUNTS = (4, 16, 64, 256, 1024)
PAIRED = ("hyperbolic", "trigonometric")
"""Kinds whose features come in pairs: m directions are 2m columns."""


class FeaturePoint(Point):
    """One draw of one kind of feature on one head."""

    source: Source
    head: int
    family: str
    orthogonal: bool
    rows: int
    seed: int


class ErrorAgainstFeatures(HeadStudy, Sweep[FeaturePoint]):
    """Error of the output against m directions (`equal` "m") or against columns ("width").

    Table `points`: a row a draw. Table `output`: means with 95 % intervals over seeds (of the logarithm), with `size` the number
    on the axis.
    """

    key: ClassVar[str] = "favor.error_against_features"
    equal: Literal["m", "width"] = "m"
    seeds: int = Field(5, ge=1, le=32)
    counts: tuple[int, ...] = Field(COUNTS, min_length=1, max_length=12)

    def points(self) -> tuple[FeaturePoint, ...]:
        """Few features first, and every kind at each number, so that the curves grow from left to right."""
        return tuple(
            FeaturePoint(
                source=self.source,
                head=self.head,
                family=family,
                orthogonal=orthogonal,
                rows=max(1, count // 2) if self.equal == "width" and family in PAIRED else count,
                seed=seed,
            )
            for count in self.counts
            for seed in range(self.seeds)
            for orthogonal in (True, False)
            for family in FAMILIES
        )

    def measure(self, point: FeaturePoint) -> Row:
        """Attend once. Cost: one run of the mechanism."""
        one = measured_at(point.source, point.head)
        favor = Favor.model_validate(
            {**FAMILIES[point.family], "features": point.rows, "orthogonal": point.orthogonal, "seed": point.seed}
        )
        attended = favor.attend(one.sequence)
        assert isinstance(attended, FavorMap)
        columns = attended.feature_map.columns
        return {
            "family": point.family,
            "directions": "orthogonal" if point.orthogonal else "independent",
            "m": point.rows,
            "columns": columns,
            "seed": point.seed,
            "error": one.error(attended.output),
            "control": one.control,
            "multiply_adds": attended.cost.multiply_adds,
        }

    @property
    def units(self) -> dict[str, str]:
        """Relative errors; counts."""
        return {
            "error": "relative",
            "control": "relative",
            "m": "directions",
            "columns": "columns",
            "size": "directions" if self.equal == "m" else "columns",
            "multiply_adds": "operations",
        }

    def name_of(self, point: FeaturePoint) -> str:
        """What is being measured."""
        return f"{point.family}, {point.rows:,} directions"

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        sized = rows.assign(size=rows["m"] if self.equal == "m" else rows["columns"])
        sized.attrs = rows.attrs
        by = ["family", "directions", "size"]
        output = summarised(sized, by=by, value="error", log=True)
        output.attrs["units"] = self.units
        return {"output": output}


# ------------------------------------------------------------------------------------------------------ sharpness


BETAS = (0.0625, 0.125, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)


class SharpnessPoint(Point):
    """One draw at one sharpness."""

    source: Source
    head: int
    setting: Setting
    sharpness: float


class ErrorAgainstSharpness(HeadStudy, Sweep[SharpnessPoint]):
    """Error of the output, and of the control, as all scores are multiplied by β. Table `curves`: both, with intervals."""

    key: ClassVar[str] = "favor.error_against_sharpness"
    setting: Setting = Setting(key="favor")
    seeds: int = Field(4, ge=1, le=32)

    def points(self) -> tuple[SharpnessPoint, ...]:
        """Every β with one draw, then with the next."""
        first = favor_of(self.setting)
        seeds = [first.model_copy(update={"seed": (first.seed + step) % 2**31}) for step in range(self.seeds)]
        return tuple(
            SharpnessPoint(source=self.source, head=self.head, setting=Setting.of(favor), sharpness=beta)
            for favor in seeds
            for beta in BETAS
        )

    def measure(self, point: SharpnessPoint) -> Row:
        """Attend at this β. Cost: one run of the mechanism, and exact rows of 256 queries at a new β."""
        one = measured_at(point.source, point.head, point.sharpness)
        favor = favor_of(point.setting)
        return {
            "beta": point.sharpness,
            "seed": favor.seed,
            "error": one.error(favor.attend(one.sequence).output),
            "control": one.control,
            "norm": _median_norm(one),
        }

    @property
    def units(self) -> dict[str, str]:
        """Relative errors."""
        return {"error": "relative", "control": "relative", "norm": "‖q+k‖²/√d"}

    def name_of(self, point: SharpnessPoint) -> str:
        """What is being measured."""
        return f"β = {point.sharpness:g}"

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        error = summarised(rows, by=["beta"], value="error", log=True).assign(curve="random features")
        control = rows.drop_duplicates("beta")[["beta", "control"]].rename(columns={"control": "error"})
        control = control.assign(low=control["error"], high=control["error"], count=1, curve="mean of visible values")
        curves = pd.concat([error, control], ignore_index=True)
        curves.attrs["units"] = {"beta": "times the model's scores", "error": "relative"}
        return {"curves": curves.sort_values(["curve", "beta"]).reset_index(drop=True)}


def _median_norm(one: Measured) -> float:
    """The median ‖x + y‖² of the visible pairs of the sampled queries."""
    queries = one.queries[:: max(1, len(one.queries) // 64)]
    together, _apart = norms(one.sequence, 0, queries)
    allowed = log_rows(one.sequence, 0, queries)[2]
    return float(together[allowed].median())


# ------------------------------------------------------------------------------------------------------ learned


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
            for columns in (8, 16, 32, 64, 128, 256)
            for seed in range(self.seeds)
            for variant in ("positive", "hedgehog")
        )

    def measure(self, point: LearnedPoint) -> Row:
        """Attend once; fitted features are fitted first. Cost: 60 steps on at most 256 tokens."""
        one = measured_at(point.source, point.head)
        attended = Favor(variant=point.variant, features=point.columns, seed=point.seed).attend(one.sequence)
        assert isinstance(attended, FavorMap)
        return {
            "features": "learned" if point.variant == "hedgehog" else "drawn",
            "columns": attended.feature_map.columns,
            "seed": point.seed,
            "error": one.error(attended.output),
            "control": one.control,
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
