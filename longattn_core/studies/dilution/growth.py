"""Any sequence as it grows: what its last queries give to their strongest key, to the sinks, and to the rest.

Source: ours. Under a causal mask no later token changes the queries, keys and values of the first n, so one pass of the
model gives every length.
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
from longattn_core.studies.dilution.weight_shares import UNITS, ScoreRows, table_row

__all__ = ["Growth", "head_sinks", "last_rows"]

SHORTEST = 16
SINK_QUERIES = 256


class Growth(HeadStudy):
    """What the last `queries` real tokens of each prefix give their weight to; the lengths double from 16 to the whole.

    Table `points`: a row a length with the columns of `table_row`; the needle is each query's strongest key that is no sink.
    Sinks are those of the whole sequence. Without a mask a query sees its whole prefix, and nothing beyond its end.
    """

    key: ClassVar[str] = "dilution.growth"
    queries: int = Field(32, ge=1, le=256)
    reference: int = Field(SHORTEST, ge=2, le=8192)
    temperature: float = Field(0.67, gt=0.05, le=10)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = sequence.select_heads(self.head_in(sequence))
        sinks = head_sinks(head)
        lengths = doublings(head.n, start=SHORTEST)
        rows = []
        for index, n in enumerate(lengths):
            progress(index / len(lengths), f"{n:,} tokens")
            if bool(head.real[:n].any()):
                last = last_rows(head, n, self.queries, sinks)
                row = table_row(last, reference=self.reference, temperature=self.temperature)
                rows.append({**row, "queries": len(last.scores), "sink count": len(last.sinks)})
        table = pd.DataFrame.from_records(rows)
        table.attrs["units"] = {**UNITS, "queries": "queries averaged", "sink count": "keys"}
        return Result(study=self, tables={"points": table}, words={"origin": sequence.origin})


def head_sinks(head: Sequence) -> tuple[int, ...]:
    """The sinks of a sequence of one head, found on a sample of its queries."""
    return find_sinks(head, sample_queries(head, min(SINK_QUERIES, int(head.real.sum()))))[0]


def last_rows(head: Sequence, n: int, queries: int, sinks: tuple[int, ...]) -> ScoreRows:
    """The scores of the last `queries` real tokens among the first n of one head, over the keys that they may see.

    Of `sinks`, those beyond the first n tokens are left out. Cost: queries·n·d.
    """
    prefix = head.prefix(n)
    last = prefix.real.nonzero().squeeze(-1)[-queries:]
    scores = prefix.q[0, last].double() @ prefix.k[0].double().mT / math.sqrt(prefix.d)
    inside = tuple(sink for sink in sinks if sink < n)
    return ScoreRows(scores=scores.masked_fill(~prefix.allowed(last), -torch.inf), needle=None, sinks=inside)
