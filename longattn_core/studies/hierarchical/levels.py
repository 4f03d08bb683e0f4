"""Maps by level: what the queries of one paragraph give to each paragraph, of one sentence to each sentence.

Source: ours. A cell is the mean, over the queries of a group, of the mass that they put on another group.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch

from longattn_core.contracts.mechanism import Refused
from longattn_core.measures.sampling import blocks, map_rows, sample_queries
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.map import HierarchicalMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting
from longattn_core.studies.hierarchical.tree import Level, tree_of

MOST_GROUPS = 512
"""A map of more groups a side says no more than the map of tokens."""
MOST_QUERIES = 2048
"""Queries whose rows are averaged, at most."""


class LevelMaps(MechanismStudy[Hierarchical]):
    """Group × group maps of one level: `outer` (paragraphs, or groups of groups) or `inner` (sentences, or groups).

    Arrays `exact`, `mechanism`, `difference` `[G, G]`: mean mass from a query of one group to another group; NaN for the
    future, and where no query was measured. `words["refusal"]` says why they are missing, when they are.
    """

    key: ClassVar[str] = "hierarchical.level_maps"
    reads: ClassVar[type[Hierarchical]] = Hierarchical
    setting: Setting = Setting(key="hierarchical")
    level: Literal["outer", "inner"] = "outer"

    def _level(self) -> Level:
        return tree_of(self.source, self.mechanism())[0 if self.level == "outer" else 1]

    def _context(self, run: MechanismRun) -> Parts:
        context = super()._context(run)
        return replace(context, words={**context.words, "name": self._level().name})

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, level = run.sequence, run.attended_as(HierarchicalMap), self._level()
        head = self.head_in(sequence)
        if level.count > MOST_GROUPS:
            raise Refused(f"There are {level.count:,} {level.plural}: a map of so many says no more than the map of the tokens.")
        alone = sequence.select_heads(head)
        sample = sample_queries(alone, MOST_QUERIES)
        count = torch.zeros(level.count, dtype=torch.float64)
        sums = torch.zeros(2, level.count, level.count, dtype=torch.float64)
        for queries in blocks(alone, sample):
            progress(float(queries[0]) / sequence.n, level.plural)
            of = level.of[queries]
            count.index_add_(0, of, torch.ones(len(queries), dtype=torch.float64))
            sums[0].index_add_(0, of, level.sums(map_rows(alone, queries)[0]))
            sums[1].index_add_(0, of, level.sums(attended.rows(queries, None, head)[0].double()))
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
        return Parts(arrays=arrays, words={"plural": level.plural, "sample": sample.text})
