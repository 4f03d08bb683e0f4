"""Attention inside clusters of queries and keys of similar direction.

Source: Roy et al. 2020 (Routing Transformer), arXiv:2003.05997, section 4. Our deviations: every token belongs to its
nearest centroid (the paper fills clusters of equal size, which leaves some tokens in none); a query reads the last w keys of
the cluster of its own centroid, which does not depend on later tokens; queries and keys may each be centred first (the paper
trains them to share clusters, but those of another trained model lie in separate cones and would share none).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Mechanism, Reason
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.routed.fitting import (
    FIT_TOKENS,
    PASSES,
    evenly,
    fit_data,
    mean_of,
    nearest_cluster,
    spherical_means,
    unit,
)
from longattn_core.numerics.certain_argmax import PRODUCT_CELLS
from longattn_core.numerics.draws import generator
from longattn_core.numerics.lists.attention import attend_lists
from longattn_core.numerics.lists.map import ListedMap
from longattn_core.numerics.lists.sorted_lists import Bucketed, SortedLists, bucketed, by_place
from longattn_core.numerics.lists.tiles import TILE_CELLS, scores_computed


class ClusterReason(StrEnum):
    """Why clusters let a pair meet or keep it apart."""

    SAME_CLUSTER = "same cluster"
    OTHER_CLUSTER = "other cluster"
    OVERFLOWED = "cluster overflowed"
    BEFORE_FIT = "before the fit"
    """The query is one of the tokens that the clusters are fitted on, and reads the last keys instead."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClusterTrace:
    """Every step, for c clusters.

    `centroids [h c d]`, float64, of length 1; `query_centre, key_centre [h d]`, what is subtracted from queries and keys
    before they are compared with the centroids (None: nothing); `query_clusters, key_clusters [h n]`, −1 for padding;
    `order [h n]`, tokens by (cluster, position) of their key, padding last; `sizes [h c]`, keys in each cluster;
    `agreement [h t]`, mean cosine of a token with its centroid in each pass; `calibration`, what is fitted on; `start`, the
    first query that uses the fit.
    """

    centroids: Float[Tensor, "h c d"]
    query_centre: Float[Tensor, "h d"] | None
    key_centre: Float[Tensor, "h d"] | None
    query_clusters: Int[Tensor, "h n"]
    key_clusters: Int[Tensor, "h n"]
    order: Int[Tensor, "h n"]
    sizes: Int[Tensor, "h c"]
    agreement: Float[Tensor, "h t"]
    calibration: str
    start: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ClusterMap(ListedMap):
    """A softmax over the nearest keys of each query's cluster."""

    width: int

    @property
    def _slots(self) -> int:
        return max(self.lists.widest) + 1

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        trace = self.trace
        own, other = int(trace.query_clusters[head, query]), int(trace.key_clusters[head, key])
        facts: dict[str, float | int | str | bool] = {
            "query_cluster": own,
            "key_cluster": other,
            "clusters": trace.centroids.shape[1],
            "keys_in_cluster": int(trace.sizes[head, own]),
            "width": self.width,
            "start": trace.start,
        }
        reason: StrEnum
        if query < trace.start:
            reason = ClusterReason.BEFORE_FIT
            text = (
                f"The clusters are fitted on the first {trace.start} tokens, this query among them, so it looks at the "
                f"last {self.width} keys instead{'' if kept else ', and this one is further back'}."
            )
        elif own != other and kept:
            reason, text = Reason.ITSELF, f"This query found no key in its cluster, {own}, so it attends to itself."
        elif own != other:
            reason = ClusterReason.OTHER_CLUSTER
            text = (
                f"The query belongs to cluster {own} and the key to cluster {other} of {facts['clusters']}, so they never meet."
            )
        elif kept:
            reason = ClusterReason.SAME_CLUSTER
            text = f"Query and key belong to the same cluster, {own} of {facts['clusters']}, and stand near enough in it."
        else:
            reason = ClusterReason.OVERFLOWED
            low, high = min(query, key), max(query, key)
            nearer = int((trace.key_clusters[head, low : high + 1] == own).sum()) - 1
            facts["nearer"] = nearer
            reach = "the last" if self.sequence.causal else "those around it, at most"
            text = (
                f"Query and key belong to the same cluster, {own}, but {nearer} of its keys stand nearer on this side, "
                f"and a query looks at {reach} {self.width}."
            )
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


