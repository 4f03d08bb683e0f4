"""How attention falls with distance: exact attention's, the memory's, and the part that the memory can still reach."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from longattn_core.measures.sampling import sample_queries
from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.lost_rows import LostRows
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting

SAMPLE = 256
"""Queries whose rows are read, at most."""


class MemoryLags(MechanismStudy[Memory]):
    """Mass by lag, in bins that double: 0, 1, 2–3, 4–7, …

    Table `lags`, a row a bin: `low`, `high`, `middle` (their geometric mean; 0.5 for the query itself, so that a logarithmic
    axis can show it), mean share of a query's attention in the bin, `exact` and `memory`, both also without the sinks'
    columns; `reached`, the part of the exact mass there that the memory reads. A state that takes
    back has a negative `memory`.
    """

    key: ClassVar[str] = "memory.lags"
    reads: ClassVar[type[Memory]] = Memory
    setting: Setting = Setting(key="memory")

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended = run.sequence, run.attended_or_raise()
        sample = sample_queries(sequence, SAMPLE)
        rows = LostRows.of(attended, sample, self.head_in(sequence))
        places = torch.arange(sequence.n, device=rows.queries.device)
        lag = (rows.queries[:, None] - places).abs()
        count = (sequence.n - 1).bit_length() + 1
        bins = torch.where(lag > 0, lag.double().log2().floor() + 1, 0.0).long()

        def binned(weights: Tensor) -> np.ndarray:
            sums = weights.new_zeros(count).index_add(0, bins.flatten(), weights.flatten())
            mean: np.ndarray = (sums / len(rows.queries)).cpu().numpy()
            return mean

        without_sinks = rows.factors["without sinks"]
        low = np.array([0, *(1 << power for power in range(count - 1))])
        high = np.minimum(np.array([0, *((2 << power) - 1 for power in range(count - 1))]), sequence.n - 1)
        exact, never = binned(rows.exact), binned(rows.never)
        table = pd.DataFrame(
            {
                "low": low,
                "high": high,
                "middle": np.where(low == 0, 0.5, np.sqrt(np.maximum(low, 1) * high)),
                "exact": exact,
                "memory": binned(rows.given),
                "exact without sinks": binned(rows.exact * without_sinks),
                "memory without sinks": binned(rows.given * without_sinks),
                "reached": np.divide(exact - never, exact, out=np.full(count, np.nan), where=exact > 1e-12),
            }
        )
        table.attrs["units"] = {
            **dict.fromkeys(("low", "high", "middle"), "tokens back"),
            **dict.fromkeys(("exact", "memory", "exact without sinks", "memory without sinks", "reached"), "share"),
        }
        return Parts(tables={"lags": table}, words={"sample": sample.text})
