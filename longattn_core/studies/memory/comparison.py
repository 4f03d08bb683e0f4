"""Every memory at one budget: does any of them come nearer to exact attention than the plain mean of what is visible?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pandas as pd
from pydantic import Field

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.mechanism import NAMES
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.agreement import AGREEMENT_UNITS, agreement_record
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.run import run_mechanism
from longattn_core.studies.base.study import Setting, sequence_of
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.segmented.cuts import verdict


class MemoryPoint(Point):
    """One memory on one source."""

    source: Source
    setting: Setting
    head: int


class MemorySweep(HeadStudy, Sweep[MemoryPoint]):
    """A sweep over memories of one head: how each agrees with exact attention, in rows of one form."""

    def measure(self, point: MemoryPoint) -> Row:
        """One attention and its agreement."""
        return measured(point)

    @property
    def units(self) -> dict[str, str]:
        """The unit of each column."""
        return UNITS

    def name_of(self, point: MemoryPoint) -> str:
        """The memory's name."""
        return point.setting.build().label


class MemoryComparison(MemorySweep):
    """Error, control and overlap of every variant at about `keys` keys a query.

    Rows: `variant`, `label`, `read_count` and its `unit`, `verdict` beside the mean of the visible values, `held` (numbers kept
    beside the segment, counted in tokens, a key and a value each), the agreement; NaN and a `refusal` where it cannot read.
    """

    key: ClassVar[str] = "memory.comparison"
    keys: int = Field(64, ge=1, le=65536)

    def points(self) -> tuple[MemoryPoint, ...]:
        """The variants at the budget."""
        n = self.sequence().n
        settings = [Setting.of(variant.with_budget(min(self.keys, n), n)) for variant in Memory.variants()]
        return tuple(MemoryPoint(source=self.source, setting=setting, head=self.head) for setting in settings)


UNITS = {
    "looked": "keys or features",
    "held": "tokens",
    "cost": "operations",
    **AGREEMENT_UNITS,
    **{f"{name} without sinks": unit for name, unit in AGREEMENT_UNITS.items()},
}


def measured(point: MemoryPoint) -> Row:
    """A row of either sweep: the setting in words and numbers, and how it agrees with exact attention."""
    mechanism, sequence = point.setting.build(), sequence_of(point.source)
    assert isinstance(mechanism, Memory)
    row: Row = {
        "variant": mechanism.variant,
        "label": NAMES[mechanism.variant],
        "held": held(mechanism, sequence.n, sequence.d, sequence.e),
        "refusal": "",
    }
    one = run_mechanism(mechanism, sequence)
    if one.attended is None:
        return row | {"refusal": one.refusal or "", "error": float("nan"), "control": float("nan"), "verdict": ""}
    head = min(point.head, sequence.h - 1)
    agreement = agreement_record(one.attended, head)
    looked = one.attended.read_count(head, int(sequence.real.nonzero().max()))
    return row | {
        "looked": looked.count,
        "unit": looked.unit,
        "cost": one.attended.cost.multiply_adds,
        "verdict": verdict(float(agreement["error"] or 0.0), float(agreement["control"] or 0.0)),
        **agreement,
    }


def held(mechanism: Mechanism, n: int, d: int, e: int) -> float:
    """How much is carried from segment to segment, in tokens: a key and a value are d + e numbers, a state d·e."""
    assert isinstance(mechanism, Memory)
    match mechanism.variant:
        case "cache":
            return float(min(mechanism.memory, n))
        case "compressed":
            return float(min(mechanism.memory, n) + min(mechanism.compressed, n))
        case "slots":
            return float(mechanism.slots)
        case _:
            return d * e / (d + e)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which memories err less than the mean of the visible values: "none", "some", "all", or "unknown" if none could read."""

    kind: Literal["none", "some", "all", "unknown"]
    better: tuple[str, ...]
    others: tuple[str, ...]
    refused: tuple[str, ...]
    nearest: str
    error: float
    control: float


def comparison(rows: pd.DataFrame) -> Comparison:
    """Read the `points` of a `MemoryComparison` result."""
    judged = rows[rows["verdict"] != ""]
    refused = tuple(rows.loc[rows["verdict"] == "", "label"])
    if not len(judged):
        return Comparison(kind="unknown", better=(), others=(), refused=refused, nearest="", error=0.0, control=0.0)
    wins = judged["verdict"] == "better"
    nearest = judged.iloc[int(judged["error"].to_numpy(dtype=float).argmin())]
    return Comparison(
        kind="all" if wins.all() else "some" if wins.any() else "none",
        better=tuple(judged.loc[wins, "label"]),
        others=tuple(judged.loc[~wins, "label"]),
        refused=refused,
        nearest=str(nearest["label"]),
        error=float(nearest["error"]),
        control=float(nearest["control"]),
    )
