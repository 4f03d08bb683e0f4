"""Hashing followed with the eye: the text, its keys sorted by bucket, what one query looks at there, and the text
again.

Source: Kitaev et al. 2020, arXiv:2001.04451, figure 2, whose steps the strips are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.lsh import LSH
from longattn_core.mechanisms.lsh.map import LSHMap
from longattn_core.studies.base.agreement import agreement_table
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import WatchedPair
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting

HERE, ELSEWHERE, ALWAYS = 1, 2, 3
"""Where the query found a key: in the round that is shown, in another round, or only by the local window or the
sinks.
"""


class LshStrips(MechanismStudy[LSH]):
    """One round of hashing, and one pair of it: `query` looks back, `marked` is the key that it should find.

    Arrays, n tokens: `query_buckets, key_buckets [n]` of this round (−1 for padding), `order [n]`, the keys sorted by
    (bucket, position) with padding last; `place`, where the query falls among them; `stretches [m 2]`, what it looks
    at there; `found [n]` (0 never looked at, else `HERE`, `ELSEWHERE`, `ALWAYS`); `exact, weights [n]`, NaN where the
    mask or the mechanism hides the key; `sizes [b]`, keys in each bucket. Table `rounds`: the pair's buckets in every
    round. Table `agreement`: recall, share of pairs, error and control, with and without the sinks.
    `words["refusal"]` stands in place of all that where the setting cannot read the sequence. Cost: one run and the
    exact rows of a sample of the queries.
    """

    key: ClassVar[str] = "lsh.strips"
    reads: ClassVar[type[LSH]] = LSH
    setting: Setting = Setting(key="lsh")
    round: int = Field(1, ge=1, le=32)
    query: int | None = Field(None, ge=0, le=131071)
    marked: int | None = Field(None, ge=0, le=131071)

    def _pair(self, sequence: Sequence) -> WatchedPair:
        return WatchedPair.of(sequence, self.head_in(sequence), self.query, self.marked)

    def _context(self, run: MechanismRun) -> Parts:
        context = super()._context(run)
        return replace(context, arrays={**context.arrays, **self._pair(run.sequence).arrays()})

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        attended, head, pair = run.attended_as(LSHMap), self.head_in(run.sequence), self._pair(run.sequence)
        trace, shown = attended.trace, min(self.round, attended.trace.buckets.shape[1]) - 1
        found = _found(attended, head, pair.query, shown)
        row = attended.rows(pair.query, None, head)[0, 0]
        arrays = {
            "query_buckets": trace.buckets[head, shown].numpy(),
            "key_buckets": trace.key_buckets[head, shown].numpy(),
            "order": trace.key_order[head, shown].numpy(),
            "place": np.array(int(trace.place[head, shown, pair.query])),
            "stretches": _stretches(attended, head, pair.query, shown),
            "found": found,
            "weights": torch.where(torch.from_numpy(found) > 0, row, torch.nan).float().numpy(),
            "sizes": trace.sizes[head, shown].numpy(),
            "round": np.array(shown + 1),
        }
        tables = {"rounds": _rounds(attended, head, pair.query, pair.key), "agreement": agreement_table(attended, head)}
        return Parts(arrays=arrays, tables=tables, words={"centring": trace.calibration})


def _lists_of_round(names: tuple[str, ...], shown: int) -> list[int]:
    """The lists of one round: without a mask the chunk that wraps around is a list of its own."""
    return [p for p, name in enumerate(names) if name == f"round {shown + 1}"]


def _stretches(attended: LSHMap, head: int, query: int, shown: int) -> np.ndarray:
    lists = attended.lists
    owner = head if len(lists.first) > 1 else 0
    spans = [
        (int(lists.first[owner, p, query]), int(lists.stop[owner, p, query]))
        for p in _lists_of_round(attended.trace.lists, shown)
    ]
    return np.array([span for span in spans if span[1] > span[0]], dtype=np.int64).reshape(-1, 2)


def _found(attended: LSHMap, head: int, query: int, shown: int) -> np.ndarray:
    """For every key where the query found it; its own key counts only where the mechanism lets it look there."""
    n = attended.sequence.n
    pair = torch.tensor([[query]]), torch.arange(n)[None, None], torch.tensor([head])
    seen = attended.kept(query, None, head)[0, 0]
    found = torch.where(seen, ALWAYS, 0)
    for p, name in enumerate(attended.trace.lists):
        if name.startswith("round") and name != f"round {shown + 1}":
            found[attended.lists.holds(p, *pair)[0, 0] & seen] = ELSEWHERE
    for p in _lists_of_round(attended.trace.lists, shown):
        found[attended.lists.holds(p, *pair)[0, 0] & seen] = HERE
    return found.numpy()


def _rounds(attended: LSHMap, head: int, query: int, marked: int) -> pd.DataFrame:
    trace = attended.trace
    mine, its = trace.buckets[head, :, query], trace.key_buckets[head, :, marked]
    pair = torch.tensor([[query]]), torch.tensor([[[marked]]]), torch.tensor([head])
    held = [any(bool(attended.lists.holds(p, *pair)) for p in _lists_of_round(trace.lists, shown)) for shown in range(len(mine))]
    if attended.shared and query == marked:
        held = [False] * len(mine)
    table = pd.DataFrame(
        {
            "round": np.arange(1, len(mine) + 1),
            "query bucket": mine.numpy(),
            "key bucket": its.numpy(),
            "met": (mine == its).numpy(),
            "found": held,
        }
    )
    table.attrs["units"] = {"round": "number", "query bucket": "number", "key bucket": "number"}
    return table
