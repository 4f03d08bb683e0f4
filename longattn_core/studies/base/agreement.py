"""How far a mechanism's map of one head is from exact attention, as a row of a table."""

from __future__ import annotations

from dataclasses import fields
from weakref import WeakKeyDictionary

from longattn_core.contracts.mechanism import Attended
from longattn_core.measures.fidelity import Agreement, Fidelity, fidelity
from longattn_core.measures.sampling import Unavailable
from longattn_core.studies.base.run import SAMPLE


def agreement_columns() -> tuple[str, ...]:
    """The columns that `agreement_record` fills: each measure, and the same without the sinks' columns."""
    names = tuple(item.name for item in fields(Agreement))
    return (*names, *(f"{name} without sinks" for name in names))


_measured: WeakKeyDictionary[Attended, Fidelity] = WeakKeyDictionary()


def agreement_record(attended: Attended, head: int) -> dict[str, float | None]:
    """How far one head's map is from exact, on at most `SAMPLE` queries; None where a measure means nothing.

    Measured once for what a mechanism gave back: another query that looks back, or another budget for the others, changes
    nothing in it.
    """
    measured = _measured.get(attended)
    if measured is None:
        measured = _measured[attended] = fidelity(attended, queries=SAMPLE)
    record: dict[str, float | None] = {}
    for suffix, agreement in (("", measured.whole), (" without sinks", measured.without_sinks)):
        for item in fields(Agreement):
            value = getattr(agreement, item.name)
            record[item.name + suffix] = None if isinstance(value, Unavailable) else float(value[head])
    return record


AGREEMENT_UNITS = {
    "error": "relative",
    "control": "relative",
    "recall": "share",
    "share": "share of pairs",
    "overlap": "share",
    "variation": "share",
    "divergence": "nats",
}
