"""Maps by level: what the queries of one paragraph give to each paragraph, of one sentence to each sentence.

Source: ours. A cell is the mean, over the queries of a group, of the mass that they put on another group.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch

from longattn_core.contracts.indexing import edges
from longattn_core.measures.sampling import blocks, map_rows, sample_queries
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.hierarchical.tree import tree_of

MOST_GROUPS = 512
"""A map of more groups a side says no more than the map of tokens."""
MOST_QUERIES = 2048
STRETCHES = 48


class LevelMaps(HeadStudy):
    """Group × group maps of one level: `outer` (paragraphs, or groups of groups) or `inner` (sentences, or groups).

    Arrays `exact`, `mechanism`, `difference` `[G, G]`: mean mass from a query of one group to another group; NaN for the
    future, and where no query was measured. `words["refusal"]` says why they are missing, when they are.
    """

    key: ClassVar[str] = "hierarchical.level_maps"
    setting: Setting = Setting(key="hierarchical")
    level: Literal["outer", "inner"] = "outer"

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        mechanism = self.setting.build()
        assert isinstance(mechanism, Hierarchical)
        head = self.head_in(sequence)
        one = kept_run(self.source, mechanism)
        level = tree_of(self.source, mechanism)[0 if self.level == "outer" else 1]
        if one.attended is None:
            return Result(study=self, words={"refusal": one.refusal or "", "name": level.name})
        if level.count > MOST_GROUPS:
            said = f"There are {level.count:,} {level.plural}: a map of so many says no more than the map of the tokens."
            return Result(study=self, words={"refusal": said, "name": level.name})
        alone = sequence.select_heads(head)
        sample = sample_queries(alone, MOST_QUERIES)
        count = torch.zeros(level.count, dtype=torch.float64)
        sums = torch.zeros(2, level.count, level.count, dtype=torch.float64)
        for queries in blocks(alone, sample):
            progress(float(queries[0]) / sequence.n, level.plural)
            of = level.of[queries]
            count.index_add_(0, of, torch.ones(len(queries), dtype=torch.float64))
            sums[0].index_add_(0, of, level.sums(map_rows(alone, queries)[0]))
            sums[1].index_add_(0, of, level.sums(one.attended.rows(queries, None, head)[0].double()))
        means = sums / count[:, None]
        means = torch.where(count[:, None] > 0, means, torch.nan)
        if sequence.causal:
            groups = torch.arange(level.count)
            means = torch.where(groups[None, :] > groups[:, None], torch.nan, means)
        arrays = {
            "exact": means[0].numpy(),
            "mechanism": means[1].numpy(),
            "difference": (means[1] - means[0]).numpy(),
            "labels": np.array(level.labels, dtype=np.str_),
        }
        words = {"name": level.name, "plural": level.plural, "sample": sample.text, "label": mechanism.label}
        return Result(study=self, arrays=arrays, words=words)


class Gates(HeadStudy):
    """What each level counts along the text, and where exact attention's mass lies in the same reach.

    Table `gates`: a row a level and stretch of queries (at most `STRETCHES`): `position`, the stretch's middle, `given`, the
    mass that the mechanism reads at that level, `exact`, exact attention's mass on the tokens that it reads so: the own
    sentence's token by token, the rest of the own paragraph by sentence, other paragraphs as one. Blocks have no such
    reach that is the same for all queries: there `exact` is NaN.
    """

    key: ClassVar[str] = "hierarchical.gates"
    setting: Setting = Setting(key="hierarchical")

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        mechanism = self.setting.build()
        assert isinstance(mechanism, Hierarchical)
        head = self.head_in(sequence)
        one = kept_run(self.source, mechanism)
        if one.attended is None:
            return Result(study=self, words={"refusal": one.refusal or ""})
        alone, trace = sequence.select_heads(head), one.attended.trace
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
        rows_out: list[dict[str, object]] = []
        for start, stop in pairwise(stretch):
            middle = float(np.mean(sample.queries[start:stop]))
            for level, name in enumerate(trace.names):
                rows_out.append(
                    {
                        "level": level,
                        "name": name,
                        "position": middle,
                        "given": float(given[start:stop, level].mean()),
                        "exact": float(exact[start:stop, level].mean()),
                    }
                )
        table = pd.DataFrame.from_records(rows_out)
        table.attrs["units"] = {"position": "token", "given": "share", "exact": "share"}
        return Result(study=self, tables={"gates": table}, words={"sample": sample.text, "label": mechanism.label})
