"""How far back the last token can have learnt of others after some layers, under each way to cross the cuts.

Source: `measures/reach.py`: closed recursions for causal, fixed cuts; what the mechanism looked at, iterated, for all else.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from longattn_core.contracts.mechanism import Attended
from longattn_core.measures.reach import Integration, frontier, segment_reach
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result, Setting, Study

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


class SegmentReach(Study):
    """Tokens back from the last token after each layer, for every integration, at one width and overlap.

    Table `reach`: `integration`, `label`, `layer`, `back` (tokens), `blurred`. Array `layer_of [5, n]`: the layer at
    which each token is first reached under each integration, 0 the token itself, −1 never. `words["refusal"]` says why there
    is none: cuts that follow sentences and sequences with no mask are iterated pair by pair, up to `LONGEST` tokens.
    """

    key: ClassVar[str] = "segmented.reach"
    setting: Setting = Setting(key="segmented")
    layers: int = Field(12, ge=1, le=64)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        chosen = self.setting.build()
        assert isinstance(chosen, Segmented)
        last = int(sequence.real.nonzero().max())
        arrays: dict[str, np.ndarray] = {"tokens": np.array(tokens_of(sequence), dtype=np.str_)}
        closed = sequence.causal and chosen.boundaries == "fixed"
        if not closed and sequence.n > LONGEST:
            refusal = f"Without closed formulas every pair is followed, which is done for at most {LONGEST:,} tokens."
            return Result(study=self, arrays=arrays, words={"refusal": refusal})
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
                found = self._followed(chosen, name)
                if isinstance(found, str):
                    return Result(study=self, arrays=arrays, words={"refusal": found})
                reached = frontier(found, last, self.layers, head=0)
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
        arrays |= {"layer_of": first, "last": np.array(last)}
        return Result(study=self, arrays=arrays, tables={"reach": table})

    def _followed(self, chosen: Segmented, name: Integration) -> list[Attended] | str:
        """The maps whose layers alternate, from the topmost down; or the sentence why there are none."""
        settings = [chosen.with_dials(variant="none" if name == "shifted" else name)]
        if name == "shifted":
            settings.append(chosen.with_dials(variant="shifted"))
        maps = []
        for setting in settings:
            one = kept_run(self.source, setting)
            if one.attended is None:
                return one.refusal or ""
            maps.append(one.attended)
        return maps
