"""One head's map at rank k: its two thin factors, the map that they rebuild, and the error that is left.

Source: Eckart & Young 1936 (Psychometrika 1).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.measures.theory.rank import truncation_error
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.pooling import pooled_by_size
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.base.sweep import powers_up_to
from longattn_core.studies.low_rank.decomposition import CELLS, decomposition


class Factors(HeadStudy):
    """The map at rank k: two thin factors, the map that they rebuild, and its difference from the exact map.

    Arrays: `left [n k]` = U√Σ and `right [k n]` = √ΣVᵀ, whose product is the rebuilt map; `rebuilt` and `difference` =
    rebuilt − exact (the remainder with its sign turned, as on every page), `[cells cells]`, each cell with its number of the
    largest absolute value; `kept` (share of Σσ²); `error` (‖difference‖/‖map‖ as measured); `eckart_young` (the same from
    the singular values alone); `ahead` (the share of the rebuilt map's energy that lies in the future, where the exact map
    is 0); `negative` (the share of its visible entries below zero).
    """

    key: ClassVar[str] = "low_rank.factors"
    rank: int = Field(64, ge=1, le=65536)
    without_sinks: bool = False

    def _run(self, progress: Progress) -> Result:
        whole = decomposition(self.source, self.head, without_sinks=self.without_sinks)
        k = min(self.rank, len(whole.values))
        root = whole.values[:k].sqrt().float()
        left, right = whole.u[:, :k] * root, root[:, None] * whole.vh[:k]
        rebuilt = left @ right
        difference = rebuilt - whole.exact
        size, energy = rebuilt.square().sum(), whole.values.square()
        ahead = rebuilt.triu(1).square().sum() / size if whole.sequence.causal else torch.zeros(())
        visible = rebuilt[torch.ones_like(rebuilt).tril().bool()] if whole.sequence.causal else rebuilt.flatten()
        arrays = {
            "left": left.numpy(),
            "right": right.numpy(),
            "rebuilt": pooled_by_size(rebuilt.numpy(), CELLS),
            "difference": pooled_by_size(difference.numpy(), CELLS),
            "rank": np.array(k),
            "kept": np.array(float(energy[:k].sum() / energy.sum())),
            "error": np.array(float(difference.norm() / whole.exact.norm())),
            "eckart_young": np.array(float(truncation_error(whole.values.numpy(), k))),
            "ahead": np.array(float(ahead)),
            # Rounding leaves tiny negative entries everywhere, which are no weights.
            "negative": np.array(float((visible < -1e-6).float().mean())),
        }
        return Result(study=self, arrays=arrays, words={"origin": whole.sequence.origin})


class Rebuilt(HeadStudy):
    """The error of the rebuilt map at k = 1, 2, 4 … n, measured number by number, beside Eckart and Young's.

    Table `errors`: `k`, `measured`, `formula`. Cost n²·k a row.
    """

    key: ClassVar[str] = "low_rank.rebuilt"

    def _run(self, progress: Progress) -> Result:
        whole = decomposition(self.source, self.head)
        records = []
        for k in powers_up_to(len(whole.values)):
            error = (whole.truncated(k) - whole.exact).norm() / whole.exact.norm()
            formula = float(truncation_error(whole.values.numpy(), k))
            records.append({"k": k, "measured": float(error), "formula": formula})
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {"k": "directions", "measured": "relative", "formula": "relative"}
        return Result(study=self, tables={"errors": table}, words={"origin": whole.sequence.origin})
