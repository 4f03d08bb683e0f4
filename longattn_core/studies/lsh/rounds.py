"""What each round of hashing adds: pairs found, weight found, alone and in union with the rounds before it.

Source: the union of rounds is Kitaev et al. 2020, arXiv:2001.04451, section 2, "multi-round LSH attention".
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.sampling import blocks, sample_queries
from longattn_core.measures.spread import find_sinks, sink_mask
from longattn_core.mechanisms.lsh import LSH
from longattn_core.mechanisms.lsh.map import LSHMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting

SAMPLE = 256


class LshRounds(MechanismStudy[LSH]):
    """Recall and share of pairs of each round alone, of what it adds, and of all rounds so far.

    Table `rounds`, one row a list (the rounds, then the local window and the sinks where they are set): `alone`, `new`,
    `union` are shares of the allowed pairs, `recall alone`, `recall new`, `recall union` shares of the weight outside the
    sinks. Table `sizes`: keys and queries in each bucket of each round. Measured on `SAMPLE` queries.
    """

    key: ClassVar[str] = "lsh.rounds"
    reads: ClassVar[type[LSH]] = LSH
    setting: Setting = Setting(key="lsh")

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        attended, head = run.attended_as(LSHMap), self.head_in(run.sequence)
        names = list(dict.fromkeys(attended.trace.lists))
        names = [name for name in names if name.startswith("round") or _widest(attended, name)]
        return Parts(tables={"rounds": _rounds(attended, head, names), "sizes": _sizes(attended, head)})


def _rounds(attended: LSHMap, head: int, names: list[str]) -> pd.DataFrame:
    sequence = attended.sequence
    sample = sample_queries(sequence, SAMPLE)
    hidden = sink_mask(find_sinks(sequence, sample), sequence.n)[head]
    owner = torch.tensor([head])
    sums = np.zeros((len(names), 6))
    pairs = weight = 0.0
    for queries in blocks(sequence, sample):
        allowed = sequence.allowed(queries)
        if attended.shared:
            allowed = allowed & (torch.arange(sequence.n) != queries[:, None])
        exact = exact_rows(sequence, queries, head)[0].double().masked_fill(hidden, 0.0) * allowed
        pairs, weight = pairs + float(allowed.sum()), weight + float(exact.sum())
        keys = torch.arange(sequence.n).expand(1, len(queries), -1)
        before = torch.zeros_like(allowed)
        for index, name in enumerate(names):
            mine = torch.zeros_like(allowed)
            for p, other in enumerate(attended.trace.lists):
                if other == name:
                    mine |= attended.lists.holds(p, queries[None], keys, owner)[0]
            mine &= allowed
            after = before | mine
            found: tuple[Tensor, ...] = (mine, mine & ~before, after)
            sums[index] += [float(x.sum()) for x in found] + [float(exact[x].sum()) for x in found]
            before = after
    columns = ["alone", "new", "union", "recall alone", "recall new", "recall union"]
    shares = sums / np.array([max(pairs, 1.0)] * 3 + [weight or np.nan] * 3)
    table = pd.DataFrame({"list": names, **dict(zip(columns, shares.T, strict=True))})
    table.attrs["units"] = dict.fromkeys(columns[:3], "share of pairs") | dict.fromkeys(columns[3:], "share of weight")
    return table


def _widest(attended: LSHMap, name: str) -> int:
    return max(w for w, other in zip(attended.lists.widest, attended.trace.lists, strict=True) if other == name)


def _sizes(attended: LSHMap, head: int) -> pd.DataFrame:
    trace = attended.trace
    rounds, buckets = trace.sizes.shape[1:]
    queries = np.stack([np.bincount(row[row >= 0].numpy(), minlength=buckets) for row in trace.buckets[head]])
    table = pd.DataFrame(
        {
            "round": np.repeat(np.arange(1, rounds + 1), buckets),
            "bucket": np.tile(np.arange(buckets), rounds),
            "keys": trace.sizes[head].numpy().ravel(),
            "queries": queries.ravel(),
        }
    )
    table.attrs["units"] = {"keys": "tokens", "queries": "tokens", "round": "number", "bucket": "number"}
    return table
