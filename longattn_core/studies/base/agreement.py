"""How far a mechanism's map of one head is from exact attention, as a row of a table or as a table of its own."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal
from weakref import WeakKeyDictionary

import pandas as pd

from longattn_core.contracts.mechanism import Attended
from longattn_core.measures.fidelity import Agreement, Fidelity, fidelity
from longattn_core.measures.sampling import Unavailable
from longattn_core.numerics.softmax import exact_cost
from longattn_core.studies.base.run import SAMPLE

MEASURES = tuple(item.name for item in fields(Agreement))
WITHOUT_SINKS = " without sinks"

AGREEMENT_UNITS = {
    "error": "relative",
    "control": "relative",
    "recall": "share",
    "share": "share of pairs",
    "overlap": "share",
    "variation": "share",
    "divergence": "nats",
}
ALL_AGREEMENT_UNITS = AGREEMENT_UNITS | {name + WITHOUT_SINKS: unit for name, unit in AGREEMENT_UNITS.items()}
"""The unit of each column that `agreement_record` fills."""

CLOSE = 0.02
"""Errors that differ by less than this part of the control are called even."""

Verdict = Literal["better", "worse", "even"]

_measured: WeakKeyDictionary[Attended, Fidelity] = WeakKeyDictionary()


def measured_fidelity(attended: Attended) -> Fidelity:
    """The fidelity on at most `SAMPLE` queries, measured once for each run of a mechanism.

    Another query that looks back, or another budget for the other mechanisms, changes nothing in it.
    """
    measured = _measured.get(attended)
    if measured is None:
        measured = _measured[attended] = fidelity(attended, queries=SAMPLE)
    return measured


def agreement_columns() -> tuple[str, ...]:
    """The columns that `agreement_record` fills: each measure, and the same without the sinks' columns."""
    return (*MEASURES, *(name + WITHOUT_SINKS for name in MEASURES))


def agreement_record(attended: Attended, head: int) -> dict[str, float | None]:
    """How far one head's map is from exact, on at most `SAMPLE` queries; None where a measure means nothing."""
    measured = measured_fidelity(attended)
    record: dict[str, float | None] = {}
    for suffix, agreement in (("", measured.whole), (WITHOUT_SINKS, measured.without_sinks)):
        for name in MEASURES:
            value = getattr(agreement, name)
            record[name + suffix] = None if isinstance(value, Unavailable) else float(value[head])
    return record


def agreement_table(attended: Attended, head: int) -> pd.DataFrame:
    """Recall, share of pairs, error and control of a sparse map whose rows are shares: a row with and one without the sinks.

    The column `sinks` holds how many sinks the head has.
    """
    measured = measured_fidelity(attended)
    columns = ("recall", "share", "error", "control")
    table = pd.DataFrame.from_records(
        [
            {"which": name, **{column: float(getattr(agreement, column)[head]) for column in columns}}
            for name, agreement in (("whole", measured.whole), ("without sinks", measured.without_sinks))
        ]
    )
    table["sinks"] = len(measured.sinks[head])
    table.attrs["units"] = {
        "recall": "share of weight",
        "share": "share of pairs",
        "error": "relative",
        "control": "relative",
        "sinks": "keys",
    }
    return table


def cost_columns(attended: Attended) -> dict[str, int]:
    """`cost` of a run and `exact cost` of exact attention on the same heads, in multiply-adds."""
    sequence = attended.sequence
    exact = exact_cost(heads=sequence.h, n=sequence.n, d=sequence.d, e=sequence.e, causal=sequence.causal)
    return {"cost": attended.cost.multiply_adds, "exact cost": exact.multiply_adds}


def verdict(error: float, control: float) -> Verdict:
    """An output's error compared with that of the mean of the visible values: only a "better" one carries information."""
    if abs(error - control) < CLOSE * control:
        return "even"
    return "better" if error < control else "worse"
