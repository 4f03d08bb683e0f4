"""How far back the last token can have learnt of others through several layers of memory.

Source: `measures/reach.py` (Dai et al. 2019, arXiv:1901.02860, section 3.2, exact also where segments do not divide the
cache); for summaries, whose groups end where tokens leave, the memory's own record of its oldest token is iterated.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from longattn_core.measures.reach import memory_reach
from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.cache import CacheTrace
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result, Setting, Study


class MemoryReach(Study):
    """Tokens back from the last token after each layer.

    Table `reach`: `kind` ("none": segments alone; "cache"; "rule": layers × M, as it is often said; "compressed"; "blended":
    slots or a state), `layer`, `back`. `arrays["divides"]` is whether the segment divides the cache: then the rule is right.
    """

    key: ClassVar[str] = "memory.reach"
    setting: Setting = Setting(key="memory")
    layers: int = Field(12, ge=1, le=64)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        chosen = self.setting.build()
        assert isinstance(chosen, Memory)
        last = int(sequence.real.nonzero().max())
        segment, memory = min(chosen.segment, sequence.n), min(chosen.memory, sequence.n)
        compressed = kept_run(self.source, chosen.with_dials(variant="compressed")).attended
        assert compressed is not None
        assert isinstance(compressed.trace, CacheTrace)
        oldest = compressed.trace.compressed[:, 0]
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
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
            "last": np.array(last),
            "divides": np.array(memory % segment == 0),
            "segment": np.array(segment),
            "memory": np.array(memory),
        }
        return Result(study=self, arrays=arrays, tables={"reach": table})


def oldest_after(oldest: Int[Tensor, "t"], position: int, segment: int, layers: int) -> list[int]:
    """The oldest token that has reached `position` after 0, 1, … layers, when segment t's memory begins at `oldest[t]`."""
    at = [position]
    for _layer in range(layers):
        at.append(int(oldest[at[-1] // segment]))
    return at
