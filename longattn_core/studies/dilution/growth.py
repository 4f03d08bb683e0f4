"""Any sequence as it grows: what its last queries give to their strongest key, to the sinks, and to the rest.

Source: ours. Under a causal mask the first n tokens are what they were before the others came, so one reading of the
model serves every length.
"""

from __future__ import annotations

import math
from typing import ClassVar

import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.cost import doublings
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.dilution.weight_shares import UNITS, Look, row_of

__all__ = ["Growth", "last_look"]

SHORTEST = 16
SINK_QUERIES = 256


class Growth(HeadStudy):
    """The last `queries` real tokens of each prefix look back over it; lengths double from 16 to the whole.

    Table `points`: a row a length with the columns of `row_of`; the needle is each query's strongest key that is no sink.
    Sinks are those of the whole sequence. Without a mask a prefix sees itself, and nothing beyond its end.
    """

    key: ClassVar[str] = "dilution.growth"
    queries: int = Field(32, ge=1, le=256)
    reference: int = Field(SHORTEST, ge=2, le=8192)
    temperature: float = Field(0.67, gt=0.05, le=10)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        alone = sequence.select_heads(self.head_in(sequence))
        sinks = find_sinks(alone, sample_queries(alone, min(SINK_QUERIES, int(alone.real.sum()))))[0]
        lengths = doublings(alone.n, start=SHORTEST)
        rows = []
        for index, n in enumerate(lengths):
            progress(index / len(lengths), f"{n:,} tokens")
            if bool(alone.real[:n].any()):
                look = last_look(alone, n, self.queries, tuple(sink for sink in sinks if sink < n))
                row = row_of(look, reference=self.reference, temperature=self.temperature)
                rows.append({**row, "queries": len(look.scores), "sink count": len(look.sinks)})
        table = pd.DataFrame.from_records(rows)
        table.attrs["units"] = {**UNITS, "queries": "queries averaged", "sink count": "keys"}
        return Result(study=self, tables={"points": table}, words={"origin": sequence.origin})


def last_look(alone: Sequence, n: int, queries: int, sinks: tuple[int, ...]) -> Look:
    """How the last real tokens of the first n score the keys that they may see. Cost: queries·n·d."""
    prefix = alone.prefix(n)
    last = prefix.real.nonzero().squeeze(-1)[-queries:]
    scores = prefix.q[0, last].double() @ prefix.k[0].double().mT / math.sqrt(prefix.d)
    return Look(scores=scores.masked_fill(~prefix.allowed(last), -torch.inf), needle=None, sinks=sinks)
