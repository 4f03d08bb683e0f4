"""How far back the last token can have learnt of others through several layers of memory.

Source: `measures/reach.py` (Dai et al. 2019, arXiv:1901.02860, section 3.2, exact also where segments do not divide the
cache); for summaries, whose groups end where tokens leave, the memory's own record of its oldest token is iterated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from longattn_core.measures.reach import memory_reach
from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.cache import CacheMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun, kept_run
from longattn_core.studies.base.study import Progress, Setting


class MemoryReach(MechanismStudy[Memory]):
    """Tokens back from the last token after each layer; the same for every head.

    Table `reach`: `kind` ("none": segments alone; "cache"; "rule": layers × M, as papers often state it; "compressed"; "blended":
    slots or a state), `layer`, `back`. `arrays["divides"]` is whether the segment divides the cache: then the rule is right.
    """

    key: ClassVar[str] = "memory.reach"
    reads: ClassVar[type[Memory]] = Memory
    setting: Setting = Setting(key="memory")
    layers: int = Field(12, ge=1, le=64)

    def _runs(self) -> MechanismRun:
        # Only summaries need a run: where their groups end is known from the trace alone.
        return kept_run(self.source, self.mechanism().with_dials(variant="compressed"))

    def _context(self, run: MechanismRun) -> Parts:
        return super()._context(replace(run, mechanism=self.mechanism()))

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, chosen = run.sequence, self.mechanism()
        last = int(sequence.real.nonzero().max())
        segment, memory = min(chosen.segment, sequence.n), min(chosen.memory, sequence.n)
        oldest = run.attended_as(CacheMap).trace.compressed[:, 0]
        backs = {
            "none": [memory_reach(last, segment, 0, layer) for layer in range(self.layers + 1)],
            "cache": [memory_reach(last, segment, memory, layer) for layer in range(self.layers + 1)],
            "rule": [min(last, last % segment + layer * memory) if layer else 0 for layer in range(self.layers + 1)],
            "compressed": [last - at for at in oldest_after(oldest, last, segment, self.layers)],
            "blended": [0, *[last] * self.layers],
        }
        table = pd.DataFrame.from_records(
            [{"kind": kind, "layer": layer, "back": back} for kind, row in backs.items() for layer, back in enumerate(row)]
        )
        table.attrs["units"] = {"layer": "layers", "back": "tokens"}
        arrays = {
            "last": np.array(last),
            "divides": np.array(memory % segment == 0),
            "segment": np.array(segment),
            "memory": np.array(memory),
        }
        return Parts(arrays=arrays, tables={"reach": table})


def oldest_after(oldest: Int[Tensor, "t"], position: int, segment: int, layers: int) -> list[int]:
    """The oldest token that has reached `position` after 0, 1, … layers, when segment t's memory begins at `oldest[t]`."""
    at = [position]
    for _layer in range(layers):
        at.append(int(oldest[at[-1] // segment]))
    return at
