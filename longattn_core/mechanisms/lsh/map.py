"""The map of hashing, and why a pair is found or missed.

Source: the two ways to miss a pair are those of Kitaev et al. 2020, arXiv:2001.04451, section 2: different buckets in
every round, or the same bucket but too far apart in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from longattn_core.contracts.mechanism import Explanation, Reason
from longattn_core.mechanisms.lsh.hashing import Hashing, collision_chance
from longattn_core.numerics.lists.map import ListedMap

Facts = dict[str, float | int | str | bool]


class LSHReason(StrEnum):
    """Why hashing found a pair or missed it."""

    SAME_BUCKET = "same bucket"
    LOCAL = "local"
    SINK = "sink"
    DIFFERENT_BUCKETS = "different buckets"
    OVERFLOWED = "bucket overflowed"
    OTHER_CHUNK = "other chunk"
    OWN_KEY = "own key"
    """Shared queries and keys: a token does not attend to itself unless it has no other key."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LSHTrace:
    """Every draw and every step, for r rounds of b buckets.

    `rotations [r d b/2]` (log2 b columns for hyperplanes), float64 as drawn; `buckets, key_buckets [h r n]` of queries
    and keys, −1 for padding; `order, key_order [h r n]`, tokens sorted by (bucket, position) of their query and of their
    key, padding last; `place [h r n]`, each query's place among the sorted keys; `sizes [h r b]`, the number of keys in each
    bucket; `query_centre, key_centre [h 1 d]` or `[h n d]`, what was subtracted before hashing; `calibration`, where that
    comes from; `first, stop [h p n]`, each query's stretch of each of the p lists that `lists` names.
    """

    rotations: Float[Tensor, "r d half"]
    buckets: Int[Tensor, "h r n"]
    key_buckets: Int[Tensor, "h r n"]
    order: Int[Tensor, "h r n"]
    key_order: Int[Tensor, "h r n"]
    place: Int[Tensor, "h r n"]
    sizes: Int[Tensor, "h r b"]
    query_centre: Float[Tensor, "h c1 d"] | None
    key_centre: Float[Tensor, "h c2 d"] | None
    calibration: str
    lists: tuple[str, ...]
    first: Int[Tensor, "h p n"]
    stop: Int[Tensor, "h p n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LSHMap(ListedMap):
    """A softmax over the keys that any round, the local window or the sinks give the query.

    `chunk` is 0 when a query reads along its bucket and not by chunks.
    """

    shared: bool
    hashing: Hashing
    width: int
    chunk: int

    @property
    def keys(self) -> Float[Tensor, "h n d"]:
        """The keys of the scores: the model's own, or the queries' directions when they are shared."""
        if not self.shared:
            return self.sequence.k
        # Cached only without gradients: a cached tensor without its graph would be used again where one is needed.
        return normalize(self.sequence.q, dim=-1) if self.sequence.q.requires_grad else self._directions

    @cached_property
    def _directions(self) -> Float[Tensor, "h n d"]:
        return normalize(self.sequence.q, dim=-1)

    @property
    def _slots(self) -> int:
        return min(self.sequence.n, sum(self.lists.widest)) + 1

    @property
    def _read(self) -> Float[Tensor, "h n d"]:
        return self.keys

    @property
    def _skips_self(self) -> bool:
        return self.shared

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        facts = self._facts(head, query, key)
        if kept:
            reason, text = self._found(facts, query == key)
        else:
            reason, text = self._missed(facts, head, query, key)
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)

    def _facts(self, head: int, query: int, key: int) -> Facts:
        trace = self.trace
        query_buckets, key_buckets = trace.buckets[head, :, query], trace.key_buckets[head, :, key]
        device = self.output.device
        pair = torch.tensor([[query]], device=device), torch.tensor([[[key]]], device=device)
        heads = torch.tensor([head], device=device)
        holding = [name for p, name in enumerate(trace.lists) if bool(self.lists.holds(p, *pair, heads))]
        rounds = sorted({int(name.split()[1]) for name in holding if name.startswith("round")})
        facts: Facts = {
            "rounds": len(query_buckets),
            "buckets": trace.sizes.shape[-1],
            "met": int((query_buckets == key_buckets).sum()),
            "found": len(rounds),
            "rounds_found": " ".join(map(str, rounds)),
            "query_buckets": " ".join(map(str, query_buckets.tolist())),
            "key_buckets": " ".join(map(str, key_buckets.tolist())),
            "angle": self._angle(head, query, key),
            "local": "local" in holding,
            "sink": "sinks" in holding,
        }
        if self.hashing == "hyperplane":
            chance = collision_chance(float(facts["angle"]), trace.sizes.shape[-1])
            facts |= {"chance_round": chance, "chance_any": 1 - (1 - chance) ** len(query_buckets)}
        return facts

    def _angle(self, head: int, query: int, key: int) -> float:
        """Degrees between the two vectors as they were hashed; a vector of length zero counts as orthogonal to all others."""
        hashed = []
        for x, centre, i in (
            (self.sequence.q, self.trace.query_centre, query),
            (self.sequence.q if self.shared else self.sequence.k, self.trace.key_centre, key),
        ):
            vector = x[head, i].detach().to("cpu", torch.float64)
            hashed.append(vector if centre is None else vector - centre[head, i if centre.shape[1] > 1 else 0])
        lengths = float(hashed[0].norm() * hashed[1].norm())
        cosine = float(hashed[0] @ hashed[1]) / lengths if lengths > 0 else 0.0
        return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))

    def _found(self, facts: Facts, itself: bool) -> tuple[StrEnum, str]:
        if facts["found"]:
            first = int(str(facts["rounds_found"]).split()[0])
            bucket = str(facts["query_buckets"]).split()[first - 1]
            where = f"{_rounds(facts['found'])} of {facts['rounds']} (first in round {first}, bucket {bucket})"
            return LSHReason.SAME_BUCKET, f"Query and key fell into the same bucket, near enough to meet, in {where}."
        if facts["local"]:
            return (LSHReason.LOCAL, "No round found this key, but it stands so near that the local window always shows it.")
        if facts["sink"]:
            return (LSHReason.SINK, "No round found this key, but it is among the first tokens, which are always visible.")
        assert itself
        return Reason.ITSELF, "This query found no key in any round, so it attends to itself."

    def _missed(self, facts: Facts, head: int, query: int, key: int) -> tuple[StrEnum, str]:
        if self.shared and query == key:
            return (
                LSHReason.OWN_KEY,
                "A token's key is its own query here, so it does not attend to itself while it sees others.",
            )
        if not facts["met"]:
            text = f"Query and key fell into different buckets in {_rounds(facts['rounds'], 'all ')}"
            text += f"; they stand {facts['angle']:.0f}° apart"
            if "chance_any" in facts:
                text += f", which meets at least once with a chance of {facts['chance_any']:.3g}"
            return LSHReason.DIFFERENT_BUCKETS, f"{text}."
        facts |= self._distance(head, query, key)
        met = f"Query and key fell into the same bucket in {_rounds(facts['met'])} of {facts['rounds']}"
        if self.chunk:
            where = f"in round {facts['round']} the key lies in chunk {facts['key_chunk']} of the sorted order"
            look = f"the query looks at its own chunk, {facts['query_chunk']}, and the one before"
            return LSHReason.OTHER_CHUNK, f"{met}, but {where} and {look}."
        where = f"in round {facts['round']} {facts['between']} keys of that bucket stand nearer on this side"
        reach = "the last" if self.sequence.causal else "those around its place, at most"
        return (LSHReason.OVERFLOWED, f"{met}, but even {where}, and a query looks at {reach} {self.width} of its bucket.")

    def _distance(self, head: int, query: int, key: int) -> Facts:
        """How far apart query and key are in their bucket, in the round in which they are nearest.

        `between` counts the keys of the bucket that are nearer to the query on the key's side. The query's own key is one of
        them unless the query may not attend to itself.
        """
        trace = self.trace
        met = (trace.buckets[head, :, query] == trace.key_buckets[head, :, key]).nonzero().squeeze(-1)
        place, rank = trace.place[head, met, query], self.lists.rank[head, met, key]
        own = (trace.buckets[head, met, query] == trace.key_buckets[head, met, query]).to(rank.dtype)
        behind, ahead = place - rank - 1, rank - place
        if self.shared:
            ahead = ahead - own
        else:
            behind = behind + own
        between = torch.where(rank < place, behind, ahead)
        nearest = int(between.argmin())
        facts: Facts = {"round": int(met[nearest]) + 1, "between": int(between[nearest])}
        if self.chunk:
            last = (int(self.sequence.real.sum()) - 1) // self.chunk
            facts["query_chunk"] = min(int(place[nearest]) // self.chunk, last) + 1
            facts["key_chunk"] = int(rank[nearest]) // self.chunk + 1
        return facts


def _rounds(count: float | int | str | bool, all_of: str = "") -> str:
    return "1 round" if count == 1 else f"{all_of}{count} rounds"
