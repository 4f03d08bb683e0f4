"""What each level counts along the text, beside exact attention's mass in the same reach. Source: ours."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from longattn_core.contracts.indexing import edges
from longattn_core.measures.sampling import blocks, map_rows, sample_queries
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.map import HierarchicalMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting

MOST_QUERIES = 2048
"""Queries that are measured, at most."""
STRETCHES = 48
"""Stretches of the text over whose queries the means are taken, at most."""


class Gates(MechanismStudy[Hierarchical]):
    """What each level counts along the text, and where exact attention's mass lies in the same reach.

    Table `gates`: a row a level and stretch of queries (at most `STRETCHES`): `position`, the stretch's middle, `given`, the
    mass that the mechanism reads at that level, `exact`, exact attention's mass on the tokens that it reads so: the own
    sentence's token by token, the rest of the own paragraph by sentence, other paragraphs as one. Blocks have no such
    reach that is the same for all queries: there `exact` is NaN.
    """

    key: ClassVar[str] = "hierarchical.gates"
    reads: ClassVar[type[Hierarchical]] = Hierarchical
    setting: Setting = Setting(key="hierarchical")

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, mechanism, trace = run.sequence, self.mechanism(), run.attended_as(HierarchicalMap).trace
        head = self.head_in(sequence)
        alone = sequence.select_heads(head)
        sample = sample_queries(alone, MOST_QUERIES)
        exact = torch.full((len(sample.queries), len(trace.names)), torch.nan, dtype=torch.float64)
        if mechanism.variant in ("product", "mean", "gate"):
            at = 0
            for queries in blocks(alone, sample):
                rows = map_rows(alone, queries)[0]
                inside = [rows.sum(-1)]
                for groups in reversed(trace.levels):
                    inside.append((rows * (groups.of[queries][:, None] == groups.of[None, :])).sum(-1))
                # Coarsest first: all, the own outermost group, the one within it. A level reads what the next leaves.
                reach = [outer - inner for outer, inner in pairwise(inside)] + [inside[-1]]
                exact[at : at + len(queries)] = torch.stack(reach[::-1], dim=-1)
                at += len(queries)
        given = trace.gates[head].double()[list(sample.queries)]
        stretch = edges(0, len(sample.queries), STRETCHES)
        records: list[dict[str, object]] = []
        for start, stop in pairwise(stretch):
            middle = float(np.mean(sample.queries[start:stop]))
            for level, name in enumerate(trace.names):
                records.append(
                    {
                        "level": level,
                        "name": name,
                        "position": middle,
                        "given": float(given[start:stop, level].mean()),
                        "exact": float(exact[start:stop, level].mean()),
                    }
                )
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {"position": "token", "given": "share", "exact": "share"}
        return Parts(tables={"gates": table}, words={"sample": sample.text})
