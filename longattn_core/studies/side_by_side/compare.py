"""Side by side: what each mechanism lets one query see, at one budget of keys or features.

Every row is computed from the same queries, keys and values. Beyond `SAMPLE` queries the fidelity is measured on
a sample of them (the last always among them).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.registry import mechanisms
from longattn_core.studies.base.agreement import AGREEMENT_UNITS, agreement_columns, agreement_record
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import MechanismRun, reading
from longattn_core.studies.base.study import Progress, Result, Setting, Study


class Compare(Study):
    """What each mechanism lets `query` see, with about `keys` keys or features a query.

    Arrays: `weights [mechanisms, n]`, NaN where a key was never looked at; `exact [n]`; `tokens [n]`.
    Table `mechanisms`: one row each. `settings` empty means every mechanism of the registry at this budget.
    """

    key: ClassVar[str] = "compare"
    keys: int = Field(64, ge=1, le=65536)
    query: int | None = Field(None, ge=0, le=65535)
    marked: int | None = Field(None, ge=0, le=65535)
    head: int = Field(0, ge=0, le=63)
    settings: tuple[Setting, ...] = Field((), max_length=40)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head, query = min(self.head, sequence.h - 1), self.place(sequence)
        exact = exact_rows(sequence, query, head)[0, 0]
        marked = self.mark(sequence, exact, query)
        chosen = self.mechanisms(sequence.n)
        weights = np.full((len(chosen), sequence.n), np.nan, dtype=np.float32)
        records = []
        for index, mechanism in enumerate(chosen):
            progress(index / len(chosen), mechanism.label)
            one = reading(self.source, mechanism)
            records.append(_record(one, head, query, marked))
            if one.attended is not None:
                row, seen = (view[0, 0] for view in one.attended.rows_and_kept(query, head))
                weights[index] = torch.where(seen, row, torch.nan).float().cpu().numpy()
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {
            "looked": "keys or features",
            "weight": "share",
            "multiply_adds": "operations",
            **AGREEMENT_UNITS,
            **{f"{name} without sinks": unit for name, unit in AGREEMENT_UNITS.items()},
        }
        visible = sequence.allowed(query)[0]
        arrays = {
            "weights": weights,
            "exact": torch.where(visible, exact, torch.nan).float().cpu().numpy(),
            "query": np.array(query),
            "marked": np.array(marked),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
        }
        return Result(study=self, arrays=arrays, tables={"mechanisms": table}, words={"origin": sequence.origin})

    def mechanisms(self, n: int) -> tuple[Mechanism, ...]:
        """The settings to compare: those that were asked for, or every mechanism's showcase at the budget."""
        if self.settings:
            return tuple(setting.build() for setting in self.settings)
        return tuple(shown.with_budget(min(self.keys, n), n) for kind in mechanisms().values() for shown in kind.showcase())

    def place(self, sequence: Sequence) -> int:
        """The query that looks back: the one asked for, or the last real token."""
        last = int(sequence.real.nonzero().max())
        return last if self.query is None or self.query >= sequence.n else self.query

    def mark(self, sequence: Sequence, exact: Tensor, query: int) -> int:
        """The key to watch: the one asked for, or the one that exact attention weighs most, leaving out the first token
        (a sink more often than a meaning) and the query itself where another is left."""
        if self.marked is not None and self.marked < sequence.n:
            return self.marked
        candidates = exact.clone()
        for plain in (0, query):
            candidates[plain] *= 1e-6
        return int(candidates.argmax())


def _record(one: MechanismRun, head: int, query: int, marked: int) -> dict[str, str | float | int | bool | None]:
    mechanism, attended = one.mechanism, one.attended
    record: dict[str, str | float | int | bool | None] = {
        "key": mechanism.key,
        "label": mechanism.label,
        "setting": Setting.of(mechanism).model_dump_json(),
        "parameters": mechanism.parameters,
        "approximates": mechanism.approximates,
        "refusal": one.refusal or "",
        "leaks": mechanism.depends_on_future or "",
        **dict.fromkeys(("looked", "unit", "weight", "multiply_adds", *agreement_columns())),
    }
    if attended is None:
        return record
    looked = attended.read_count(head, query)
    return record | {
        "looked": looked.count,
        "unit": looked.unit,
        "weight": float(attended.rows(query, marked, head)),
        "multiply_adds": attended.cost.multiply_adds,
        **agreement_record(attended, head),
    }
