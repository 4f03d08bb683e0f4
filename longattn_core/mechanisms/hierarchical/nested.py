"""Token, sentence, paragraph: a query reads its own groups finely and the others by their pooled values.

Source: Yang et al. 2016, HAN (doi:10.18653/v1/N16-1174), section 2.2. Our deviation: HAN encodes a document once; here every
query reads it from its own position, with means in place of learned projections, and may read at all levels.

Definition. Level 0 are the tokens. A group g of level 1 (sentence) or 2 (paragraph) has N_g real tokens. Their means are its
query Q_g and key K_g. Its value is pooled by its own mean query over its members x of the level below, the same for all queries:
V_g = Σ_x r_x V_x with r = softmax over x in g of Q_g·K_x/√d. So V_g is a mixture of the tokens' values, Σ_j share_j v_j.
Query i reads tokens only in its own sentence, sentences only in its own paragraph, and all paragraphs; at the coarsest of
the levels in use, all groups. With s_x = q_i·K_x/√d:

*product*: p(paragraph) = softmax over the paragraphs, p(sentence | own paragraph) over its sentences, p(token | own sentence)
over its tokens. Another paragraph c is read as p(c)·V_c; another sentence s of the own paragraph P as p(P)·p(s | P)·V_s; a token
j of the own sentence S as p(P)·p(S | P)·p(j | S)·v_j.

*mean*, *gate*: each level l has a softmax of its own, over all tokens of the own sentence, all sentences of the own paragraph,
all paragraphs; o_i = Σ_l γ_l o_i^l. The mean has γ = 1 / (number of levels at which the query finds something). The gate
has γ = softmax over l of logsumexp(scores of level l): the share that the level's keys win in one softmax over all.

Under a causal mask only groups before the query's own group of that level are read as groups. The own group is not complete:
*product* descends into it, with the mean key of its tokens up to i; *mean* and *gate* read it only at the finer level.
A group counts as one key, or as its tokens: then ln N (for the own group under a causal mask, N up to i) is added to s_x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.softmax import any_of, masked_softmax
from longattn_core.numerics.tiles.cutting import cut_tiles, spans
from longattn_core.numerics.tiles.groups import Groups, numbered, pooled_groups
from longattn_core.numerics.tiles.reading import TiledReader


def fanned(n: int, fanout: int, levels: int, device: torch.device) -> list[Int[Tensor, "n"]]:
    """The groups of each level above the tokens: `fanout` tokens, `fanout`² tokens, …"""
    tokens = torch.arange(n, device=device)
    return [tokens // fanout**level for level in range(1, levels)]


def build_levels(sequence: Sequence, membership: list[Int[Tensor, "n"]], by_size: bool) -> tuple[Groups, ...]:
    """The groups of each level with their queries, keys and pooled values, from the finest up. Cost: O(n·(d + e)) a level."""
    levels: list[Groups] = []
    for of in membership:
        levels.append(pooled_groups(sequence, numbered(of), levels[-1] if levels else None, by_size))
    return tuple(levels)


@dataclass(frozen=True, kw_only=True, eq=False)
class TileScores:
    """The scores of some tiles' queries with the `listed` and the `shared` items, and which of them each query reads."""

    near: Float[Tensor, "g b T C"]
    far: Float[Tensor, "g b T S"]
    near_read: Bool[Tensor, "b T C"]
    far_read: Bool[Tensor, "b T S"]
    listed: Int[Tensor, "b C"]
    shared: Int[Tensor, "S"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """The softmax of each level before the levels are joined, finest level first.

    `tokens [g b T C]` are the weights within the own sentence. At each level above, `others` are the weights of the other
    groups, and `own [g b T]` that of the own group (product only). `readable [b T]` says at which levels the query reads
    anything, and `lse [g b T]` is the logsumexp there, 0 where it reads nothing.
    """

    tokens: Float[Tensor, "g b T C"]
    others: tuple[Float[Tensor, "g b T _"], ...]
    own: tuple[Float[Tensor, "g b T"], ...]
    readable: tuple[Bool[Tensor, "b T"], ...]
    lse: tuple[Float[Tensor, "g b T"], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class NestedReader(TiledReader):
    """Own groups token by token, the others as groups.

    `groups` is empty, or holds the sentences, or the sentences and the paragraphs.
    """

    joined: Literal["product", "mean", "gate"]
    by_size: bool

    @property
    def disjoint(self) -> bool:
        """False for mean and gate without a mask, which read the own groups at several levels."""
        return self.joined == "product" or self.sequence.causal

    @property
    def _grouping(self) -> int:
        """Multiplications for the means, the scores of each group's own query, and the pooled values."""
        return len(self.groups) * self.sequence.n * (3 * self.sequence.d + 2 * self.sequence.e)

    @property
    def _firsts(self) -> Int[Tensor, "G"]:
        return self.groups[0].first if self.groups else torch.zeros(1, dtype=torch.int64, device=self.sequence.q.device)

    def tiles(self) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """Tiles that end where sentences end."""
        return cut_tiles(self._firsts, self.sequence.n)

    @property
    def widest(self) -> int:
        """The longest sentence in tokens, and the longest paragraph in sentences."""
        if not self.groups:
            return self.sequence.n
        longest = int((self.groups[0].last - self.groups[0].first).max()) + 1
        if len(self.groups) == 1:
            return longest
        sentences, paragraphs = self.groups
        return longest + int((sentences.of[paragraphs.last] - sentences.of[paragraphs.first]).max()) + 1

    def listed(self, first: Int[Tensor, "b"], stop: Int[Tensor, "b"]) -> Int[Tensor, "b C"]:
        """The tokens of the own sentence; with paragraphs, also the sentences of the own paragraph."""
        causal, n = self.sequence.causal, self.sequence.n
        if not self.groups:
            return spans(torch.zeros_like(first), stop if causal else torch.full_like(stop, n))
        sentences = self.groups[0]
        own = sentences.of[first]
        tokens = spans(sentences.first[own], stop if causal else sentences.last[own] + 1)
        if len(self.groups) == 1:
            return tokens
        paragraphs = self.groups[1]
        paragraph = paragraphs.of[first]
        end = own if causal else sentences.of[paragraphs.last[paragraph]] + 1
        items = spans(sentences.of[paragraphs.first[paragraph]], end)
        return torch.cat([tokens, torch.where(items >= 0, n + items, -1)], dim=1)

    def shared(self, last: int) -> Int[Tensor, "S"]:
        """The groups of the coarsest level; under a causal mask, those before the group of token `last`."""
        if not self.groups:
            return super().shared(last)
        top = self.groups[-1]
        count = int(top.of[last]) if self.sequence.causal else top.count
        return self.bases[-2] + torch.arange(count, device=self.sequence.q.device)

    def visible(
        self, queries: Int[Tensor, "b T"], listed: Int[Tensor, "b C"], shared: Int[Tensor, "S"]
    ) -> tuple[Bool[Tensor, "b T C"], Bool[Tensor, "b T S"]]:
        """Tokens of the own sentence; of the groups, those that are read as groups."""
        near, asks = self.tokens_read(queries, listed), self.asks(queries)[..., None]
        if not self.groups:
            return near, asks.expand(-1, -1, len(shared))
        # A tile lies within one group of every level, so all its queries read the same groups as groups.
        first = queries[:, :1]
        if len(self.groups) > 1:
            as_group = (listed >= self.sequence.n) & self.alive[listed.clamp_min(0)]
            as_group &= self._as_groups(listed, self.sequence.n + self.groups[0].of[first])
            near = near | (as_group[:, None] & asks)
        far = self.alive[shared] & self._as_groups(shared, self.bases[-2] + self.groups[-1].of[first])
        return near, far[:, None] & asks

    def _as_groups(self, items: Int[Tensor, "*x"], own: Int[Tensor, "*y"]) -> Bool[Tensor, "*z"]:
        """Which groups a query of the group `own` reads as groups."""
        if self.sequence.causal:
            return items < own
        return items != own if self.joined == "product" else torch.ones_like(items != own)

    def chain(self, scored: TileScores) -> Chain:
        """The softmax of each level, from scores."""
        near, listed = scored.near, scored.listed
        token, product = scored.near_read & (listed < self.sequence.n)[:, None], self.joined == "product"
        tokens, total = _softmax_and_lse(near, token)
        others, own, readable, lse = [], [], [any_of(token)[..., 0]], [total]
        # The mean of the own tokens' scores is the score of their mean key: no running mean of keys is needed.
        count = token.sum(-1).to(near.dtype)
        score = (near * token).sum(-1) / count.clamp_min(1)
        above = self._above(scored)
        for level, (scores, read, items) in enumerate(above, start=1):
            size = self._sizes[items.clamp_min(0)].to(near.dtype)
            biased = scores + size.clamp_min(1).log()[..., None, :] if self.by_size else scores
            if product:
                own_score = score + count.clamp_min(1).log() if self.by_size else score
                weights = masked_softmax(
                    torch.cat([biased, own_score[..., None]], dim=-1),
                    torch.cat([read, readable[0][..., None]], dim=-1).expand(*biased.shape[:-1], -1),
                )
                others.append(weights[..., :-1])
                own.append(weights[..., -1])
                if level < len(above):
                    sized = torch.where(read, size[..., None, :], 0.0)
                    whole = sized.sum(-1) + count
                    score = ((scores * sized).sum(-1) + score * count) / whole.clamp_min(1)
                    count = whole
            else:
                weights, total = _softmax_and_lse(biased, read)
                others.append(weights)
                readable.append(any_of(read)[..., 0])
                lse.append(total)
        return Chain(tokens=tokens, others=tuple(others), own=tuple(own), readable=tuple(readable), lse=tuple(lse))

    def _above(self, scored: TileScores) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Scores, what is read, and items of each level above the tokens, finest first."""
        if not self.groups:
            return []
        top = (scored.far, scored.far_read, scored.shared[None])
        if len(self.groups) == 1:
            return [top]
        return [(scored.near, scored.near_read & (scored.listed >= self.sequence.n)[:, None], scored.listed), top]

    @property
    def _sizes(self) -> Int[Tensor, "P"]:
        return torch.cat([self.sequence.real.long(), *(groups.size for groups in self.groups)])

    def gates(self, chain: Chain) -> Float[Tensor, "g b T L"]:
        """γ: how much each level counts (mean and gate), 0 for a level at which the query reads nothing."""
        readable = torch.stack(chain.readable, dim=-1)
        if self.joined == "mean":
            equal = readable.to(chain.tokens.dtype) / readable.sum(-1, keepdim=True).clamp_min(1)
            return equal.expand(len(chain.tokens), -1, -1, -1)
        lse = torch.stack(chain.lse, dim=-1)
        return masked_softmax(lse, readable.expand_as(lse))

    def join(
        self,
        near: Float[Tensor, "g b T C"],
        far: Float[Tensor, "g b T S"],
        near_read: Bool[Tensor, "b T C"],
        far_read: Bool[Tensor, "b T S"],
        listed: Int[Tensor, "b C"],
        shared: Int[Tensor, "S"],
    ) -> tuple[Float[Tensor, "g b T C"], Float[Tensor, "g b T S"]]:
        """The product of the chain, or the levels' softmaxes, each times its γ."""
        chain = self.chain(TileScores(near=near, far=far, near_read=near_read, far_read=far_read, listed=listed, shared=shared))
        if not self.groups:
            return chain.tokens, far
        if self.joined == "product":
            listed_weights = chain.tokens
            for others, own in zip(chain.others[:-1], chain.own[:-1], strict=True):
                listed_weights = listed_weights * own[..., None] + others
            return listed_weights * chain.own[-1][..., None], chain.others[-1]
        gates = self.gates(chain)
        listed_weights = chain.tokens * gates[..., :1]
        for level, others in enumerate(chain.others[:-1], start=1):
            listed_weights = listed_weights + others * gates[..., level, None]
        return listed_weights, chain.others[-1] * gates[..., -1:]


def _softmax_and_lse(
    scores: Float[Tensor, "g b T X"], read: Bool[Tensor, "b T X"]
) -> tuple[Float[Tensor, "g b T X"], Float[Tensor, "g b T"]]:
    """The softmax over what is read, and its logsumexp: the highest score minus the logarithm of that score's weight.

    Both are 0 where nothing is read; a gate leaves such a level out.
    """
    if not scores.shape[-1]:
        return scores, scores.sum(-1)
    some, masked = any_of(read), torch.where(read, scores, -torch.inf)
    everywhere = bool(some.all())
    if not everywhere:
        # A row of −∞ alone would give nan in value and gradient.
        masked = torch.where(some, masked, 0.0)
    weights = masked.softmax(-1)
    lse = masked.amax(-1) - weights.amax(-1).log()
    if everywhere:
        return weights, lse
    return torch.where(some & read, weights, 0.0), torch.where(some[..., 0], lse, 0.0)
