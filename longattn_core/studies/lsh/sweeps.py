"""Recall of hashing over its dials and over seeds: how much of what it finds is luck."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from longattn_core.mechanisms.lsh import LSH
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.intervals import summarised
from longattn_core.studies.base.recall_point import UNITS, SettingPoint, measured
from longattn_core.studies.base.study import Setting
from longattn_core.studies.base.sweep import Row, Sweep

Over = Literal["rounds", "buckets", "seeds"]

ROUNDS = (1, 2, 4, 8, 16)
BUCKETS = (2, 4, 8, 16, 32, 64, 128)


class LshSweep(HeadStudy, Sweep[SettingPoint]):
    """Recall, share of pairs and error over the rounds, the buckets, or at one setting over many seeds.

    Table `points`: one row a run. Table `curves` (not over seeds): for each value the mean over the seeds with its 95 %
    interval, in long form: `curve` is "weight found" or "pairs looked at"; the latter is what a blind choice would find.
    """

    key: ClassVar[str] = "lsh.sweep"
    setting: Setting = Setting(key="lsh")
    over: Over = "rounds"
    seeds: int = Field(5, ge=1, le=40)

    def points(self) -> tuple[SettingPoint, ...]:
        """Every value under the first seed, then under the next: a picture is there soon and its intervals follow."""
        base = self.setting.build_as(LSH)
        values = {"rounds": ROUNDS, "buckets": BUCKETS, "seeds": (0,)}[self.over]
        return tuple(
            SettingPoint(
                source=self.source,
                head=self.head,
                setting=Setting.of(base.with_dials(seed=seed, **({} if self.over == "seeds" else {self.over: value}))),
            )
            for seed in range(self.seeds)
            for value in values
        )

    def measure(self, point: SettingPoint) -> Row:
        """One run of the mechanism against exact attention."""
        built = point.setting.build_as(LSH)
        return {"buckets": built.buckets, "rounds": built.rounds, **measured(point)}

    @property
    def units(self) -> dict[str, str]:
        """The unit of each column."""
        return {**UNITS, "buckets": "number", "rounds": "number"}

    def name_of(self, point: SettingPoint) -> str:
        """The point's dials."""
        built = point.setting.build_as(LSH)
        return f"{built.buckets} × {built.rounds}, seed {built.seed}"

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        if self.over == "seeds":
            return {}
        curves = []
        for name, column in (("weight found", "recall without sinks"), ("pairs looked at", "share without sinks")):
            one = summarised(rows, by=[self.over], value=column)
            curves.append(one.rename(columns={column: "value"}).assign(curve=name, chance=column.startswith("share")))
        table = pd.concat(curves, ignore_index=True).sort_values(["curve", self.over], ignore_index=True)
        table.attrs["units"] = {"value": "share", "low": "share", "high": "share", self.over: "number"}
        return {"curves": table}

    def _words(self, rows: pd.DataFrame) -> dict[str, str]:
        refused = [text for text in rows["refusal"] if text]
        gain = (rows["recall without sinks"] - rows["share without sinks"]).to_numpy(dtype=float)
        words = {"gain": f"{np.nanmean(gain):.3f}"} if np.isfinite(gain).any() else {}
        return words | ({"refusal": refused[0]} if refused else {})
