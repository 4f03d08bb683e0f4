"""The singular values of one head's exact map, beside those of the uniform map.

Source: Eckart & Young 1936 (Psychometrika 1).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.pooling import pooled_by_size
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.low_rank.decomposition import CELLS, Numbers, decomposition, exact_map, uniform_values


class Spectrum(HeadStudy):
    """Singular values of one head's exact map: whole, without its sinks' columns, and of the uniform map beside it.

    Arrays: `values`, `without sinks`, `uniform` `[n]`; `exact [cells cells]` (the largest weight of each cell); `tokens`;
    `sinks`; `n` read of `of` tokens; `causal`. Table `spectrum`: a row for each direction of each map, with the energy held
    up to it and the relative error ‖A − A_k‖/‖A‖ of stopping there.
    """

    key: ClassVar[str] = "low_rank.spectrum"

    def _run(self, progress: Progress) -> Result:
        progress(0.1, "singular values")
        whole = decomposition(self.source, self.head)
        sequence, sinks = whole.sequence, whole.sinks
        values = whole.values.numpy()
        uniform = uniform_values(sequence.n, causal=sequence.causal)
        progress(0.6, "without sinks")
        without, maps = values, {"this map": values}
        if any(sinks):
            without = torch.linalg.svdvals(exact_map(sequence, without=sinks)).numpy()
            maps["without its sinks"] = without
        maps["uniform map"] = uniform
        table = pd.concat([_spectrum(name, values_of) for name, values_of in maps.items()], ignore_index=True)
        table.attrs["units"] = {"direction": "number", "value": "σ", "energy": "share", "error": "relative"}
        arrays = {
            "values": values.copy(),
            "without sinks": without.copy(),
            "uniform": uniform,
            "exact": pooled_by_size(whole.exact.numpy(), CELLS),
            "tokens": token_array(sequence),
            "sinks": np.array(sinks[0], dtype=np.int64),
            "n": np.array(sequence.n),
            "of": np.array(self.sequence().n),
            "causal": np.array(sequence.causal),
        }
        return Result(study=self, arrays=arrays, tables={"spectrum": table}, words={"origin": sequence.origin})


def _spectrum(name: str, values: Numbers) -> pd.DataFrame:
    squares = values**2
    held = squares.cumsum() / squares.sum()
    error = np.sqrt(np.clip(squares[::-1].cumsum()[::-1] - squares, 0, None) / squares.sum())
    return pd.DataFrame(
        {"map": name, "direction": np.arange(1, len(values) + 1), "value": values, "energy": held, "error": error}
    )
