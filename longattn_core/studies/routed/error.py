"""The error against the number of clusters, over seeds, with the control.

Source: ours. A cluster is read whole here (as many keys as it has), so that the number of clusters alone is what changes.
"""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from longattn_core.measures.fidelity import fidelity
from longattn_core.mechanisms.routed import Routed
from longattn_core.mechanisms.routed.clusters import ClusterMap
from longattn_core.numerics.softmax import exact_cost
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.intervals import summarised
from longattn_core.studies.base.run import SAMPLE, run_mechanism
from longattn_core.studies.base.study import sequence_of
from longattn_core.studies.base.sweep import Point, Row, Sweep

SEEDS = 3
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ClusterPoint(Point):
    """One number of clusters and one seed on one head of one source."""

    source: Source
    head: int
    clusters: int
    centred: bool
    seed: int


class ClusterError(HeadStudy, Sweep[ClusterPoint]):
    """Error, control, recall and share of pairs against the number of clusters; `SEEDS` starts of k-means each.

    Table `points`: a row a run. Tables `error`, `recall`, `share`: means with their intervals over the seeds.
    """

    key: ClassVar[str] = "routed.cluster_error"
    centred: bool = True

    def points(self) -> tuple[ClusterPoint, ...]:
        """Numbers of clusters that double, for one seed and then for the others."""
        n = sequence_of(self.source).n
        counts = [count for count in COUNTS if count == 1 or 2 * count <= n]
        return tuple(
            ClusterPoint(source=self.source, head=self.head, clusters=count, centred=self.centred, seed=seed)
            for seed in range(SEEDS)
            for count in counts
        )

    def measure(self, point: ClusterPoint) -> Row:
        """One run of k-means and its attention. Cost: n·c·d for the clusters, and `SAMPLE` exact rows."""
        sequence = sequence_of(point.source)
        alone = sequence.select_heads(min(point.head, sequence.h - 1))
        width = min(65536, max(1, alone.n))
        setting = Routed(variant="clusters", clusters=point.clusters, width=width, centred=point.centred, seed=point.seed)
        attended = run_mechanism(setting, alone).attended_as(ClusterMap)
        agreement = fidelity(attended, queries=SAMPLE).whole
        exact = exact_cost(heads=1, n=alone.n, d=alone.d, e=alone.e, causal=alone.causal)
        return {
            "clusters": point.clusters,
            "seed": point.seed,
            "error": float(agreement.error[0]),
            "control": float(agreement.control[0]),
            "recall": float(agreement.recall[0]),
            "share": float(agreement.share[0]),
            "cost": attended.cost.multiply_adds / exact.multiply_adds,
        }

    @property
    def units(self) -> dict[str, str]:
        """The units of the columns."""
        return {
            "error": "relative",
            "control": "relative",
            "recall": "share of exact mass",
            "share": "share of pairs",
            "cost": "of exact attention's operations",
        }

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        return {
            value: summarised(rows, by=["clusters"], value=value).sort_values("clusters", ignore_index=True)
            for value in ("error", "recall", "share")
        }

    def name_of(self, point: ClusterPoint) -> str:
        """The number of clusters and the seed."""
        return f"{point.clusters} clusters, seed {point.seed}"
