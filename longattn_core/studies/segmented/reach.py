"""How far back the last token can have learnt of others after some layers, under each way to cross the cuts.

Source: `measures/reach.py`: closed recursions for causal, fixed cuts; the pairs that the mechanism reads, iterated, for all else.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from longattn_core.contracts.mechanism import Attended, Refused
from longattn_core.measures.reach import Integration, frontier, segment_reach
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun, kept_run
from longattn_core.studies.base.study import Progress, Setting

LONGEST = 1024
"""Tokens up to which the pattern itself is iterated: that costs n² a layer."""

INTEGRATIONS: dict[Integration, str] = {
    "none": "nothing crosses",
    "overlap": "an overlap",
    "shifted": "shifted cuts",
    "summaries": "a mean of each",
    "second": "one integrated mean",
}
"""What crosses the cuts, in words."""

BLURRED = frozenset({"summaries", "second"})
"""What these reach, they reach as means only."""


class SegmentReach(MechanismStudy[Segmented]):
    """Tokens back from the last token after each layer, for every integration, at one width and overlap; the same for every head.

    Table `reach`: `integration`, `label`, `layer`, `back` (tokens), `blurred`. Array `layer_of [5 n]`: the layer at
    which each token is first reached under each integration, 0 the token itself, −1 never; array `last`. Cuts that follow
    sentences and sequences with no mask are iterated pair by pair, and refused beyond `LONGEST` tokens.
    """

    key: ClassVar[str] = "segmented.reach"
    reads: ClassVar[type[Segmented]] = Segmented
    setting: Setting = Setting(key="segmented")
    layers: int = Field(12, ge=1, le=64)

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, chosen = run.sequence, self.mechanism()
        last = int(sequence.real.nonzero().max())
        closed = sequence.causal and chosen.boundaries == "fixed"
        if not closed and sequence.n > LONGEST:
            raise Refused(f"Without closed formulas every pair is followed, which is done for at most {LONGEST:,} tokens.")
        records, first = [], np.full((len(INTEGRATIONS), sequence.n), -1, dtype=np.int64)
        for place, name in enumerate(INTEGRATIONS):
            progress(place / len(INTEGRATIONS), INTEGRATIONS[name])
            if closed:
                overlap = chosen.overlap if name == "overlap" else 0
                backs = [
                    segment_reach(last, min(chosen.width, sequence.n), layer, name, overlap=overlap)
                    for layer in range(self.layers + 1)
                ]
                for layer in range(self.layers, -1, -1):
                    first[place, last - backs[layer] : last + 1] = layer
            else:
                reached = frontier(self._layers(chosen, name), last, self.layers, head=0)
                backs = [0, *reached.furthest]
                for layer in range(self.layers - 1, -1, -1):
                    first[place, reached.reached[layer].cpu().numpy()] = layer + 1
                first[place, last] = 0
            records += [
                {"integration": name, "label": INTEGRATIONS[name], "layer": layer, "back": back, "blurred": name in BLURRED}
                for layer, back in enumerate(backs)
            ]
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {"layer": "layers", "back": "tokens"}
        return Parts(arrays={"layer_of": first, "last": np.array(last)}, tables={"reach": table})

    def _layers(self, chosen: Segmented, name: Integration) -> list[Attended]:
        """The maps that the layers take in turn, from the topmost down. Raises: Refused where one cannot be had."""
        settings = [chosen.with_dials(variant="none" if name == "shifted" else name)]
        if name == "shifted":
            settings.append(chosen.with_dials(variant="shifted"))
        return [kept_run(self.source, setting).attended_or_raise() for setting in settings]
