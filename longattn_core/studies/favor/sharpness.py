"""How the output's error grows as all scores are multiplied by a sharpness β.

Source: Choromanski et al. 2020, arXiv:2009.14794, lemma 2 and figure 2. Each point is one draw on the sequence's first
1,024 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pandas as pd
from pydantic import Field

from longattn_core.mechanisms.favor import Favor
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.intervals import summarised
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.favor.sampled import SampledHead, norms, sampled_head

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
        first = self.setting.build_as(Favor)
        draws = [first.with_dials(seed=(first.seed + step) % 2**31) for step in range(self.seeds)]
        return tuple(
            SharpnessPoint(source=self.source, head=self.head, setting=Setting.of(favor), sharpness=beta)
            for favor in draws
            for beta in BETAS
        )

    def measure(self, point: SharpnessPoint) -> Row:
        """Attend at this β. Cost: one run of the mechanism, and exact rows of 256 queries at a new β."""
        head = sampled_head(point.source, point.head, point.sharpness)
        favor = point.setting.build_as(Favor)
        return {
            "beta": point.sharpness,
            "seed": favor.seed,
            "error": head.error(favor.attend(head.sequence).output),
            "control": head.control,
            "norm": _median_norm(head),
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


def _median_norm(head: SampledHead) -> float:
    """The median ‖x + y‖² of the visible pairs of the sampled queries."""
    queries = head.queries[:: max(1, len(head.queries) // 64)]
    sum_norm = norms(head.sequence, 0, queries)[0]
    return float(sum_norm[head.sequence.allowed(queries)].median())


@dataclass(frozen=True, kw_only=True)
class SharpnessFinding:
    """At which sharpness random features err less than the mean of the visible values."""

    kind: Literal["everywhere", "somewhere", "nowhere"]
    better: tuple[float, ...]
    worse: tuple[float, ...]


def sharpness_finding(result: Result) -> SharpnessFinding | None:
    """Read an `ErrorAgainstSharpness` result; None while no β is measured."""
    wide = result.tables["curves"].pivot_table(index="beta", columns="curve", values="error")
    if "random features" not in wide or wide.empty:
        return None
    below = wide["random features"] < wide["mean of visible values"]
    better, worse = (tuple(float(beta) for beta in wide.index[mask]) for mask in (below, ~below))
    kind: Literal["everywhere", "somewhere", "nowhere"] = "nowhere" if not better else "somewhere" if worse else "everywhere"
    return SharpnessFinding(kind=kind, better=better, worse=worse)
