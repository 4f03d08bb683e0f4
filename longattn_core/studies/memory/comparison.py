"""Every memory at one budget: does any of them come nearer to exact attention than the plain mean of what is visible?"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from longattn_core.contracts.mechanism import Refused
from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.mechanism import NAMES
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.agreement import ALL_AGREEMENT_UNITS, agreement_record, verdict
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.run import run_mechanism
from longattn_core.studies.base.study import Setting, sequence_of
from longattn_core.studies.base.sweep import Point, Row, Sweep


class MemoryPoint(Point):
    """One memory on one source."""

    source: Source
    setting: Setting
    head: int


class MemorySweep(HeadStudy, Sweep[MemoryPoint]):
    """A sweep over memories of one head: how each agrees with exact attention, in rows of one form.

    Rows: `variant`, `label`, `looked` (what a query reads) and its `unit`, `verdict` (the error compared with that of the mean
    of the visible values), `held` (numbers kept beside the segment, counted in tokens, a key and a value each), `cost`, the
    agreement; NaN and a `refusal` where the memory cannot read the sequence.
    """

    def measure(self, point: MemoryPoint) -> Row:
        """One attention and its agreement."""
        mechanism, sequence = point.setting.build_as(Memory), sequence_of(point.source)
        row: Row = {
            "variant": mechanism.variant,
            "label": NAMES[mechanism.variant],
            "held": held_tokens(mechanism, sequence.n, sequence.d, sequence.e),
            "refusal": "",
        }
        try:
            attended = run_mechanism(mechanism, sequence).attended_or_raise()
        except Refused as refused:
            return row | {"refusal": str(refused), "error": float("nan"), "control": float("nan"), "verdict": ""}
        head = self.head_in(sequence)
        agreement = agreement_record(attended, head)
        read = attended.read_count(head, int(sequence.real.nonzero().max()))
        return row | {
            "looked": read.count,
            "unit": read.unit,
            "cost": attended.cost.multiply_adds,
            "verdict": verdict(float(agreement["error"] or 0.0), float(agreement["control"] or 0.0)),
            **agreement,
        }

    @property
    def units(self) -> dict[str, str]:
        """The unit of each column."""
        return {"looked": "keys or features", "held": "tokens", "cost": "operations"} | ALL_AGREEMENT_UNITS

    def name_of(self, point: MemoryPoint) -> str:
        """The memory's name."""
        return point.setting.build().label


class MemoryComparison(MemorySweep):
    """Error, control and overlap of every variant at about `keys` keys a query, in the rows of a `MemorySweep`."""

    key: ClassVar[str] = "memory.comparison"
    keys: int = Field(64, ge=1, le=65536)

    def points(self) -> tuple[MemoryPoint, ...]:
        """The variants at the budget."""
        n = self.sequence().n
        settings = [Setting.of(variant.with_budget(min(self.keys, n), n)) for variant in Memory.variants()]
        return tuple(MemoryPoint(source=self.source, setting=setting, head=self.head) for setting in settings)


def held_tokens(mechanism: Memory, n: int, d: int, e: int) -> float:
    """How much is carried from segment to segment, in tokens: a key and a value are d + e numbers, a state d·e."""
    match mechanism.variant:
        case "cache":
            return float(min(mechanism.memory, n))
        case "compressed":
            return float(min(mechanism.memory, n) + min(mechanism.compressed, n))
        case "slots":
            return float(mechanism.slots)
        case _:
            return d * e / (d + e)