def attend_clusters(mechanism: Mechanism, sequence: Sequence, *, clusters: int, width: int, centred: bool) -> Attended:
    """Cost of each head: n·c·d to find each token's cluster, one sort, n·(w + a block)·(d + e) for the attention."""
    real, n = sequence.real, sequence.n
    count = clusters or max(1, round(math.sqrt(n)))
    data = fit_data(sequence)
    fitted_on = data.sequence
    tokens = evenly(fitted_on.real.nonzero().squeeze(-1), FIT_TOKENS)
    query_mean, key_mean = (mean_of(x, fitted_on) if centred else None for x in (fitted_on.q, fitted_on.k))
    centroids = spherical_means(_directions(fitted_on, tokens, query_mean, key_mean), count, mechanism.seed)
    query_clusters = nearest_cluster(sequence.q, query_mean, centroids.directions)
    key_clusters = nearest_cluster(sequence.k, key_mean, centroids.directions)
    placed = bucketed(query_clusters[:, None], key_clusters[:, None], real)
    lists = _lists(sequence, placed, width, data.start)
    scale = 1 / math.sqrt(sequence.d)
    output, computed = attend_lists(sequence.q, sequence.k, sequence.v, lists, real=real, scale=scale)
    count = centroids.directions.shape[1]
    of_real = key_clusters[:, real]
    trace = ClusterTrace(
        centroids=centroids.directions,
        query_centre=query_mean,
        key_centre=key_mean,
        query_clusters=torch.where(real, query_clusters, -1),
        key_clusters=torch.where(real, key_clusters, -1),
        order=placed.order[:, 0],
        sizes=of_real.new_zeros(len(of_real), count).scatter_add(1, of_real, torch.ones_like(of_real)),
        agreement=centroids.agreement,
        calibration=data.name,
        start=data.start,
    )
    cost = _cost(sequence, 2 * len(tokens), count, centroids.products, computed)
    return ClusterMap(mechanism=mechanism, sequence=sequence, output=output, trace=trace, cost=cost, lists=lists, width=width)


def estimated_cluster_cost(sequence: Sequence, *, clusters: int, width: int, seed: int) -> Cost:
    """The cost of `attend_clusters` with random clusters and a fit that takes all its passes."""
    h, n = sequence.h, sequence.n
    data = fit_data(sequence)
    vectors = 2 * min(int(data.sequence.real.sum()), FIT_TOKENS)
    count = min(clusters or max(1, round(math.sqrt(n))), vectors)
    query_clusters, key_clusters = (
        torch.randint(count, (h, 1, n), generator=generator(seed, f"blind clusters of {side}")) for side in ("queries", "keys")
    )
    lists = _lists(sequence, bucketed(query_clusters, key_clusters, sequence.real), width, data.start)
    products = PASSES * h * vectors * count
    return _cost(sequence, vectors, count, products, sum(scores_computed(lists)))


def _lists(sequence: Sequence, placed: Bucketed, width: int, start: int) -> SortedLists:
    """The keys of each query's cluster; for queries before `start`, which may not use the fit, the last keys."""
    real = sequence.real
    lists = placed.stretches(width, causal=sequence.causal, skip_self=False)
    if not start:
        return lists
    early = torch.arange(sequence.n, device=real.device) < start
    recent = by_place(real, 0, width, causal=True)
    lists = replace(lists, stop=torch.where(early, lists.first, lists.stop))
    return lists.joined(replace(recent, stop=torch.where(early, recent.stop, recent.first)))


def _cost(sequence: Sequence, vectors: int, count: int, fitted: int, computed: int) -> Cost:
    """`fitted` cosines in the fit of `vectors` vectors a head, one for each token and cluster after it, `computed` scores."""
    h, n, d, e, size = sequence.h, sequence.n, sequence.d, sequence.e, sequence.q.element_size()
    products = fitted + 2 * h * n * count
    return Cost(
        multiply_adds=products * d + computed * (d + e),
        bytes_moved=8 * (products + products * d // count) + size * (3 * computed + 2 * h * n * (d + e)),
        bytes_peak=12 * (vectors * d + PRODUCT_CELLS) + 8 * 14 * h * n + size * (n * (d + e) + 8 * TILE_CELLS),
    )


def _directions(
    sequence: Sequence, tokens: Int[Tensor, "s"], query_mean: Float[Tensor, "h d"] | None, key_mean: Float[Tensor, "h d"] | None
) -> Iterator[Float[Tensor, "N d"]]:
    """Head by head, the directions of the chosen queries and keys from their means."""
    for head in range(sequence.h):
        parts = ((sequence.q, query_mean), (sequence.k, key_mean))
        yield torch.cat([unit(x[head, tokens], None if mean is None else mean[head]) for x, mean in parts])
