"""What each cut of a segmented text takes from the attention that exact attention would give across it.

Source: ours. A pair of a query and a key *crosses* a cut that stands between them, and what it loses is counted as in
`studies/base/lost_rows.py`. One long pair crosses many cuts, so the cuts' losses do not add up to the whole loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from longattn_core.measures.sampling import sample_queries
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.mechanisms.segmented.map import SegmentedMap
from longattn_core.studies.base.agreement import ALL_AGREEMENT_UNITS, agreement_record, cost_columns
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.lost_rows import COUNTED, LostRows
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting

SAMPLE = 512
"""Queries whose rows are read; a longer text is sampled."""
PAIRS = 4096
"""The heaviest lost pairs, among which each cut finds its own."""
NAMED = 3
"""How many pairs a cut names."""


class Cuts(MechanismStudy[Segmented]):
    """The loss at every cut, over all queries that stand on the other side of it.

    Table `cuts`, a row a cut: `cut` (the first token behind it), for each way of counting the share of the queries' mass
    that crosses the cut and is lost, `never` (the part of it, by attention, that was never read), `queries` (how many
    rows that is the mean of), `pairs` (the heaviest lost pairs across it, in words). Table `whole`, one row: the same shares
    over all pairs, and the agreement with exact attention. Arrays: `boundaries [B+1]`, `segment [n]`, `tokens [n]`,
    `lost [r]` and `queries [r]`: what each sampled query loses; `taken [n]`: what is lost of each key, mean over the rows.
    """

    key: ClassVar[str] = "segmented.cuts"
    reads: ClassVar[type[Segmented]] = Segmented
    setting: Setting = Setting(key="segmented")

    def _context(self, run: MechanismRun) -> Parts:
        context = super()._context(run)
        return replace(context, words={**context.words, "leaks": run.mechanism.depends_on_future or ""})

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, head = run.sequence, run.attended_as(SegmentedMap), self.head_in(run.sequence)
        sample = sample_queries(sequence, SAMPLE)
        progress(0.2, run.mechanism.label)
        rows = LostRows.of(attended, sample, head)
        boundaries = attended.trace.boundaries
        cuts = boundaries[1:-1]
        table = pd.DataFrame({"cut": cuts.cpu().numpy()})
        for counted in COUNTED:
            table[counted] = rows.at(cuts, counted).numpy()
        table["never"] = rows.at(cuts, "attention", never=True).numpy()
        table["queries"] = rows.behind(cuts).sum(0).numpy()
        table["pairs"] = _heaviest_pairs(rows, cuts, tokens_of(sequence))
        table.attrs["units"] = {"cut": "token", "never": "share", "queries": "rows", **dict.fromkeys(COUNTED, "share")}
        whole = {name: rows.whole(name) for name in COUNTED} | {"never": rows.whole("attention", never=True)}
        columns = {"cuts": len(cuts)} | cost_columns(attended) | agreement_record(attended, head)
        shares = pd.DataFrame([whole | columns])
        shares.attrs["units"] = {"never": "share", "cuts": "cuts", **dict.fromkeys(COUNTED, "share"), **ALL_AGREEMENT_UNITS}
        arrays = {
            "boundaries": boundaries.cpu().numpy(),
            "segment": attended.trace.segment.cpu().numpy(),
            "queries": rows.queries.cpu().numpy(),
            "lost": rows.lost.sum(-1).cpu().numpy(),
            "taken": rows.lost.mean(0).cpu().numpy(),
            "sinks": np.array(rows.sinks, dtype=np.int64),
        }
        return Parts(arrays=arrays, tables={"cuts": table, "whole": shares}, words={"sample": sample.text})


def _heaviest_pairs(rows: LostRows, cuts: Int[Tensor, "c"], tokens: list[str]) -> list[str]:
    """The heaviest lost pairs across each cut in words, no sinks among them: which query would have looked at which key."""
    lost = rows.lost * rows.factors["without sinks"]
    top = lost.flatten().topk(min(PAIRS, lost.numel()))
    positive = top.values > 0
    query, key = rows.queries[top.indices[positive] // lost.shape[1]], top.indices[positive] % lost.shape[1]
    weights = top.values[positive].tolist()
    low, high = torch.minimum(query, key), torch.maximum(query, key)
    named = []
    for cut in cuts.tolist():
        crossing = ((low < cut) & (high >= cut)).nonzero().squeeze(-1)[:NAMED].tolist()
        named.append("; ".join(f"{_quoted(tokens[query[i]])} → {_quoted(tokens[key[i]])} {weights[i]:.2f}" for i in crossing))
    return named


def _quoted(token: str) -> str:
    text = token.strip()
    return f"“{text}”" if text else "“␣”"
