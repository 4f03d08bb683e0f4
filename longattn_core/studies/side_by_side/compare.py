"""Side by side: what each mechanism lets one query see, at one budget of keys or features.

Every row is computed from the same queries, keys and values. Beyond `SAMPLE` queries the fidelity is measured on
a sample of them, which always holds the last one.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.registry import mechanisms
from longattn_core.studies.base.agreement import ALL_AGREEMENT_UNITS, agreement_columns, agreement_record
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import WatchedPair, token_array
from longattn_core.studies.base.run import MechanismRun, kept_run
from longattn_core.studies.base.study import Progress, Result, Setting


class Compare(HeadStudy):
    """What each mechanism lets `query` see, with about `keys` keys or features a query.

    Arrays: `weights [mechanisms, n]`, NaN where the mechanism does not keep the pair; `exact [n]`; `query`, and `marked`, the
    key that is watched; `tokens [n]`. Table `mechanisms`: one row each, with the setting, what it read, its weight on the
    marked key, its counted operations, and how far it is from exact attention; or its refusal. Empty `settings` mean every
    mechanism of the registry at this budget.
    """

    key: ClassVar[str] = "side_by_side.compare"
    keys: int = Field(64, ge=1, le=65536)
    query: int | None = Field(None, ge=0, le=65535)
    marked: int | None = Field(None, ge=0, le=65535)
    settings: tuple[Setting, ...] = Field((), max_length=40)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = self.head_in(sequence)
        pair = WatchedPair.of(sequence, head, self.query, self.marked)
        compared = self.mechanisms(sequence.n)
        weights = np.full((len(compared), sequence.n), np.nan, dtype=np.float32)
        records = []
        for index, mechanism in enumerate(compared):
            progress(index / len(compared), mechanism.label)
            run = kept_run(self.source, mechanism)
            records.append(_record(run, head, pair))
            if run.attended is not None:
                row, kept = (view[0, 0] for view in run.attended.rows_and_kept(pair.query, head))
                weights[index] = torch.where(kept, row, torch.nan).float().cpu().numpy()
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {
            "looked": "keys or features",
            "weight": "share",
            "multiply_adds": "operations",
            **ALL_AGREEMENT_UNITS,
        }
        arrays = {"weights": weights, **pair.arrays(), "tokens": token_array(sequence)}
        return Result(study=self, arrays=arrays, tables={"mechanisms": table}, words={"origin": sequence.origin})

    def mechanisms(self, n: int) -> tuple[Mechanism, ...]:
        """The mechanisms to compare: the given settings, or every mechanism's showcase at the budget."""
        if self.settings:
            return tuple(setting.build() for setting in self.settings)
        return tuple(shown.with_budget(min(self.keys, n), n) for kind in mechanisms().values() for shown in kind.showcase())


def _record(run: MechanismRun, head: int, pair: WatchedPair) -> dict[str, str | float | int | bool | None]:
    mechanism, attended = run.mechanism, run.attended
    record: dict[str, str | float | int | bool | None] = {
        "key": mechanism.key,
        "label": mechanism.label,
        "setting": Setting.of(mechanism).model_dump_json(),
        "parameters": mechanism.parameters,
        "approximates": mechanism.approximates,
        "refusal": run.refusal or "",
        "leaks": mechanism.depends_on_future or "",
        **dict.fromkeys(("looked", "unit", "weight", "multiply_adds", *agreement_columns())),
    }
    if attended is None:
        return record
    read = attended.read_count(head, pair.query)
    return record | {
        "looked": read.count,
        "unit": read.unit,
        "weight": float(attended.rows(pair.query, pair.key, head)),
        "multiply_adds": attended.cost.multiply_adds,
        **agreement_record(attended, head),
    }
