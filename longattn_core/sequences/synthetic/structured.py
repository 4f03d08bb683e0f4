"""Synthetic sequences defined by relations between tokens: clusters, few directions, distance, topics, repetition.

Source: ours; random cosines as a kernel of the distance after Rahimi and Recht 2007 (NIPS), the repeat task after
Olsson et al. 2022, arXiv:2209.11895.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from longattn_core.contracts.mechanism import dial
from longattn_core.contracts.sequence import Levels
from longattn_core.sequences.synthetic.base import Draws, Head, Synthetic

__all__ = ["Clustered", "Hierarchical", "Local", "LowRank", "Repeated"]


class Clustered(Synthetic):
    """Each token is one of c Gaussian centres with a deviation from it; every channel has variance 1.

    q, k and v of a token are (centre + spread·noise)/√(1 + spread²); q and k share their centres, v has its own. The
    expected score is √d/(1 + spread²) within a cluster, against a deviation of 1 between clusters.
    """

    title: ClassVar[str] = "Clusters"
    idea: ClassVar[str] = "Tokens fall into groups whose queries look for the group's own keys."

    kind: Literal["clustered"] = "clustered"
    centres: int = dial(8, title="Centres c", symbol="c", ge=1, le=1024, scale="log2", help="How many clusters.")
    spread: float = dial(0.5, title="Spread", symbol="s", ge=0, le=4, help="Deviation around a centre; its own is 1.")

    def _head(self, draws: Draws, head: int, n: int) -> Head:
        group = draws.choices("group", n, self.centres)
        centre = draws.fixed("centre", head, self.centres, self.d)
        value = draws.fixed("value", head, self.centres, self.e)
        size = 1 / math.sqrt(1 + self.spread**2)
        q, k = (size * (centre[group] + self.spread * draws.tokens(name, head, n, self.d)) for name in ("q", "k"))
        return q, k, size * (value[group] + self.spread * draws.tokens("v", head, n, self.e))

    def _tokens(self, draws: Draws, n: int) -> tuple[str, ...]:
        return tuple(f"c{group}" for group in draws.choices("group", n, self.centres).tolist())

    def _facts(self) -> str:
        return f"{self.centres} centres, spread {self.spread:g}"


class LowRank(Synthetic):
    """The scores are a matrix of rank r plus noise: q and k lie in r shared directions, with noise in all d channels.

    With orthonormal directions B [r d] and a ~ N(0, 1), q = (d/r)^¼·a·B + noise·ε: for noise 0 the rank of QKᵀ is r and
    a score is a·b/√r, of variance 1. The softmax of a matrix of rank r has, in general, a higher rank.
    """

    title: ClassVar[str] = "Low rank plus noise"
    idea: ClassVar[str] = "All scores come from a few directions, blurred by noise in all of them."

    kind: Literal["low_rank"] = "low_rank"
    rank: int = dial(4, title="Rank r", symbol="r", ge=1, le=256, scale="log2", help="Shared directions, at most d.")
    noise: float = dial(0.1, title="Noise", symbol="s", ge=0, le=2, help="Its deviation in each channel of q and k.")

    def _head(self, draws: Draws, head: int, n: int) -> Head:
        rank = min(self.rank, self.d)
        directions = torch.linalg.qr(draws.fixed("directions", head, self.d, rank)).Q.mT
        size = (self.d / rank) ** 0.25

        def rows(name: str) -> Float[Tensor, "n d"]:
            signal: Tensor = size * draws.tokens(name, head, n, rank) @ directions
            return signal + self.noise * draws.tokens(f"{name} noise", head, n, self.d)

        return rows("q"), rows("k"), draws.tokens("v", head, n, self.e)

    def _facts(self) -> str:
        return f"scores of rank {min(self.rank, self.d)}, noise {self.noise:g}"


class Local(Synthetic):
    """The score depends on the distance alone and decays with it: strength·exp(−|i − j|/ℓ) on average over the draw.

    q = k = cosines and sines of i·ω for d/2 frequencies ω from a Cauchy distribution with scale 1/ℓ. So the score is exactly
    strength·mean of cos(ω(i − j)). It is `strength` at distance 0; its expectation is the exponential, its deviation at most
    strength/√d. At large distances only this deviation remains; a larger d makes it smaller.
    """

    title: ClassVar[str] = "Local"
    idea: ClassVar[str] = "Scores decay with distance and depend on nothing else."

    kind: Literal["local"] = "local"
    strength: float = dial(8.0, title="Strength", symbol="g", ge=0, le=40, help="The score of a token with itself.")
    length: float = dial(
        16.0,
        title="Length scale ℓ",
        symbol="ℓ",
        ge=0.5,
        le=65_536,
        scale="log2",
        help="Distance at which the score is down to 1/e.",
    )

    def _head(self, draws: Draws, head: int, n: int) -> Head:
        frequencies = (math.pi * (draws.uniform("frequency", head, self.d // 2) - 0.5)).tan() / self.length
        angles = torch.arange(n, dtype=torch.float64)[:, None] * frequencies
        rows = math.sqrt(self.strength * 2 / math.sqrt(self.d)) * torch.cat((angles.cos(), angles.sin()), dim=-1)
        return rows, rows, draws.tokens("v", head, n, self.e)

    def _facts(self) -> str:
        return f"scores {self.strength:g}·exp(−distance/{self.length:g}) on average"


class Hierarchical(Synthetic):
    """Each token is a sum of its paragraph's topic, its sentence's topic and a part of its own; all channels have variance 1.

    With p, s and t for these parts (scaled so that p² + s² + t² = 1) the expected score is √d(p² + s²) within a sentence, √d·p²
    within a paragraph and 0 elsewhere. The sequence has levels.
    """

    title: ClassVar[str] = "Hierarchical topics"
    idea: ClassVar[str] = "A sentence has a topic, its paragraph another: near tokens are alike at two scales."

    kind: Literal["hierarchical"] = "hierarchical"
    words: int = dial(12, title="Tokens a sentence", symbol="w", ge=1, le=4096, scale="log2", help="In every sentence.")
    sentences: int = dial(5, title="Sentences a paragraph", symbol="s", ge=1, le=1024, scale="log2", help="In each.")
    paragraph: float = dial(1.0, title="Paragraph's part", ge=0, le=4, help="How much of a token is its paragraph.")
    sentence: float = dial(1.0, title="Sentence's part", ge=0, le=4, help="How much of a token is its sentence.")
    own: float = dial(1.0, title="Token's part", ge=0.1, le=4, help="How much of a token is its own.")

    def _head(self, draws: Draws, head: int, n: int) -> Head:
        sentence, paragraph = self._groups(n)
        size = 1 / math.sqrt(self.paragraph**2 + self.sentence**2 + self.own**2)

        def topics(name: str, width: int) -> Float[Tensor, "n width"]:
            wide = draws.tokens(f"{name} paragraph", head, int(paragraph[-1]) + 1, width)[paragraph]
            narrow = draws.tokens(f"{name} sentence", head, int(sentence[-1]) + 1, width)[sentence]
            return self.paragraph * wide + self.sentence * narrow

        topic = topics("topic", self.d)
        q, k = (size * (topic + self.own * draws.tokens(name, head, n, self.d)) for name in ("q", "k"))
        return q, k, size * (topics("value", self.e) + self.own * draws.tokens("v", head, n, self.e))

    def _groups(self, n: int) -> tuple[Int[Tensor, "n"], Int[Tensor, "n"]]:
        sentence = torch.arange(n) // self.words
        return sentence, sentence // self.sentences

    def _levels(self, n: int) -> Levels:
        sentence, paragraph = self._groups(n)
        return Levels(sentence=sentence, paragraph=paragraph)

    def _tokens(self, draws: Draws, n: int) -> tuple[str, ...]:
        whole = self.words * self.sentences
        return tuple(f"{i // whole + 1}.{i % whole // self.words + 1}.{i % self.words + 1}" for i in range(n))

    def _facts(self) -> str:
        return f"sentences of {self.words} tokens, paragraphs of {self.sentences} sentences"


class Repeated(Synthetic):
    """The second half repeats the first, and each query looks for the token after the previous occurrence of its own.

    Token types are random directions. A query has the direction of its own type, a key that of its predecessor's, both of length
    √(g√d). So the score is g where the key follows an occurrence of the query's type, and about N(0, g²/d) elsewhere. With a
    period of m = ⌈n/2⌉ tokens, query i ≥ m finds key i − m + 1; without a mask also key i + 1. A value belongs to
    the key's own type: that of the token that comes next. The period depends on n, and so does every token after the first
    period.
    """

    title: ClassVar[str] = "Repeated text"
    idea: ClassVar[str] = "The second half copies the first: each query wants the token that came after it last time."

    kind: Literal["repeated"] = "repeated"
    strength: float = dial(
        12.0, title="Strength g", symbol="g", ge=0, le=40, help="Score of the key after the previous occurrence."
    )

    def _head(self, draws: Draws, head: int, n: int) -> Head:
        words = self._words(n)
        period = math.ceil(n / 2)
        length = math.sqrt(self.strength * math.sqrt(self.d))
        rows = length * functional.normalize(draws.tokens("word", head, period, self.d), dim=-1)
        before = length * functional.normalize(draws.fixed("before", head, 1, self.d), dim=-1)
        k = torch.cat((before, rows[words[:-1]]))
        return rows[words], k, draws.tokens("value", head, period, self.e)[words]

    def _words(self, n: int) -> Int[Tensor, "n"]:
        return torch.arange(n) % math.ceil(n / 2)

    def _tokens(self, draws: Draws, n: int) -> tuple[str, ...]:
        return tuple(f"w{word}" for word in self._words(n).tolist())

    def _facts(self) -> str:
        return f"a period of {math.ceil(self.n / 2)} tokens, strength {self.strength:g}"
