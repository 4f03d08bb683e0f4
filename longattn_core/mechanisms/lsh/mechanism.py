"""Locality-sensitive hashing: look only at keys that fell into one's own bucket, in any of a few random rounds.

Source: Kitaev, Kaiser and Levskaya 2020 (Reformer), arXiv:2001.04451, sections 2 and 3. Our deviations: queries and keys
may stay separate, hashed by one draw; by default a query looks along its bucket from its own position, which cannot leak
the future as chunks of the sorted order do; a pair found twice counts once, and the rounds join in one exact softmax over
all pairs found; scores keep the factor 1/√d. Sinks and a local window may be added (Xiao et al. 2023, arXiv:2309.17453).
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
from longattn_core.mechanisms.lsh.map import LSHMap, LSHReason, LSHTrace
from longattn_core.numerics.certain_argmax import PRODUCT_CELLS
from longattn_core.numerics.draws import generator
from longattn_core.numerics.lists.attention import attend_lists
from longattn_core.numerics.lists.sorted_lists import Bucketed, SortedLists, bucketed, by_bucket, by_place
from longattn_core.numerics.lists.tiles import TILE_CELLS, scores_computed

__all__ = ["LSH", "LSHMap", "LSHReason", "LSHTrace"]


class LSH(Mechanism):
    """Softmax over the keys that shared a bucket with the query in at least one round of hashing."""

    key: ClassVar[str] = "lsh"
    title: ClassVar[str] = "Locality-sensitive hashing"
    idea: ClassVar[str] = "Hash queries and keys at random and look only at keys in one's own bucket."
    paper: ClassVar[str] = "Kitaev et al. 2020, arXiv:2001.04451"
    complexity: ClassVar[str] = "r·(n·b·d/2 + n·ln n + n·w·d)"
    family: ClassVar[Family] = "by content"
    order: ClassVar[int] = 50
    causal_note: ClassVar[str] = (
        "A query looks back along its bucket from its own position, and a mean to centre on comes from a calibration or from "
        "the past; Reformer's chunks of the sorted order leak, and say so."
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
        """A cross-polytope has two buckets an axis, hyperplanes two a bit: the dial shows the number that is used."""
        even = self.buckets if self.buckets == 1 else self.buckets + self.buckets % 2
        whole = even if self.hashing == "cross_polytope" else 1 << (self.buckets - 1).bit_length()
        object.__setattr__(self, "buckets", whole)
        return self

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost: two hashes a round, one sort, and n·(w + a block) scores a round and head; memory h·n·r and n·(d + e)."""
        shared, real = self.sharing == "shared", sequence.real
        rotations = draw_rotations(self.seed, self.hashing, self.rounds, sequence.d, self.buckets)
        centres = centres_of(sequence, centred=self.centred, shared=shared)
        mine = hash_vectors(sequence.q, centres.queries, rotations, self.hashing)
        its = mine if shared else hash_vectors(sequence.k, centres.keys, rotations, self.hashing)
        placed = bucketed(mine, its, real)
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
        buckets = torch.where(real, mine, -1)
        trace = LSHTrace(
            rotations=rotations,
            buckets=buckets,
            key_buckets=buckets if shared else torch.where(real, its, -1),
            order=placed.order if shared else by_bucket(mine, real),
            key_order=placed.order,
            place=placed.before,
            sizes=_sizes(its[..., real], self.buckets),
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
        """Tokens thrown into buckets blindly, as unit Gaussian heads would fall, and the blocks that cover their stretches.

        One round stands for all of them, which are alike.
        """
        shape = (sequence.h, 1, sequence.n)
        mine, its = (
            torch.randint(self.buckets, shape, generator=generator(self.seed, f"blind buckets of {side}"))
            for side in ("queries", "keys")
        )
        lists = self._lists(sequence, bucketed(mine, mine if self.sharing == "shared" else its, sequence.real))
        *a_round, local, sinks = scores_computed(lists)
        computed = self.rounds * sum(a_round) + local + sinks
        return self._cost(sequence, self.rounds * len(a_round) + 2, computed)

    def _lists(self, sequence: Sequence, placed: Bucketed) -> SortedLists:
        """The stretches of every round, and behind them the local window and the sinks."""
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
        """One bucket, one round, and room for all n keys; none when keys are the queries' directions."""
        if self.no_exact_setting is not None or n > 65536:
            return None
        return self.with_dials(buckets=1, rounds=1, width=n, chunk=n)

    @property
    def no_exact_setting(self) -> str | None:
        """Shared queries and keys answer another question than the model's own."""
        if self.sharing == "shared":
            return "Keys are the queries' directions, and no token attends to itself: no setting gives the model's attention."
        return None

    def ladder(self, n: int) -> tuple[Self, ...]:
        """From many buckets and one round to one bucket."""
        room = min(n, 65536)
        steps = ((64, 1), (32, 2), (16, 4), (8, 6), (1, 1))
        return tuple(self.with_dials(buckets=b, rounds=r, width=room, chunk=room) for b, r in steps)

    def with_budget(self, keys: int, n: int) -> Self:
        """At most `keys` looked at in all rounds, from buckets that hold twice as many between them.

        Twice, because real heads fill buckets unevenly and a causal query finds only the past of each.
        """
        if keys >= n:
            return self.with_dials(buckets=1, rounds=1, width=min(n, 65536), chunk=min(n, 65536))
        sinks, local = min(self.sinks, keys // 4), min(self.local, keys // 4)
        left = max(1, keys - sinks - local)
        # A chunk never stands alone: two of one token are the least that a round of chunks looks at.
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
        """The name with what is out of the ordinary."""
        name = "Reformer" if self.sharing == "shared" else "LSH"
        said = []
        if self.hashing == "hyperplane":
            said.append("hyperplanes")
        if self.order_by == "chunks":
            said.append("chunks")
        if self.centred:
            said.append("centred")
        extra = " + ".join(f"{x} {y}" for x, y in ((self.sinks, "sinks"), (self.local, "local")) if x)
        return f"{name}{', ' if said else ''}{' '.join(said)}{f' + {extra}' if extra else ''}"

    @property
    def parameters(self) -> Origin:
        """The hash is drawn; nothing is learned."""
        return "random draw"

    @property
    def differentiable(self) -> bool:
        """Buckets are held constant. Shared keys leave the model's own unread, so that no gradient reaches them."""
        return self.sharing == "separate"

    @property
    def depends_on_future(self) -> str | None:
        """Chunks are cut from an order that later tokens take part in."""
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
