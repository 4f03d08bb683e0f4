"""Locality-sensitive hashing: attend only to keys in the query's own bucket, in any of a few random rounds.

Source: Kitaev, Kaiser and Levskaya 2020 (Reformer), arXiv:2001.04451, sections 2 and 3. Our deviations: queries and keys
may stay separate, hashed by the same draw; by default a query reads the last keys of its bucket up to its own position, which
does not depend on later tokens as chunks of the sorted order do; a pair that several rounds find counts once, in one exact
softmax over all pairs; scores keep the factor 1/√d. Sinks and a local window may be added (Xiao et al. 2023, arXiv:2309.17453).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Int
from pydantic import model_validator
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.lsh.hashing import Hashing, centres_of, chunk_stretches, draw_rotations, hash_vectors
from longattn_core.mechanisms.lsh.map import LSHMap, LSHTrace
from longattn_core.numerics.certain_argmax import PRODUCT_CELLS
from longattn_core.numerics.draws import generator
from longattn_core.numerics.lists.attention import attend_lists
from longattn_core.numerics.lists.sorted_lists import Bucketed, SortedLists, bucketed, by_bucket, by_place
from longattn_core.numerics.lists.tiles import TILE_CELLS, scores_computed


class LSH(Mechanism):
    """Softmax over the keys that share a bucket with the query in at least one round of hashing."""

    key: ClassVar[str] = "lsh"
    title: ClassVar[str] = "Locality-sensitive hashing"
    idea: ClassVar[str] = "Hash queries and keys at random and look only at keys in one's own bucket."
    paper: ClassVar[str] = "Kitaev et al. 2020, arXiv:2001.04451"
    complexity: ClassVar[str] = "r·(n·b·d/2 + n·ln n + n·w·d)"
    family: ClassVar[Family] = "by content"
    order: ClassVar[int] = 50
    causal_note: ClassVar[str] = (
        "A query reads its bucket back from its own position, and a mean that is subtracted comes from the calibration or from "
        "the past. Reformer's chunks are cut from the order of all tokens: there, a later token changes earlier outputs."
    )

    hashing: Hashing = dial(
        "cross_polytope",
        title="Hash",
        help="How a direction is turned into the number of a bucket.",
        options={"cross_polytope": "nearest axis of a random rotation", "hyperplane": "sides of random hyperplanes"},
    )
    buckets: int = dial(
        16,
        title="Buckets b",
        symbol="b",
        ge=1,
        le=1024,
        scale="log2",
        help="How many buckets a round has; 1 puts everything together. An odd number becomes the next even one, and with "
        "hyperplanes the next power of two.",
    )
    rounds: int = dial(
        4,
        title="Rounds r",
        symbol="r",
        ge=1,
        le=32,
        help="How many independent hashes there are; a pair is found when it meets in one of them.",
    )
    order_by: Literal["recent", "chunks"] = dial(
        "recent",
        title="Look along",
        help="Which keys of its bucket a query looks at: the nearest up to itself, or those in nearby chunks.",
        options={"recent": "the last keys of the bucket", "chunks": "chunks of the sorted order (Reformer)"},
    )
    width: int = dial(
        64,
        title="Keys a round w",
        symbol="w",
        ge=1,
        le=65536,
        scale="log2",
        when={"order_by": ("recent",)},
        help="A query looks at no more than the last w keys of its bucket a round; without a mask, those around it.",
    )
    chunk: int = dial(
        64,
        title="Chunk c",
        symbol="c",
        ge=1,
        le=65536,
        scale="log2",
        when={"order_by": ("chunks",)},
        help="The sorted order is cut into chunks of c tokens; a query looks at its own chunk and the one before.",
    )
    sharing: Literal["separate", "shared"] = dial(
        "separate",
        title="Queries and keys",
        help="Whether keys are the model's own, or the directions of the queries as Reformer trains them.",
        options={"separate": "as the model has them", "shared": "keys are the queries' directions (Reformer)"},
    )
    centred: bool = dial(
        False,
        title="Centre before hashing",
        help="Take the mean off queries and keys before they are hashed: scores stay, but who meets whom changes.",
    )
    sinks: int = dial(0, title="Sinks s", symbol="s", ge=0, le=1024, help="The first s tokens are always visible.")
    local: int = dial(
        0,
        title="Local window l",
        symbol="l",
        ge=0,
        le=65536,
        help="The last l tokens, the query's own among them, are always visible; without a mask, those on both sides.",
    )

    @model_validator(mode="after")
    def _whole_buckets(self) -> Self:
        """Round the number of buckets up to an even one, or for hyperplanes to a power of two."""
        even = self.buckets if self.buckets == 1 else self.buckets + self.buckets % 2
        whole = even if self.hashing == "cross_polytope" else 1 << (self.buckets - 1).bit_length()
        object.__setattr__(self, "buckets", whole)
        return self

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost: two hashes a round, one sort, and n·(w + a block) scores a round and head; memory h·n·r and n·(d + e)."""
        shared, real = self.sharing == "shared", sequence.real
        rotations = draw_rotations(self.seed, self.hashing, self.rounds, sequence.d, self.buckets)
        centres = centres_of(sequence, centred=self.centred, shared=shared)
        query_buckets = hash_vectors(sequence.q, centres.queries, rotations, self.hashing)
        key_buckets = query_buckets if shared else hash_vectors(sequence.k, centres.keys, rotations, self.hashing)
        placed = bucketed(query_buckets, key_buckets, real)
        lists = self._lists(sequence, placed)
        names = tuple(f"round {p % self.rounds + 1}" for p in range(lists.order.shape[1] - 2))
        output, computed = attend_lists(
            sequence.q,
            sequence.q if shared else sequence.k,
            sequence.v,
            lists,
            real=real,
            scale=1 / math.sqrt(sequence.d),
            skip_self=shared,
            directions=shared,
        )
        buckets = torch.where(real, query_buckets, -1)
        trace = LSHTrace(
            rotations=rotations,
            buckets=buckets,
            key_buckets=buckets if shared else torch.where(real, key_buckets, -1),
            order=placed.order if shared else by_bucket(query_buckets, real),
            key_order=placed.order,
            place=placed.before,
            sizes=_sizes(key_buckets[..., real], self.buckets),
            query_centre=centres.queries,
            key_centre=centres.keys,
            calibration=centres.calibration,
            lists=(*names, "local", "sinks"),
            first=lists.first,
            stop=lists.stop,
        )
        cost = self._cost(sequence, lists.order.shape[1], computed)
        return LSHMap(
            mechanism=self,
            sequence=sequence,
            output=output,
            trace=trace,
            cost=cost,
            lists=lists,
            shared=shared,
            hashing=self.hashing,
            width=self.width,
            chunk=self.chunk if self.order_by == "chunks" else 0,
        )

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """Buckets at random, as for unit Gaussian heads, and the blocks that cover their stretches.

        One round is counted and multiplied by the number of rounds.
        """
        shape = (sequence.h, 1, sequence.n)
        query_buckets, key_buckets = (
            torch.randint(self.buckets, shape, generator=generator(self.seed, f"blind buckets of {side}"))
            for side in ("queries", "keys")
        )
        key_buckets = query_buckets if self.sharing == "shared" else key_buckets
        lists = self._lists(sequence, bucketed(query_buckets, key_buckets, sequence.real))
        *one_round, local, sinks = scores_computed(lists)
        computed = self.rounds * sum(one_round) + local + sinks
        return self._cost(sequence, self.rounds * len(one_round) + 2, computed)

    def _lists(self, sequence: Sequence, placed: Bucketed) -> SortedLists:
        """The stretches of every round, then the local window and the sinks."""
        shared, real = self.sharing == "shared", sequence.real
        if self.order_by == "chunks":
            lists = chunk_stretches(placed, self.chunk, real, causal=sequence.causal, skip_self=shared)
        else:
            lists = (placed.stretches(self.width, causal=sequence.causal, skip_self=shared),)
        return lists[0].joined(*lists[1:], by_place(real, self.sinks, self.local, causal=sequence.causal))

    def _cost(self, sequence: Sequence, p: int, computed: int) -> Cost:
        """Hashing, sorting (counted as moves), and the scores that the blocks of the p lists computed."""
        h, n, d, e = sequence.h, sequence.n, sequence.d, sequence.e
        size = sequence.q.element_size()
        hashed = h * n * (1 if self.sharing == "shared" else 2)
        columns = self.buckets // 2 if self.hashing == "cross_polytope" else (self.buckets - 1).bit_length()
        sort = h * self.rounds * n * 8 * max(1, n.bit_length())
        tiles = computed * (2 + p) + p * h * n * (2 * d + 2 * e)
        return Cost(
            multiply_adds=hashed * self.rounds * d * columns + computed * (d + e),
            bytes_moved=hashed * 8 * (d + self.rounds) + sort + size * tiles,
            bytes_peak=8 * (4 * p + 7 * self.rounds) * h * n + 12 * PRODUCT_CELLS + size * (n * (d + e) + 8 * TILE_CELLS),
        )

    def exact_setting(self, n: int) -> Self | None:
        """One bucket, one round and a width of n; None when keys are the queries' directions."""
        if self.no_exact_setting is not None or n > 65536:
            return None
        return self.with_dials(buckets=1, rounds=1, width=n, chunk=n)

    @property
    def no_exact_setting(self) -> str | None:
        """With shared queries and keys the scores are not those of the model."""
        if self.sharing == "shared":
            return "Keys are the queries' directions, and no token attends to itself: no setting gives the model's attention."
        return None

    def ladder(self, n: int) -> tuple[Self, ...]:
        """From many buckets and one round to one bucket."""
        room = min(n, 65536)
        steps = ((64, 1), (32, 2), (16, 4), (8, 6), (1, 1))
        return tuple(self.with_dials(buckets=b, rounds=r, width=room, chunk=room) for b, r in steps)

    def with_budget(self, keys: int, n: int) -> Self:
        """At most `keys` keys in all rounds together, from buckets that hold twice as many on average.

        Twice, because real heads fill buckets unevenly and a causal query may read only the past of each.
        """
        if keys >= n:
            return self.with_dials(buckets=1, rounds=1, width=min(n, 65536), chunk=min(n, 65536))
        sinks, local = min(self.sinks, keys // 4), min(self.local, keys // 4)
        left = max(1, keys - sinks - local)
        # A round of chunks reads at least two chunks of one token.
        rounds = min(4, left if self.order_by == "recent" else max(1, left // 2))
        share = left // rounds
        buckets = min(1024, max(1, 2 * round(n / share / 4)))
        chunk = max(1, share // 2)
        return self.with_dials(buckets=buckets, rounds=rounds, width=share, chunk=chunk, sinks=sinks, local=local)

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """Both hashes, centring, Reformer's chunks and its shared keys, and the combination with sinks and a window."""
        return (
            cls(),
            cls(hashing="hyperplane"),
            cls(centred=True),
            cls(sinks=4, local=16),
            cls(order_by="chunks"),
            cls(order_by="chunks", sharing="shared"),
        )

    @classmethod
    def showcase(cls) -> tuple[Self, ...]:
        """Hashing alone, and with the sinks and the window that a trained model's heads need."""
        return (cls(), cls(sinks=4, local=16))

    @property
    def label(self) -> str:
        """The name, with the hash, the order, the centring and the additions that differ from the default."""
        name = "Reformer" if self.sharing == "shared" else "LSH"
        parts = []
        if self.hashing == "hyperplane":
            parts.append("hyperplanes")
        if self.order_by == "chunks":
            parts.append("chunks")
        if self.centred:
            parts.append("centred")
        extra = " + ".join(f"{x} {y}" for x, y in ((self.sinks, "sinks"), (self.local, "local")) if x)
        return f"{name}{', ' if parts else ''}{' '.join(parts)}{f' + {extra}' if extra else ''}"

    @property
    def parameters(self) -> Origin:
        """The hash is drawn; nothing is learned."""
        return "random draw"

    @property
    def differentiable(self) -> bool:
        """Buckets count as constant. Shared keys replace the model's own, which then receive no gradient."""
        return self.sharing == "separate"

    @property
    def depends_on_future(self) -> str | None:
        """Chunks are cut from an order of all tokens, later ones included."""
        if self.order_by == "chunks" and self.buckets > 1:
            return (
                "Chunks are cut from the order of all tokens by bucket, so a later token shifts who shares a chunk with whom "
                "and moves earlier outputs; looking at the last keys of the bucket does not."
            )
        return None


def _sizes(buckets: Int[Tensor, "h r n"], count: int) -> Int[Tensor, "h r b"]:
    """How many real keys fell into each bucket."""
    out = torch.zeros(*buckets.shape[:2], count, dtype=torch.int64, device=buckets.device)
    return out.scatter_add(2, buckets, torch.ones_like(buckets))
