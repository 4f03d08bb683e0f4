"""How the output's error falls with the number of features, for every kind of feature.

Source: Choromanski et al. 2020, arXiv:2009.14794, figure 4. Each point is one draw on the sequence's first 1,024 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
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
from longattn_core.studies.favor.finding import CLOSE
from longattn_core.studies.favor.sampled import sampled_head

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

    Table `points`: a row a draw. Table `output`: means of the logarithm over the seeds with 95 % intervals; `size` is the
    number on the axis.
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
        head = sampled_head(point.source, point.head)
        favor = Favor.model_validate(
            {**FAMILIES[point.family], "features": point.rows, "orthogonal": point.orthogonal, "seed": point.seed}
        )
        attended = run_mechanism(favor, head.sequence).attended_as(FavorMap)
        return {
            "family": point.family,
            "directions": "orthogonal" if point.orthogonal else "independent",
            "m": point.rows,
            "columns": attended.feature_map.columns,
            "seed": point.seed,
            "error": head.error(attended.output),
            "control": head.control,
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
        output = summarised(sized, by=["family", "directions", "size"], value="error", log=True)
        output.attrs["units"] = self.units
        return {"output": output}


@dataclass(frozen=True, kw_only=True)
class FeaturesFinding:
    """From which size on positive features with orthogonal directions err at most half as much as the control.

    `kind`: "never": at no measured size below the control; "better": below it from `size` on, but never at half; "enough": at
    half from `size` on. `best` is the kind of feature with the smallest error at the largest size measured by all.
    """

    kind: Literal["enough", "better", "never"]
    size: int
    error: float
    control: float
    largest: int
    best: str
    best_error: float


def features_finding(result: Result) -> FeaturesFinding | None:
    """Read an `ErrorAgainstFeatures` result; None while it holds no positive features yet."""
    table, control = result.tables["output"], float(result.tables["points"]["control"].iloc[0])
    positive = table[(table["family"] == "positive") & (table["directions"] == "orthogonal")].sort_values("size")
    if positive.empty:
        return None
    largest = int(positive["size"].max())
    best = table[table["size"] == largest].sort_values("error").iloc[0]
    half, below = _from_there(positive, CLOSE * control), _from_there(positive, control)
    kind: Literal["enough", "better", "never"] = "never" if below.empty else "better" if half.empty else "enough"
    first = {"never": positive.iloc[-1:], "better": below, "enough": half}[kind].iloc[0]
    return FeaturesFinding(
        kind=kind,
        size=int(first["size"]),
        error=float(first["error"]),
        control=control,
        largest=largest,
        best=f"{best['family']}, {best['directions']}",
        best_error=float(best["error"]),
    )


def _from_there(curve: pd.DataFrame, limit: float) -> pd.DataFrame:
    """The rows from which on no error lies above the limit: one lucky draw at few features is not enough."""
    good = (curve["error"] <= limit).to_numpy()
    return curve[np.minimum.accumulate(good[::-1])[::-1]]
