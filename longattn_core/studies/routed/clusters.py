"""Clusters of queries and keys: who is in which, how even they are, and how much attention crosses between them.

Source: ours; the clusters are those of the Routing Transformer (Roy et al. 2020, arXiv:2003.05997) as the mechanism finds them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.measures.sampling import QuerySample, blocks, map_rows, sample_queries
from longattn_core.mechanisms.routed import Routed
from longattn_core.mechanisms.routed.clusters import ClusterMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun, sinks_of
from longattn_core.studies.base.study import Progress, Setting

QUERIES = 512


class Clusters(MechanismStudy[Routed]):
    """The clusters of one head, and exact attention's mass from each cluster of queries to each cluster of keys.

    Arrays: `queries`, `keys` `[n]`, cluster numbers (−1 for padding); `order`, the tokens sorted by the cluster of their key;
    `meets [c, c]`, the mean mass that a query of one cluster gives to the keys of another, NaN for clusters without a
    measured query; `agreement`, the mean cosine of a token with its centroid after each pass; `start`, the first query that
    uses the clusters; `kept`, the mass that stays inside, `chance`, the share of visible keys that stand there, `read_count`,
    what the width lets through. "plain" leaves the sinks' columns out. Table `sizes`: a row a cluster, its keys and queries,
    and the mass that its queries give to its own keys (`kept`) beside the share of visible keys that these are (`chance`).
    """

    key: ClassVar[str] = "routed.clusters"
    reads: ClassVar[type[Routed]] = Routed
    setting: Setting = Setting(key="routed", dials={"variant": "clusters"})

    def mechanism(self) -> Routed:
        """The setting as clusters, whatever its variant is."""
        return super().mechanism().with_dials(variant="clusters")

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, head = run.sequence, run.attended_as(ClusterMap), self.head_in(run.sequence)
        trace = attended.trace
        mine, count = trace.query_clusters[head], trace.centroids.shape[1]
        sample = sample_queries(sequence.select_heads(head), QUERIES)
        crossing = _crossing(attended, sample, head, sinks_of(self.source)[head])
        asked, total = crossing.asked, float(crossing.asked.sum())
        sizes = pd.DataFrame(
            {
                "cluster": np.arange(count),
                "keys": trace.sizes[head].numpy(),
                "queries": torch.bincount(mine[mine >= 0], minlength=count).numpy(),
                "measured": asked.numpy(),
                "kept": (crossing.kept / asked).numpy(),
                "chance": (crossing.chance / asked).numpy(),
            }
        )
        sizes.attrs["units"] = {
            "keys": "tokens",
            "queries": "tokens",
            "measured": "queries",
            "kept": "share of exact mass",
            "chance": "share of the visible keys",
        }
        left = float(crossing.left.sum())
        arrays = {
            "queries": mine.numpy(),
            "keys": trace.key_clusters[head].numpy(),
            "agreement": trace.agreement[head].numpy(),
            "meets": (crossing.mass / asked[:, None]).numpy(),
            "meets plain": (crossing.mass_plain / asked[:, None]).numpy(),
            "kept plain": np.array(float(crossing.kept_plain.sum() / left) if left > 0 else 0.0),
            "start": np.array(trace.start),
            "order": trace.order[head].numpy(),
            "kept": np.array(float(crossing.kept.sum()) / total),
            "chance": np.array(float(crossing.chance.sum()) / total),
            "looked": np.array(crossing.looked / total),
            "evenness": np.array(evenness(sizes["keys"].to_numpy())),
            "cost": np.array(attended.cost.multiply_adds),
        }
        return Parts(arrays=arrays, tables={"sizes": sizes}, words={"calibration": trace.calibration, "sample": sample.text})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Crossing:
    """Exact mass between clusters, summed over the sampled queries of each cluster `[c]`; "plain" is without the sinks.

    `mass, mass_plain [c c]`, from clusters of queries to clusters of keys; `asked`, how many queries; `kept, kept_plain`, mass
    on keys of the own cluster; `left`, mass without the sinks; `chance`, shares of the visible keys; `looked`, mass within the
    width.
    """

    mass: Float[Tensor, "c c"]
    mass_plain: Float[Tensor, "c c"]
    asked: Float[Tensor, "c"]
    kept: Float[Tensor, "c"]
    kept_plain: Float[Tensor, "c"]
    left: Float[Tensor, "c"]
    chance: Float[Tensor, "c"]
    looked: float


def _crossing(attended: ClusterMap, sample: QuerySample, head: int, sinks: Collection[int]) -> _Crossing:
    """Cost: the exact rows of the sample."""
    sequence, trace = attended.sequence, attended.trace
    mine, its = trace.query_clusters[head], trace.key_clusters[head]
    alone, count = sequence.select_heads(head), trace.centroids.shape[1]
    mass, mass_plain = torch.zeros(2, count, count, dtype=torch.float64)
    asked, kept, kept_plain, left, chance = torch.zeros(5, count, dtype=torch.float64)
    plain = torch.ones(sequence.n, dtype=torch.float64)
    plain[list(sinks)] = 0.0
    columns = its.clamp_min(0)
    looked = 0.0
    for queries in blocks(alone, sample):
        rows = map_rows(alone, queries)[0]
        of = mine[queries]
        for total, part in ((mass, rows), (mass_plain, rows * plain)):
            to = torch.zeros(len(queries), count, dtype=torch.float64).index_add_(1, columns, part)
            total.index_add_(0, of, to)
        allowed = alone.allowed(queries)
        same = (its[None, :] == of[:, None]) & allowed
        asked.index_add_(0, of, torch.ones(len(queries), dtype=torch.float64))
        kept.index_add_(0, of, (rows * same).sum(-1))
        kept_plain.index_add_(0, of, (rows * plain * same).sum(-1))
        left.index_add_(0, of, (rows * plain).sum(-1))
        chance.index_add_(0, of, same.sum(-1).double() / allowed.sum(-1))
        looked += float((rows * attended.kept(queries, None, head)[0]).sum())
    return _Crossing(
        mass=mass, mass_plain=mass_plain, asked=asked, kept=kept, kept_plain=kept_plain, left=left, chance=chance, looked=looked
    )


def evenness(sizes: np.ndarray) -> float:
    """e^H of the sizes as shares, over their number: 1 when all are equal, 1/c when one holds everything."""
    shares = sizes[sizes > 0] / max(1, sizes.sum())
    return float(np.exp(-(shares * np.log(shares)).sum()) / len(sizes)) if len(shares) else 0.0
