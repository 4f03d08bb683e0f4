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

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.contracts.sequence import exact_rows
from longattn_core.registry import mechanisms
from longattn_core.studies.base.agreement import ALL_AGREEMENT_UNITS, agreement_columns, agreement_record
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import query_place, token_array, watched_key
from longattn_core.studies.base.run import MechanismRun, kept_run
from longattn_core.studies.base.study import Progress, Result, Setting


class Compare(HeadStudy):
    """What each mechanism lets `query` see, with about `keys` keys or features a query.

    Arrays: `weights [mechanisms, n]`, NaN where a key was never looked at; `exact [n]`; `tokens [n]`.
    Table `mechanisms`: one row each. `settings` empty means every mechanism of the registry at this budget.
    """

    key: ClassVar[str] = "side_by_side.compare"
    keys: int = Field(64, ge=1, le=65536)
    query: int | None = Field(None, ge=0, le=65535)
    marked: int | None = Field(None, ge=0, le=65535)
    settings: tuple[Setting, ...] = Field((), max_length=40)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head, query = self.head_in(sequence), query_place(sequence, self.query)
        exact = exact_rows(sequence, query, head)[0, 0]
        marked = watched_key(exact, query, self.marked)
        chosen = self.mechanisms(sequence.n)
        weights = np.full((len(chosen), sequence.n), np.nan, dtype=np.float32)
        records = []
        for index, mechanism in enumerate(chosen):
            progress(index / len(chosen), mechanism.label)
            one = kept_run(self.source, mechanism)
            records.append(_record(one, head, query, marked))
            if one.attended is not None:
                row, seen = (view[0, 0] for view in one.attended.rows_and_kept(query, head))
                weights[index] = torch.where(seen, row, torch.nan).float().cpu().numpy()
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {
            "looked": "keys or features",
            "weight": "share",
            "multiply_adds": "operations",
            **ALL_AGREEMENT_UNITS,
        }
        visible = sequence.allowed(query)[0]
        arrays = {
            "weights": weights,
            "exact": torch.where(visible, exact, torch.nan).float().cpu().numpy(),
            "query": np.array(query),
            "marked": np.array(marked),
            "tokens": token_array(sequence),
        }
        return Result(study=self, arrays=arrays, tables={"mechanisms": table}, words={"origin": sequence.origin})

    def mechanisms(self, n: int) -> tuple[Mechanism, ...]:
        """The settings to compare: those that were asked for, or every mechanism's showcase at the budget."""
        if self.settings:
            return tuple(setting.build() for setting in self.settings)
        return tuple(shown.with_budget(min(self.keys, n), n) for kind in mechanisms().values() for shown in kind.showcase())


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
