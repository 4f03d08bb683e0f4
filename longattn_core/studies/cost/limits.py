"""How much of a head's weight any choice of k keys per query could keep, and what a window or a blind choice keeps.

Source: no k keys hold more weight than the k largest weights of a row; the rest is counting. Nothing is approximated here.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.sampling import sample_queries
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.study import Progress, Result

QUERIES = 256


class SparseLimits(HeadStudy):
    """The share of exact attention that k keys a query can hold, for k = 1, 2, 4 … n.

    Table `limits`: `keys`, `best` (the k largest weights), `window` (the k nearest keys up to the query, or around it), `blind`
    (a choice that knows nothing of the keys: k as a share of the visible keys), means over at most 256 queries.
    `words["sample"]` names the queries.
    """

    key: ClassVar[str] = "cost.limits"

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = self.head_in(sequence)
        sample = sample_queries(sequence, QUERIES)
        n = sequence.n
        counts = sorted({*(1 << power for power in range(n.bit_length())), n})
        best, window, blind = (torch.zeros(len(counts), dtype=torch.float64) for _ in range(3))
        chosen = torch.tensor(sample.queries)
        places = torch.arange(n)
        for part in row_chunks(len(chosen), n):
            queries = chosen[part]
            rows = exact_rows(sequence, queries, head)[0].double()
            allowed = sequence.allowed(queries)
            held = rows.sort(dim=-1, descending=True).values.cumsum(-1)
            # Keys by their distance from the query, masked ones last: the first k are the k nearest.
            nearest = (places - queries[:, None]).abs().masked_fill(~allowed, n + 1).argsort(dim=-1, stable=True)
            near, visible = rows.gather(-1, nearest).cumsum(-1), allowed.sum(-1)
            for index, count in enumerate(counts):
                best[index] += held[:, count - 1].sum()
                window[index] += near[:, count - 1].sum()
                blind[index] += (count / visible).clamp_max(1).sum()
            progress(part.stop / len(chosen), "")
        mean = {name: (total / len(chosen)).numpy() for name, total in zip(NAMES, (best, window, blind), strict=True)}
        table = pd.DataFrame({"keys": counts, **mean})
        table.attrs["units"] = {"keys": "keys a query", **dict.fromkeys(NAMES, "share of the weight")}
        arrays = {"n": np.array(n), "head": np.array(head)}
        return Result(study=self, arrays=arrays, tables={"limits": table}, words={"sample": sample.text})


NAMES = ("best", "window", "blind")
