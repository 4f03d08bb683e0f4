"""Fidelity against cost: every rung of every mechanism's ladder on one sequence, and the front that nothing beats."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from longattn_core.contracts import Mechanism
from longattn_core.registry import mechanisms
from longattn_core.studies.compare import AGREEMENT_UNITS, agreement_record
from longattn_core.studies.reading import read
from longattn_core.studies.study import Progress, Result, Study

LONGEST = 1024
"""Tokens of the sequence that are measured: every ladder climbs to exact attention, and there are some sixty rungs."""


class Frontier(Study):
    """Overlap and output error against counted operations, for every ladder of every showcased mechanism.

    Table `rungs`: one row a setting; `front` marks a setting that no cheaper one matches in overlap. Mechanisms that
    compute another score on purpose are left out; refused settings are named in `words`. A longer sequence is cut to its
    first `LONGEST` tokens; `arrays["n"]` says how many were measured.
    """

    key: ClassVar[str] = "frontier"
    head: int = Field(0, ge=0, le=63)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = min(self.head, sequence.h - 1)
        alone = sequence.select_heads(head).prefix(min(sequence.n, LONGEST))
        rungs = _rungs(alone.n)
        records, refused = [], {}
        for index, (rung, mechanism) in enumerate(rungs):
            progress(index / len(rungs), mechanism.label)
            one = read(mechanism, alone)
            if one.attended is None:
                refused[mechanism.label] = one.refusal or ""
                continue
            records.append({
                "key": mechanism.key, "label": mechanism.label, "rung": rung, "dials": _dials(mechanism),
                "multiply_adds": one.attended.cost.multiply_adds, "bytes_peak": one.attended.cost.bytes_peak,
                **agreement_record(one.attended, 0),
            })  # fmt: skip
        table = pd.DataFrame.from_records(records)
        exact = float(table.loc[table["key"] == "exact", "multiply_adds"].iloc[0])
        table["cost"] = table["multiply_adds"] / exact
        table["front"] = front_of(table["cost"].to_numpy(), table["error"].to_numpy())
        table.attrs["units"] = {
            "multiply_adds": "operations", "bytes_peak": "bytes", "cost": "of exact", **AGREEMENT_UNITS,
            **{f"{name} without sinks": unit for name, unit in AGREEMENT_UNITS.items()},
        }  # fmt: skip
        return Result(study=self, arrays={"n": np.array(alone.n)}, tables={"rungs": table}, words=refused)


def _rungs(n: int) -> list[tuple[int, Mechanism]]:
    found: dict[str, tuple[int, Mechanism]] = {}
    for kind in mechanisms().values():
        for shown in kind.showcase():
            if shown.approximates:
                for rung, setting in enumerate(shown.ladder(n)):
                    found.setdefault(repr(setting), (rung, setting))
    return list(found.values())


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
