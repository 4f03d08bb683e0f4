"""How much of exact attention's weight stands on a stride, against what chance would find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch

from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.sampling import sample_queries
from longattn_core.mechanisms.strided import Strided
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import SAMPLE, MechanismRun
from longattn_core.studies.base.study import Progress, Result, Setting


class Strides(MechanismStudy[Strided]):
    """The weight that strides of 1, 2, 4, … and the chosen one find, and the row of the last token.

    Table `strides`: `stride`, `curve` ("weight found" or "keys read"), `share` (mean over `SAMPLE` queries).
    Arrays: `exact [n]` and `strided [n]`, the last token's weights; NaN where a key is not read.
    """

    key: ClassVar[str] = "strided.strides"
    reads: ClassVar[type[Strided]] = Strided
    setting: Setting = Setting(key="strided")

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, head = run.sequence, run.attended, self.head_in(run.sequence)
        assert attended is not None
        chosen = torch.tensor(sample_queries(sequence, SAMPLE).queries)
        exact, allowed = exact_rows(sequence, chosen, head)[0], sequence.allowed(chosen)
        distance = chosen[:, None] - torch.arange(sequence.n)
        rows = []
        for stride in sorted({self.mechanism().stride, *(2**power for power in range(sequence.n.bit_length()))}):
            read = allowed & (distance % stride == 0)
            found, chance = (exact * read).sum(-1).mean(), (read.sum(-1) / allowed.sum(-1)).mean()
            rows += [(stride, "weight found", float(found)), (stride, "keys read", float(chance))]
        table = pd.DataFrame(rows, columns=["stride", "curve", "share"])
        table.attrs["units"] = {"stride": "tokens", "share": "share"}
        last = int(chosen[-1])
        weights = torch.where(attended.kept(last, heads=head), attended.rows(last, heads=head), torch.nan)[0, 0]
        arrays = {"exact": exact[-1].float().numpy(), "strided": weights.float().numpy(), "last": np.array(last)}
        return Parts(arrays=arrays, tables={"strides": table})


@dataclass(frozen=True, kw_only=True)
class StrideFinding:
    """What the chosen stride finds, and the share of the keys that it reads.

    `kind`: "all" where every key is read; "chance" where the weight found is at most one and a half times the share of the
    keys; "most" from half of the weight on; "some" between; "refused" where the sequence cannot be read.
    """

    kind: Literal["all", "chance", "some", "most", "refused"]
    found: float
    chance: float


def stride_finding(result: Result) -> StrideFinding:
    """Read a `Strides` result."""
    if "refusal" in result.words:
        return StrideFinding(kind="refused", found=float("nan"), chance=float("nan"))
    table, stride = result.tables["strides"], result.study_as(Strides).mechanism().stride
    shares = table[table["stride"] == stride].set_index("curve")["share"]
    found, chance = float(shares["weight found"]), float(shares["keys read"])
    if stride == 1:
        return StrideFinding(kind="all", found=found, chance=chance)
    if found <= 1.5 * chance:
        return StrideFinding(kind="chance", found=found, chance=chance)
    return StrideFinding(kind="most" if found >= 0.5 else "some", found=found, chance=chance)
