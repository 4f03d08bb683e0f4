"""Clusters of queries and keys: who is in which, how even they are, and how much attention crosses between them.

Source: ours; the clusters are those of the Routing Transformer (Roy et al. 2020, arXiv:2003.05997) as the mechanism finds them.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from longattn_core.measures.sampling import blocks, map_rows, sample_queries
from longattn_core.mechanisms.routed import Routed
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import kept_run, sinks_of
from longattn_core.studies.base.study import Progress, Result, Setting

QUERIES = 512


class Clusters(HeadStudy):
    """The clusters of one head, and exact attention's mass from each cluster of queries to each cluster of keys.

    Arrays: `queries`, `keys` `[n]`, cluster numbers (−1 for padding); `order`, the tokens sorted by the cluster of their key;
    `meets [c, c]`, the mean mass that a query of one cluster gives to the keys of another, NaN for clusters without a
    measured query; `agreement`, the mean cosine of a token with its centroid after each pass; `start`, the first query that
    uses the clusters; `kept`, the mass that stays inside, `chance`, the share of visible keys that stand there, `read_count`,
    what the width lets through. "plain" leaves the sinks' columns out. Table `sizes`: a row a cluster, its keys and queries,
    and the mass that its queries give to its own keys (`kept`) beside the share of visible keys that these are (`chance`).
    """

    key: ClassVar[str] = "routed.clusters"
    setting: Setting = Setting(key="routed", dials={"variant": "clusters"})

    def _run(self, progress: Progress) -> Result:
        mechanism = self.setting.build()
        assert isinstance(mechanism, Routed)
        own = mechanism.with_dials(variant="clusters")
        sequence = self.sequence()
        head = self.head_in(sequence)
        progress(0.1, own.label)
        one = kept_run(self.source, own)
        if one.attended is None:
            return Result(study=self, words={"refusal": one.refusal or ""})
        trace = one.attended.trace
        mine, its = trace.query_clusters[head], trace.key_clusters[head]
        count = trace.centroids.shape[1]
        alone = sequence.select_heads(head)
        sample = sample_queries(alone, QUERIES)
        mass, mass_plain = torch.zeros(2, count, count, dtype=torch.float64)
        asked, kept, kept_plain, left, chance = torch.zeros(5, count, dtype=torch.float64)
        plain = torch.ones(sequence.n, dtype=torch.float64)
        plain[list(sinks_of(self.source)[head])] = 0.0
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
            looked += float((rows * one.attended.kept(queries, None, head)[0]).sum())
        sizes = pd.DataFrame(
            {
                "cluster": np.arange(count),
                "keys": trace.sizes[head].numpy(),
                "queries": torch.bincount(mine[mine >= 0], minlength=count).numpy(),
                "measured": asked.numpy(),
                "kept": (kept / asked).numpy(),
                "chance": (chance / asked).numpy(),
            }
        )
        sizes.attrs["units"] = {
            "keys": "tokens",
            "queries": "tokens",
            "measured": "queries",
            "kept": "share of exact mass",
            "chance": "share of the visible keys",
        }
        total = float(asked.sum())
        arrays = {
            "queries": mine.numpy(),
            "keys": its.numpy(),
            "agreement": trace.agreement[head].numpy(),
            "meets": (mass / asked[:, None]).numpy(),
            "meets plain": (mass_plain / asked[:, None]).numpy(),
            "kept plain": np.array(float(kept_plain.sum() / left.sum()) if float(left.sum()) > 0 else 0.0),
            "start": np.array(trace.start),
            "order": trace.order[head].numpy(),
            "kept": np.array(float(kept.sum()) / total),
            "chance": np.array(float(chance.sum()) / total),
            "looked": np.array(looked / total),
            "evenness": np.array(evenness(sizes["keys"].to_numpy())),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
            "cost": np.array(one.attended.cost.multiply_adds),
        }
        words = {"calibration": trace.calibration, "sample": sample.text, "label": own.label, "origin": sequence.origin}
        return Result(study=self, arrays=arrays, tables={"sizes": sizes}, words=words)


def evenness(sizes: np.ndarray) -> float:
    """e^H of the sizes as shares, over their number: 1 when all are equal, 1/c when one holds everything."""
    shares = sizes[sizes > 0] / max(1, sizes.sum())
    return float(np.exp(-(shares * np.log(shares)).sum()) / len(sizes)) if len(shares) else 0.0
