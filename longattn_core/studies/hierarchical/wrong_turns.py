"""Where descents go wrong: the level at which the mechanism first prefers another group than exact attention does.

Source: ours. The rule, for each sampled query, with the sinks' columns left out of both maps:
a query has a target if exact attention leaves at least `LEFT` of its mass outside the sinks, and one group of the coarsest
level holds at least half of that. Its descent is lost at the first level, from the coarsest down, at which the group that the
mechanism weighs most is not the one that exact attention weighs most; it arrives if the tokens agree too.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from longattn_core.measures.sampling import blocks, map_rows, sample_queries
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.map import HierarchicalMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import SAMPLE, MechanismRun, sinks_of
from longattn_core.studies.base.study import Progress, Setting
from longattn_core.studies.hierarchical.tree import Level, tree_of

LEFT = 0.05
"""With less of its mass outside the sinks, a query has no target."""
CLEAR = 0.5
"""The share of the mass outside the sinks that makes a group a target."""
ARRIVES = "arrives"
COLUMNS = ["query", "token", "target", "chosen", "best", "place", "own", "share", "outcome"]


class WrongTurns(MechanismStudy[Hierarchical]):
    """At which level descents lose their target, over at most `SAMPLE` queries.

    Table `queries`: one row a query with a target; `outcome` is the level at which it is lost, or "arrives"; `own` says
    whether the target stands in the query's own group of the coarsest level. Table `outcomes`: how many of each.
    Arrays: `measured`, how many queries were measured; `sinks_only`, how many leave nothing; `spread`, how many have no
    clear target; `lone`, how many see one group only.
    """

    key: ClassVar[str] = "hierarchical.wrong_turns"
    reads: ClassVar[type[Hierarchical]] = Hierarchical
    setting: Setting = Setting(key="hierarchical")

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, head = run.sequence, run.attended_as(HierarchicalMap), self.head_in(run.sequence)
        progress(0.1, run.mechanism.label)
        levels = [level for level in tree_of(self.source, self.mechanism()) if level.name not in ("word", "character")]
        alone, tokens = sequence.select_heads(head), tokens_of(sequence)
        plain = torch.ones(sequence.n, dtype=torch.float64)
        plain[list(sinks_of(self.source)[head])] = 0.0
        sample = sample_queries(alone, SAMPLE)
        records: list[dict[str, object]] = []
        skipped = dict.fromkeys(("sinks_only", "spread", "lone"), 0)
        for queries in blocks(alone, sample):
            exact = map_rows(alone, queries)[0] * plain
            given = attended.rows(queries, None, head)[0].double() * plain
            visible = levels[0].sums(alone.allowed(queries).double() * plain) > 0
            best = torch.stack([level.sums(exact).argmax(-1) for level in levels], dim=-1)
            preferred = torch.stack([level.sums(given).argmax(-1) for level in levels], dim=-1)
            share = levels[0].sums(exact).amax(-1)
            total = exact.sum(-1)
            for i, query in enumerate(queries.tolist()):
                if total[i] < LEFT:
                    skipped["sinks_only"] += 1
                elif int(visible[i].sum()) < 2:
                    skipped["lone"] += 1
                elif share[i] < CLEAR * total[i]:
                    skipped["spread"] += 1
                else:
                    record = _descent_of(query, best[i], preferred[i], levels, tokens)
                    records.append(record | {"share": float(share[i] / total[i])})
        table = pd.DataFrame.from_records(records, columns=COLUMNS)
        table.attrs["units"] = {"query": "token", "place": "token", "share": "share of the mass outside sinks"}
        names = [level.name for level in levels]
        arrays = {"measured": np.array(len(sample.queries)), **{name: np.array(count) for name, count in skipped.items()}}
        tables = {"queries": table, "outcomes": outcomes_of(table, names)}
        return Parts(arrays=arrays, tables=tables, words={"sample": sample.text, "outer": names[0]})


def _descent_of(
    query: int, best: Int[Tensor, "L"], preferred: Int[Tensor, "L"], levels: list[Level], tokens: list[str]
) -> dict[str, object]:
    """A row of the table `queries`, from the group of each level that exact attention weighs most, and the mechanism's."""
    wrong = (best != preferred).nonzero()
    return {
        "query": query,
        "token": tokens[query],
        "target": levels[0].labels[int(best[0])],
        "chosen": levels[0].labels[int(preferred[0])],
        "best": tokens[int(best[-1])],
        "place": int(best[-1]),
        "own": int(best[0]) == int(levels[0].of[query]),
        "outcome": levels[int(wrong[0, 0])].name if len(wrong) else ARRIVES,
    }


def outcomes_of(queries: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """How many descents end at each level, apart for targets in the query's own outermost group and in another one."""
    rows = []
    for own in (True, False):
        group = queries[queries["own"] == own] if len(queries) else queries
        for outcome in (*names, ARRIVES):
            count = int((group["outcome"] == outcome).sum())
            rows.append(
                {
                    "own": own,
                    "outcome": outcome,
                    "count": count,
                    "share": count / len(group) if len(group) else float("nan"),
                    "of": len(group),
                }
            )
    table = pd.DataFrame.from_records(rows)
    table.attrs["units"] = {"count": "queries", "share": "share of the queries", "of": "queries"}
    return table
