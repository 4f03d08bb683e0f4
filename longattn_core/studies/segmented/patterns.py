"""The five ways to cross a cut as five small maps of one sequence, on one scale."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from longattn_core.contracts.mechanism import Refused
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.segmented.reach import INTEGRATIONS


class SegmentPatterns(HeadStudy):
    """Array `maps [5 H W]`: each cell is the largest weight in it, NaN where nothing was read; array `n`.

    `words[variant]` is the refusal of a variant that cannot read the sequence.
    """

    key: ClassVar[str] = "segmented.patterns"
    setting: Setting = Setting(key="segmented")
    cells: int = Field(128, ge=8, le=512)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head, size = self.head_in(sequence), min(self.cells, sequence.n)
        chosen = self.setting.build_as(Segmented)
        maps = np.full((len(INTEGRATIONS), size, size), np.nan, dtype=np.float32)
        words: dict[str, str] = {}
        for place, name in enumerate(INTEGRATIONS):
            progress(place / len(INTEGRATIONS), INTEGRATIONS[name])
            try:
                attended = kept_run(self.source, chosen.with_dials(variant=name)).attended_or_raise()
            except Refused as refused:
                words[name] = str(refused)
                continue
            cells = attended.pooled(None, None, (size, size), "max", head)[0].float().cpu().numpy()
            # A largest weight of exactly 0 is a cell without a pair that was read: softmax gives none of them 0.
            maps[place] = np.where(cells == 0, np.nan, cells)
        arrays = {"maps": maps, "n": np.array(sequence.n)}
        return Result(study=self, arrays=arrays, words=words)
