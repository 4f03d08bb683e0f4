"""What another draw of the same directions changes, and what averaging several draws gains.

Source: Choromanski et al. 2020, arXiv:2009.14794, section 4.2 and figure 5: redrawing the directions while a model
trains matters. Two ways to join draws: the mean of their outputs, each a ratio of its own; and all directions in one
ratio, which is the mechanism with as many times the features.
"""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.mechanisms.favor.map import FavorMap
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.favor.common import favor_of, measured_at


class Redraws(HeadStudy):
    """Error of each of `draws` draws, and of the first K of them joined, for K = 1 … draws.

    Table `draws`: a row a seed. Table `joined`: `error` against `together` (how many draws) by `way`. Arrays: `control`.
    """

    key: ClassVar[str] = "favor.redraws"
    setting: Setting = Setting(key="favor")
    draws: int = Field(12, ge=2, le=64)

    def _run(self, progress: Progress) -> Result:
        import numpy as np

        favor, one = favor_of(self.setting), measured_at(self.source, self.head)
        singles, joined = [], []
        mean = torch.zeros_like(one.sequence.v, dtype=torch.float64)
        pool = _Pool(one.sequence.v.double())
        for step in range(self.draws):
            progress(step / self.draws, f"draw {step + 1}")
            seed = (favor.seed + step) % 2**31
            attended = favor.model_copy(update={"seed": seed}).attend(one.sequence)
            assert isinstance(attended, FavorMap)
            singles.append({"draw": step + 1, "seed": seed, "error": one.error(attended.output)})
            mean = mean + attended.output.double()
            pool.add(attended)
            for way, output in (("mean of the outputs", mean / (step + 1)), ("all features in one ratio", pool.output())):
                joined.append({"together": step + 1, "way": way, "error": one.error(output)})
        each, together = pd.DataFrame.from_records(singles), pd.DataFrame.from_records(joined)
        each.attrs["units"] = {"error": "relative"}
        together.attrs["units"] = {"error": "relative", "together": "draws"}
        return Result(
            study=self,
            arrays={"control": np.array(one.control), "m": np.array(favor.features)},
            tables={"draws": each, "joined": together},
        )


class _Pool:
    """The sums of several draws, each kept relative to the largest of a query's sums so far."""

    def __init__(self, own: Float[Tensor, "h n e"]) -> None:
        self._own = own
        self._total = torch.zeros_like(own)
        self._weight = own.new_zeros(own.shape[:2])
        self._scale = torch.full_like(self._weight, -torch.inf)

    def add(self, attended: FavorMap) -> None:
        """One more draw: its output times its sum of weights is its weighted sum of values."""
        size = attended.trace.log_normaliser.double()
        sign = 1 - 2 * attended.trace.negative.double()
        higher = torch.maximum(self._scale, size)
        safe = torch.where(torch.isneginf(higher), torch.zeros_like(higher), higher)
        kept, new = (self._scale - safe).exp(), sign * (size - safe).exp()
        self._total = self._total * kept[..., None] + attended.output.double() * new[..., None]
        self._weight = self._weight * kept + new
        self._scale = higher

    def output(self) -> Float[Tensor, "h n e"]:
        """The ratio of the sums; a sum of 0 leaves the query its own value."""
        nothing = (self._weight == 0)[..., None]
        return torch.where(nothing, self._own, self._total / torch.where(nothing, 1.0, self._weight[..., None]))
