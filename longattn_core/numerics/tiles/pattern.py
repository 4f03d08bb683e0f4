"""Which items each query reads, and how the scores of these items become weights.

**Items** are what a query can read: the n tokens, and the groups of each level. All P items are numbered in one row:

    0 …………………………… n−1 | n …………………………… | …………………………………… P−1
    tokens, level 0   | groups of level 1  | groups of level 2
    bases[0]          bases[1]             bases[2]              bases[3] = P

**A tile** is a run of consecutive queries that read nearly the same items. It reads the items on a list of its own, which are
gathered for it (`listed`), and items that all tiles read (`shared`). Scores are computed for the marked blocks only:

               tokens                            groups, level 1     groups, level 2
             +--------+--------+--------+       +----+----+----+    +----+----+
    tile 0   |########|        |        |       |####|####|    |    |====|====|       ####  listed   near [g b T C]
             +--------+--------+--------+       +----+----+----+    +----+----+       ====  shared   far  [g b T S]
    tile 1   |        |########|        |       |####|####|    |    |====|====|
             +--------+--------+--------+       +----+----+----+    +----+----+
    tile 2   |        |        |########|       |    |    |####|    |====|====|
             +--------+--------+--------+       +----+----+----+    +----+----+

Within a block `visible` says which pairs are read: the mask, padding and the mechanism's own rule hide the others.
b tiles are computed at once: `queries [b T]` holds −1 behind the end of a short tile, `listed [b C]` −1 behind a short list.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.softmax import masked_softmax
from longattn_core.numerics.tiles.groups import Groups


@dataclass(frozen=True, kw_only=True, eq=False)
class TilePattern(ABC):
    """The items that each tile reads. `groups` are the levels above the tokens, the finest first.

    A subclass defines `tiles`, `widest`, `listed` and `visible`; it overrides the other members where it differs.
    """

    sequence: Sequence
    groups: tuple[Groups, ...]

    @abstractmethod
    def tiles(self) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """Each tile's queries [first, stop); together the tiles hold every query once, in order."""

    @property
    @abstractmethod
    def widest(self) -> int:
        """The largest number of items on the list of any tile."""

    @abstractmethod
    def listed(self, first: Int[Tensor, "b"], stop: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
        """The list of the queries [first, stop), each within one tile; −1 behind the end of a shorter list.

        A column holds items of one level only.
        """

    @abstractmethod
    def visible(
        self, queries: Int[Tensor, "b T"], listed: Int[Tensor, "b C"], shared: Int[Tensor, "S"]
    ) -> tuple[Bool[Tensor, "b T C"], Bool[Tensor, "b T S"]]:
        """Which listed and which shared items each query reads; none for query −1 and for padding."""

    def shared(self, last: int) -> Int[Tensor, "S"]:
        """The items that every tile reads, for queries up to `last`: all of one level. By default none."""
        return torch.arange(0, device=self.sequence.q.device)

    @property
    def bias(self) -> Float[Tensor, "P"] | None:
        """What is added to the scores of each item, if anything."""
        return None

    @property
    def disjoint(self) -> bool:
        """Whether no query reads a key at two levels."""
        return True

    @cached_property
    def bases(self) -> tuple[int, ...]:
        """The number of the first item of each level, and then the number of items P."""
        out = [0, self.sequence.n]
        for groups in self.groups:
            out.append(out[-1] + groups.count)
        return tuple(out)

    @cached_property
    def queries(self) -> Float[Tensor, "h m d"]:
        """The query vectors: by default those of the tokens."""
        return self.sequence.q

    @cached_property
    def keys(self) -> Float[Tensor, "h P d"]:
        """The key of each item."""
        return torch.cat([self.sequence.k, *(groups.k for groups in self.groups)], dim=1)

    @cached_property
    def values(self) -> Float[Tensor, "h P e"]:
        """The value of each item."""
        return torch.cat([self.sequence.v, *(groups.v for groups in self.groups)], dim=1)

    @cached_property
    def alive(self) -> Bool[Tensor, "P"]:
        """Which items hold a real token."""
        return torch.cat([self.sequence.real, *(groups.size > 0 for groups in self.groups)])

    def level_of(self, items: Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
        """The level of each item, 0 for a token; −1 for no item."""
        edges = torch.tensor(self.bases[1:-1] or (self.bases[-1],), device=items.device)
        return torch.where(items >= 0, torch.bucketize(items, edges, right=True), -1)

    def tokens_read(self, queries: Int[Tensor, "b T"], listed: Int[Tensor, "b C"]) -> Bool[Tensor, "b T C"]:
        """Which listed items are tokens that the mask allows each query to attend to."""
        real = self.sequence.real
        token = (listed >= 0) & (listed < self.sequence.n)
        token = token & real[torch.where(token, listed, 0)]
        out = token[:, None, :] & self.asks(queries)[..., None]
        return out & (listed[:, None, :] <= queries[..., None]) if self.sequence.causal else out

    def asks(self, queries: Int[Tensor, "b T"]) -> Bool[Tensor, "b T"]:
        """Which of these are real queries: neither −1 nor padding."""
        return (queries >= 0) & self.sequence.real[queries.clamp_min(0)]

    def scores(
        self,
        q: Float[Tensor, "g m d"],
        k: Float[Tensor, "g P d"],
        queries: Int[Tensor, "b T"],
        listed: Int[Tensor, "b C"],
        shared: Int[Tensor, "S"],
    ) -> tuple[Float[Tensor, "g b T C"], Float[Tensor, "g b T S"]]:
        """The products q·k/√d of each query with the listed and with the shared items."""
        asked = q[:, queries.clamp_min(0)] / math.sqrt(q.shape[-1])
        return asked @ k[:, listed.clamp_min(0)].mT, shared_product(asked, k[:, shared].mT)

    def join(
        self,
        near: Float[Tensor, "g b T C"],
        far: Float[Tensor, "g b T S"],
        near_read: Bool[Tensor, "b T C"],
        far_read: Bool[Tensor, "b T S"],
        listed: Int[Tensor, "b C"],
        shared: Int[Tensor, "S"],
    ) -> tuple[Float[Tensor, "g b T C"], Float[Tensor, "g b T S"]]:
        """Weights from scores: by default one softmax over all items that a query reads."""
        if (bias := self.bias) is not None:
            near, far = near + bias[listed.clamp_min(0)][:, None, :], far + bias[shared]
        scores = torch.cat([near, far], dim=-1)
        weights = masked_softmax(scores, torch.cat([near_read, far_read], dim=-1).expand_as(scores))
        return weights[..., : near.shape[-1]], weights[..., near.shape[-1] :]


def shared_product(x: Float[Tensor, "g b T i"], y: Float[Tensor, "g i j"]) -> Float[Tensor, "g b T j"]:
    """The rows of all tiles times one matrix, in one product."""
    return (x.flatten(1, 2) @ y).view(*x.shape[:-1], y.shape[-1])
