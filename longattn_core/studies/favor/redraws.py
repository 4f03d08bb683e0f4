"""What another draw of the same directions changes, and what averaging several draws gains.

Source: Choromanski et al. 2020, arXiv:2009.14794, section 4.2 and figure 5: redrawing the directions while a model
trains matters. There are two ways to join draws: the mean of their outputs, each of which is a ratio; and all directions in one
ratio, which is the mechanism with as many times the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.map import FavorMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun, run_mechanism
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.favor.finding import similar
from longattn_core.studies.favor.sampled import sampled_head


class Redraws(MechanismStudy[Favor]):
    """Error of each of `draws` draws, and of the first K of them joined, for K = 1 … draws.

    Read are the head's first 1,024 tokens. Table `draws`: a row a seed. Table `joined`: `error` against `together` (how many
    draws) by `way`. Arrays: `control`, `m`. Cost: as many runs on one head as there are draws.
    """

    key: ClassVar[str] = "favor.redraws"
    reads: ClassVar[type[Favor]] = Favor
    setting: Setting = Setting(key="favor")
    draws: int = Field(12, ge=2, le=64)

    def _runs(self) -> MechanismRun:
        """The first draw, on the head alone."""
        return run_mechanism(self.mechanism(), sampled_head(self.source, self.head).sequence)

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        favor, head = self.mechanism(), sampled_head(self.source, self.head)
        singles, joined = [], []
        mean = torch.zeros_like(head.sequence.v, dtype=torch.float64)
        pool = _Pool(head.sequence.v.double())
        for step in range(self.draws):
            progress(step / self.draws, f"draw {step + 1}")
            seed = (favor.seed + step) % 2**31
            if step:
                run = run_mechanism(favor.with_dials(seed=seed), head.sequence)
            attended = run.attended_as(FavorMap)
            singles.append({"draw": step + 1, "seed": seed, "error": head.error(attended.output)})
            mean = mean + attended.output.double()
            pool.add(attended)
            for way, output in (("mean of the outputs", mean / (step + 1)), ("all features in one ratio", pool.output())):
                joined.append({"together": step + 1, "way": way, "error": head.error(output)})
        each, together = pd.DataFrame.from_records(singles), pd.DataFrame.from_records(joined)
        each.attrs["units"] = {"error": "relative"}
        together.attrs["units"] = {"error": "relative", "together": "draws"}
        arrays = {"control": np.array(head.control), "m": np.array(favor.features)}
        return Parts(arrays=arrays, tables={"draws": each, "joined": together})


class _Pool:
    """Sums over several draws: weighted values, and weights, relative to e^scale, the query's largest weight sum so far."""

    def __init__(self, own: Float[Tensor, "h n e"]) -> None:
        self._own = own
        self._total = torch.zeros_like(own)
        self._weight = own.new_zeros(own.shape[:2])
        self._scale = torch.full_like(self._weight, -torch.inf)

    def add(self, attended: FavorMap) -> None:
        """Add a draw, whose output times its sum of weights is its weighted sum of values."""
        size = attended.trace.log_normaliser.double()
        sign = 1 - 2 * attended.trace.negative.double()
        higher = torch.maximum(self._scale, size)
        safe = torch.where(torch.isneginf(higher), torch.zeros_like(higher), higher)
        kept, new = (self._scale - safe).exp(), sign * (size - safe).exp()
        self._total = self._total * kept[..., None] + attended.output.double() * new[..., None]
        self._weight = self._weight * kept + new
        self._scale = higher

    def output(self) -> Float[Tensor, "h n e"]:
        """The ratio of the sums; where the sum of weights is 0 the query keeps its own value."""
        nothing = (self._weight == 0)[..., None]
        return torch.where(nothing, self._own, self._total / torch.where(nothing, 1.0, self._weight[..., None]))


@dataclass(frozen=True, kw_only=True)
class RedrawsFinding:
    """How far one draw's error differs from another's, and which way of joining draws ends lower."""

    kind: Literal["ratio", "outputs", "alike"]
    draws: int
    low: float
    high: float
    ratio: float
    outputs: float
    control: float


def redraws_finding(result: Result) -> RedrawsFinding:
    """Read a `Redraws` result."""
    errors, joined = result.tables["draws"]["error"], result.tables["joined"]
    last = joined[joined["together"] == joined["together"].max()].set_index("way")["error"]
    ratio, outputs = float(last["all features in one ratio"]), float(last["mean of the outputs"])
    return RedrawsFinding(
        kind="alike" if similar(ratio, outputs) else "ratio" if ratio < outputs else "outputs",
        draws=len(errors),
        low=float(errors.min()),
        high=float(errors.max()),
        ratio=ratio,
        outputs=outputs,
        control=float(result.arrays["control"]),
    )
