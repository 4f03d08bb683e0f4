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

from longattn_core.measures.sampling import blocks, map_rows, sample_queries
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import SAMPLE, kept_run, sinks_of
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.hierarchical.tree import tree_of

LEFT = 0.05
"""With less of its mass outside the sinks, a query looks for nothing."""
CLEAR = 0.5
"""The share of the mass outside the sinks that makes a group a target."""
ARRIVES = "arrives"


class WrongTurns(HeadStudy):
    """At which level descents lose their target, over at most `SAMPLE` queries.

    Table `queries`: one row a query with a target; `outcome` is the level at which it is lost, or "arrives"; `own` says
    whether the target stands in the query's own group of the coarsest level. Table `outcomes`: how many of each.
    Arrays: `measured`, how many queries were looked at; `sinks_only`, how many leave nothing; `spread`, how many have no
    clear target; `lone`, how many see one group only.
    """

    key: ClassVar[str] = "hierarchical.wrong_turns"
    setting: Setting = Setting(key="hierarchical")

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        mechanism = self.setting.build()
        assert isinstance(mechanism, Hierarchical)
        head = self.head_in(sequence)
        progress(0.1, mechanism.label)
        one = kept_run(self.source, mechanism)
        if one.attended is None:
            return Result(study=self, words={"refusal": one.refusal or ""})
        tree = tree_of(self.source, mechanism)
        levels = [level for level in tree if level.name not in ("word", "character")]
        alone, attended = sequence.select_heads(head), one.attended
        plain = torch.ones(sequence.n, dtype=torch.float64)
        plain[list(sinks_of(self.source)[head])] = 0.0
        sample = sample_queries(alone, SAMPLE)
        tokens = tokens_of(sequence)
        records: list[dict[str, object]] = []
        skipped = dict.fromkeys(("sinks_only", "spread", "lone"), 0)
        for queries in blocks(alone, sample):
            exact = map_rows(alone, queries)[0] * plain
            given = attended.rows(queries, None, head)[0].double() * plain
            visible = levels[0].sums(alone.allowed(queries).double() * plain) > 0
            best = torch.stack([level.sums(exact).argmax(-1) for level in levels], dim=-1)
            kept = torch.stack([level.sums(given).argmax(-1) for level in levels], dim=-1)
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
                    wrong = (best[i] != kept[i]).nonzero()
                    lost = int(wrong[0, 0]) if len(wrong) else len(levels)
                    records.append(
                        {
                            "query": query,
                            "token": tokens[query],
                            "target": levels[0].labels[int(best[i, 0])],
                            "chosen": levels[0].labels[int(kept[i, 0])],
                            "best": tokens[int(best[i, -1])],
                            "place": int(best[i, -1]),
                            "own": int(best[i, 0]) == int(levels[0].of[query]),
                            "share": float(share[i] / total[i]),
                            "outcome": ARRIVES if lost == len(levels) else levels[lost].name,
                        }
                    )
        columns = ["query", "token", "target", "chosen", "best", "place", "own", "share", "outcome"]
        table = pd.DataFrame.from_records(records, columns=columns)
        table.attrs["units"] = {"query": "token", "place": "token", "share": "share of the mass outside sinks"}
        names = [level.name for level in levels]
        arrays = {"measured": np.array(len(sample.queries)), **{name: np.array(count) for name, count in skipped.items()}}
        return Result(
            study=self,
            arrays=arrays,
            tables={"queries": table, "outcomes": outcomes_of(table, names)},
            words={"sample": sample.text, "outer": names[0], "label": mechanism.label},
        )


def outcomes_of(queries: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """How many descents end where, apart for targets in the query's own outermost group and in another one."""
    rows = []
    for own in (True, False):
        of = queries[queries["own"] == own] if len(queries) else queries
        for outcome in (*names, ARRIVES):
            count = int((of["outcome"] == outcome).sum())
            rows.append(
                {
                    "own": own,
                    "outcome": outcome,
                    "count": count,
                    "share": count / len(of) if len(of) else float("nan"),
                    "of": len(of),
                }
            )
    table = pd.DataFrame.from_records(rows)
    table.attrs["units"] = {"count": "queries", "share": "share of the queries", "of": "queries"}
    return table
