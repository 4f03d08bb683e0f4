"""Fidelity against cost: every setting of every mechanism's ladder on one sequence, and the settings that none beats."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
import pandas as pd

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.registry import mechanisms
from longattn_core.studies.base.agreement import ALL_AGREEMENT_UNITS, agreement_columns, agreement_record
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.recall_point import SettingPoint, head_of
from longattn_core.studies.base.run import run_mechanism
from longattn_core.studies.base.study import Setting
from longattn_core.studies.base.sweep import Row, Sweep

LONGEST = 1024
"""Tokens of the sequence that are measured: there are some sixty settings, up to the cost of exact attention."""


class Rung(SettingPoint):
    """One setting: the `rung`-th of its ladder, which is the `place`-th of the ladders."""

    rung: int
    place: int


class Frontier(HeadStudy, Sweep[Rung]):
    """Overlap and output error against counted operations, for every ladder of every showcased mechanism.

    Table `rungs`: one row a setting that read the sequence, ladder by ladder; `cost` is its share of exact attention's
    operations, `front` marks a setting that no cheaper one matches in error. Mechanisms that compute another score on
    purpose are left out; refused settings are named in `words`. A longer sequence is cut to its first `LONGEST` tokens; `n`
    says how many were measured.
    """

    key: ClassVar[str] = "side_by_side.frontier"

    def points(self) -> tuple[Rung, ...]:
        """Exact attention first, because costs are shares of its cost; then every ladder's first rung, its second, and so on."""
        return tuple(
            Rung(source=self.source, head=self.head, setting=setting, rung=rung, place=place)
            for rung, place, setting in _rungs(head_of(self.source, self.head, LONGEST).n)
        )

    def measure(self, point: Rung) -> Row:
        """One run against exact attention; a refusal in place of the measures."""
        mechanism = point.setting.build()
        run = run_mechanism(mechanism, head_of(point.source, point.head, LONGEST))
        row: Row = {
            "key": mechanism.key,
            "label": mechanism.label,
            "rung": point.rung,
            "place": point.place,
            "dials": _dials(mechanism),
            "refusal": run.refusal or "",
            "n": run.sequence.n,
        }
        if run.attended is None:
            return row | {"multiply_adds": 0, "bytes_peak": 0} | dict.fromkeys(agreement_columns())
        cost = run.attended.cost
        return row | {"multiply_adds": cost.multiply_adds, "bytes_peak": cost.bytes_peak, **agreement_record(run.attended, 0)}

    @property
    def units(self) -> dict[str, str]:
        """The unit of each column that has one."""
        return {"multiply_adds": "operations", "bytes_peak": "bytes", "cost": "of exact", "n": "tokens", **ALL_AGREEMENT_UNITS}

    def name_of(self, point: Rung) -> str:
        """The mechanism's name."""
        return point.setting.build().label

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        table = rows[rows["refusal"] == ""].sort_values(["place", "rung"], ignore_index=True).drop(columns="refusal")
        exact = table.loc[table["key"] == "exact", "multiply_adds"]
        table["cost"] = table["multiply_adds"] / (float(exact.iloc[0]) if len(exact) else np.nan)
        table["front"] = front_of(table["cost"].to_numpy(), table["error"].to_numpy(dtype=float))
        table.attrs["units"] = self.units
        return {"rungs": table}

    def _words(self, rows: pd.DataFrame) -> dict[str, str]:
        refused = rows[rows["refusal"] != ""]
        return dict(zip(refused["label"], refused["refusal"], strict=True))


@lru_cache(maxsize=16)
def _rungs(n: int) -> tuple[tuple[int, int, Setting], ...]:
    """Rung, place of the ladder and setting of every ladder at n tokens, exact attention first, then rung by rung."""
    rungs: dict[str, tuple[int, int, Setting]] = {}
    ladders = [shown.ladder(n) for kind in mechanisms().values() for shown in kind.showcase() if shown.approximates]
    for place, ladder in enumerate(ladders):
        for rung, setting in enumerate(ladder):
            rungs.setdefault(repr(setting), (rung, place, Setting.of(setting)))
    return tuple(sorted(rungs.values(), key=lambda rung: (rung[2].key != "exact", rung[0], rung[1])))


def _dials(mechanism: Mechanism) -> str:
    """The dials that differ from the default, as a person would read them."""
    fields = type(mechanism).model_fields
    changed = mechanism.model_dump(exclude_defaults=True)
    return ", ".join(f"{fields[name].title} {value}" for name, value in changed.items()) or "default"


def front_of(cost: np.ndarray, error: np.ndarray) -> np.ndarray:
    """True where no other point costs at most as much and errs less."""
    order = np.lexsort((error, cost))
    best = np.minimum.accumulate(np.concatenate([[np.inf], error[order][:-1]]))
    front = np.zeros(len(cost), dtype=bool)
    front[order] = error[order] < best
    return front
