"""Attention inside clusters of queries and keys that point the same way.

Source: Roy et al. 2020 (Routing Transformer), arXiv:2003.05997, section 4. Our deviations: every token belongs to its
nearest centroid (the paper fills clusters of one size, which leaves tokens in none); a query looks at the last w keys of
its cluster, by its own centroid, so that nothing leaks from the future; queries and keys may each be centred first (the
paper trains them to share clusters, but a trained model's lie in cones apart and would never meet).
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
    ground_of,
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
    """The query stands among the tokens that the clusters are fitted on, and looks at the last keys instead."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClusterTrace:
    """Every step: c clusters.

    `centroids [h c d]`, float64, of length 1; `query_centre, key_centre [h d]`, what is subtracted from queries and keys
    before they are compared with them (None: nothing); `query_clusters, key_clusters [h n]`, −1 for padding; `order [h n]`,
    tokens by (cluster, position) of their key, padding last; `sizes [h c]`, keys in each cluster; `agreement [h t]`, mean
    cosine of a token with its centroid in each pass; `calibration`, what was fitted on; `start`, the first query to use it.
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
        mine, its = int(trace.query_clusters[head, query]), int(trace.key_clusters[head, key])
        facts: dict[str, float | int | str | bool] = {
            "query_cluster": mine,
            "key_cluster": its,
            "clusters": trace.centroids.shape[1],
            "keys_in_cluster": int(trace.sizes[head, mine]),
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
        elif mine != its and kept:
            reason, text = Reason.ITSELF, f"This query found no key in its cluster, {mine}, so it attends to itself."
        elif mine != its:
            reason = ClusterReason.OTHER_CLUSTER
            text = f"The query belongs to cluster {mine} and the key to cluster {its} of {facts['clusters']}, so they never meet."
        elif kept:
            reason = ClusterReason.SAME_CLUSTER
            text = f"Query and key belong to the same cluster, {mine} of {facts['clusters']}, and stand near enough in it."
        else:
            reason = ClusterReason.OVERFLOWED
            low, high = min(query, key), max(query, key)
            nearer = int((trace.key_clusters[head, low : high + 1] == mine).sum()) - 1
            facts["nearer"] = nearer
            reach = "the last" if self.sequence.causal else "those around it, at most"
            text = (
                f"Query and key belong to the same cluster, {mine}, but {nearer} of its keys stand nearer on this side, "
                f"and a query looks at {reach} {self.width}."
            )
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


def attend_clusters(mechanism: Mechanism, sequence: Sequence, *, clusters: int, width: int, centred: bool) -> Attended:
    """Cost: n·c·d to find each token's cluster, one sort, n·(w + a block)·(d + e) for the attention, a head."""
    real, n = sequence.real, sequence.n
    count = clusters or max(1, round(math.sqrt(n)))
    ground = ground_of(sequence)
    seen = ground.sequence
    tokens = evenly(seen.real.nonzero().squeeze(-1), FIT_TOKENS)
    of_queries, of_keys = (mean_of(x, seen) if centred else None for x in (seen.q, seen.k))
    found = spherical_means(_directions(seen, tokens, of_queries, of_keys), count, mechanism.seed)
    mine = nearest_cluster(sequence.q, of_queries, found.directions)
    its = nearest_cluster(sequence.k, of_keys, found.directions)
    placed = bucketed(mine[:, None], its[:, None], real)
    lists = _lists(sequence, placed, width, ground.start)
    scale = 1 / math.sqrt(sequence.d)
    output, computed = attend_lists(sequence.q, sequence.k, sequence.v, lists, real=real, scale=scale)
    count = found.directions.shape[1]
    kept = its[:, real]
    trace = ClusterTrace(
        centroids=found.directions,
        query_centre=of_queries,
        key_centre=of_keys,
        query_clusters=torch.where(real, mine, -1),
        key_clusters=torch.where(real, its, -1),
        order=placed.order[:, 0],
        sizes=torch.zeros(len(its), count, dtype=torch.int64, device=its.device).scatter_add(1, kept, kept.clamp(1, 1)),
        agreement=found.agreement,
        calibration=ground.name,
        start=ground.start,
    )
    cost = _cost(sequence, 2 * len(tokens), count, found.products, computed)
    return ClusterMap(mechanism=mechanism, sequence=sequence, output=output, trace=trace, cost=cost, lists=lists, width=width)


def counted_clusters(sequence: Sequence, *, clusters: int, width: int, seed: int) -> Cost:
    """The cost of `attend_clusters` with tokens thrown into clusters blindly and a fit that takes all its passes."""
    h, n = sequence.h, sequence.n
    ground = ground_of(sequence)
    vectors = 2 * min(int(ground.sequence.real.sum()), FIT_TOKENS)
    count = min(clusters or max(1, round(math.sqrt(n))), vectors)
    mine, its = (
        torch.randint(count, (h, 1, n), generator=generator(seed, f"blind clusters of {side}")) for side in ("queries", "keys")
    )
    lists = _lists(sequence, bucketed(mine, its, sequence.real), width, ground.start)
    products = PASSES * h * vectors * count
    return _cost(sequence, vectors, count, products, sum(scores_computed(lists)))


def _lists(sequence: Sequence, placed: Bucketed, width: int, start: int) -> SortedLists:
    """The keys of each query's cluster; for those before `start`, which may not use the fit, the last keys."""
    real = sequence.real
    lists = placed.stretches(width, causal=sequence.causal, skip_self=False)
    if not start:
        return lists
    early = torch.arange(sequence.n, device=real.device) < start
    recent = by_place(real, 0, width, causal=True)
    lists = replace(lists, stop=torch.where(early, lists.first, lists.stop))
    return lists.joined(replace(recent, stop=torch.where(early, recent.stop, recent.first)))


def _cost(sequence: Sequence, vectors: int, count: int, fitted: int, computed: int) -> Cost:
    """`fitted` cosines in the fit of `vectors` vectors a head, one for each token and cluster, and `computed` scores."""
    h, n, d, e, size = sequence.h, sequence.n, sequence.d, sequence.e, sequence.q.element_size()
    products = fitted + 2 * h * n * count
    return Cost(
        multiply_adds=products * d + computed * (d + e),
        bytes_moved=8 * (products + products * d // count) + size * (3 * computed + 2 * h * n * (d + e)),
        bytes_peak=12 * (vectors * d + PRODUCT_CELLS) + 8 * 14 * h * n + size * (n * (d + e) + 8 * TILE_CELLS),
    )


def _directions(
    seen: Sequence, tokens: Int[Tensor, "s"], of_queries: Float[Tensor, "h d"] | None, of_keys: Float[Tensor, "h d"] | None
) -> Iterator[Float[Tensor, "N d"]]:
    """Head by head the chosen queries and keys, as they point from their centres."""
    for head in range(seen.h):
        parts = ((seen.q, of_queries), (seen.k, of_keys))
        yield torch.cat([unit(x[head, tokens], None if mean is None else mean[head]) for x, mean in parts])
