"""The dials of hierarchical attention.

Source: Yang et al. 2016, HAN (doi:10.18653/v1/N16-1174); Zhu & Soricut 2021, H-Transformer-1D, arXiv:2107.11906. HAN
learns projections and context vectors; here untrained means of queries and keys replace them.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch

from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.hierarchical.dyadic import CoarseReader, DyadicReader, dyadic_levels
from longattn_core.mechanisms.hierarchical.map import HierarchicalMap, HierarchicalTrace
from longattn_core.mechanisms.hierarchical.nested import NestedReader, build_levels, fanned
from longattn_core.numerics.tiles.reading import TiledReader

NESTED = ("product", "mean", "gate")
"""Variants over tokens, sentences and paragraphs."""

BLOCKS = ("near_far", "h1d")
"""Variants over blocks that double with the distance."""

MOST = 65536
"""The largest fan-out and the largest near block."""


class Hierarchical(Mechanism):
    """Attention at several distances at once: token, sentence, paragraph, or blocks that grow with distance."""

    key: ClassVar[str] = "hierarchical"
    title: ClassVar[str] = "Hierarchical attention"
    idea: ClassVar[str] = "Read the near text token by token and the rest in larger and larger pieces."
    paper: ClassVar[str] = "Yang et al. 2016, HAN; Zhu & Soricut 2021, arXiv:2107.11906"
    complexity: ClassVar[str] = "n·(s + n/s)·d"
    family: ClassVar[Family] = "by place"
    order: ClassVar[int] = 40
    causal_note: ClassVar[str] = (
        "A group is read as a group only if it lies before the query's own; of the own group only the tokens up to the query "
        "count. Coarse queries (h1d) are means that include later tokens, so that variant refuses a causal mask."
    )

    variant: Literal["product", "mean", "gate", "near_far", "h1d"] = dial(
        "product",
        title="How levels are joined",
        help="How tokens, sentences and paragraphs come together in one output, or blocks that double with the distance.",
        options={
            "product": "coarse to fine: p(paragraph)·p(sentence)·p(token)",
            "mean": "the mean of the levels",
            "gate": "each level by how well its keys match",
            "near_far": "near fine, far coarse",
            "h1d": "near fine, far coarse, coarse queries",
        },
    )
    levels: int = dial(
        3,
        title="Levels",
        symbol="L",
        ge=1,
        le=3,
        when={"variant": NESTED},
        help="1: tokens only, which is exact attention; 2: tokens and sentences; 3: tokens, sentences and paragraphs.",
    )
    groups: Literal["text", "fanout"] = dial(
        "text",
        title="Groups",
        when={"variant": NESTED},
        help="The sentences and paragraphs of the text where they are known, or equal groups of f tokens and f² tokens.",
        options={"text": "sentences and paragraphs", "fanout": "equal groups"},
    )
    fanout: int = dial(
        8,
        title="Fan-out",
        symbol="f",
        ge=2,
        le=MOST,
        scale="log2",
        when={"variant": NESTED},
        help="How many members an equal group has: f tokens, then f groups. Also used where a text's sentences are not known.",
    )
    block: int = dial(
        16,
        title="Near block",
        symbol="w",
        ge=2,
        le=MOST,
        scale="log2",
        when={"variant": BLOCKS},
        help="Keys in the query's own block of w tokens and the blocks beside it are read one by one (odd: one more).",
    )
    counts: Literal["one", "tokens"] = dial(
        "tokens",
        title="A group counts as",
        when={"variant": NESTED},
        help="In the softmax a group counts as one key, or as all the tokens it stands for (ln of their number is added).",
        options={"one": "one key", "tokens": "its tokens"},
    )

    def refuses(self, sequence: Sequence) -> str | None:
        """Coarse queries are means that include tokens which a causal mask hides."""
        if self.variant == "h1d" and sequence.causal:
            return "A coarse query is a mean over neighbours, later ones among them, so it cannot be causal: use near_far."
        return None

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost per head: n·(s + n/s)·(d + e) in groups of s; near_far n·w·log2(n/w)·(d + e); h1d n·w·(d + e)."""
        reader, names = self._reader(sequence)
        read = reader.read(split=self.variant in NESTED)
        trace = HierarchicalTrace(names=names, levels=reader.groups, gates=read.mass, contributions=read.parts)
        return HierarchicalMap(mechanism=self, sequence=sequence, output=read.output, trace=trace, cost=read.cost, reading=reader)

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """The tokens and groups on the tiles' lists; h1d has other tiles at each level and must attend."""
        if self.variant == "h1d":
            return super().estimated_cost(sequence)
        return self._reader(sequence)[0].estimated_cost(split=self.variant in NESTED)

    def _reader(self, sequence: Sequence) -> tuple[TiledReader, tuple[str, ...]]:
        """The reader of this variant, and the names of its levels."""
        if self.variant in {"near_far", "h1d"}:
            block = self.block + self.block % 2
            levels = dyadic_levels(sequence, block)
            kind = CoarseReader if self.variant == "h1d" else DyadicReader
            names = ("token", *(f"block of {2 ** (i + 1)}" for i in range(len(levels))))
            return kind(sequence=sequence, groups=levels, block=block), names
        joined: Literal["product", "mean", "gate"] = self.variant  # type: ignore[assignment]
        membership, names = self.membership(sequence)
        groups = build_levels(sequence, membership, self.counts == "tokens")
        return NestedReader(sequence=sequence, groups=groups, joined=joined, by_size=self.counts == "tokens"), names

    def membership(self, sequence: Sequence) -> tuple[list[torch.Tensor], tuple[str, ...]]:
        """The group of each token `[n]` at each level above the tokens, and all levels' names."""
        if self.groups == "text" and sequence.levels is not None:
            known = [sequence.levels.sentence, sequence.levels.paragraph]
            return known[: self.levels - 1], ("token", "sentence", "paragraph")[: self.levels]
        equal = fanned(sequence.n, self.fanout, self.levels, sequence.q.device)
        return equal, ("token", *(f"group of {self.fanout**level}" for level in range(1, self.levels)))

    def exact_setting(self, n: int) -> Self | None:
        """One level; for blocks, a block that holds every token."""
        if self.variant in NESTED:
            return self.with_dials(levels=1)
        return self.with_dials(block=min(MOST, max(2, n)))

    def ladder(self, n: int) -> tuple[Self, ...]:
        """Equal groups on three levels, on two with growing groups, then one level; or growing blocks."""
        exact = self.exact_setting(n) or self
        if self.variant in BLOCKS:
            blocks = sorted({max(2, n // part // 2 * 2) for part in (64, 32, 16, 8, 4)})
            return (*(self.with_dials(block=min(MOST, block)) for block in blocks if 2 * block < n), exact)
        settings = [(3, round(n ** (1 / 3))), (2, math.isqrt(n)), (2, n // 4), (2, n // 2)]
        rungs = [
            self.with_dials(groups="fanout", levels=levels, fanout=min(MOST, fanout))
            for levels, fanout in dict.fromkeys(settings)
            if 2 <= fanout < n
        ]
        return (*rungs, exact)

    def with_budget(self, keys: int, n: int) -> Self:
        """Equal groups or blocks with about `keys` keys and groups a query, counted under a causal mask."""
        if keys >= n:
            return self.exact_setting(n) or self
        size = torch.arange(2, max(3, min(n, MOST) + 1), dtype=torch.float64)
        if self.variant in BLOCKS:
            doublings = ((n / size).log2().ceil() - 1).clamp_min(0)
            return self.with_dials(block=_largest(size, 2 * size + 0.75 * size * doublings, keys) // 2 * 2)
        levels = max(2, self.levels)
        groups = (n / size).ceil()
        read = size + groups if levels == 2 else size + torch.minimum(size, groups) + (n / size**2).ceil()
        return self.with_dials(groups="fanout", levels=levels, fanout=_largest(size, read, keys))

    @property
    def parameters(self) -> Origin:
        """HAN learns projections and context vectors for each level; untrained means replace them."""
        return "learned in the paper, untrained here" if self.variant in NESTED else "none"

    @property
    def label(self) -> str:
        """How the levels are joined."""
        names = {
            "product": "Hierarchy, coarse to fine",
            "mean": "Hierarchy, mean of levels",
            "gate": "Hierarchy, gated",
            "near_far": "Near fine, far coarse",
            "h1d": "H-Transformer-1D",
        }
        return names[self.variant]


def _largest(sizes: torch.Tensor, read: torch.Tensor, keys: int) -> int:
    """The largest size at which a query reads at most `keys`; if there is none, the size at which it reads fewest."""
    fits = (read <= keys).nonzero()
    return int(sizes[fits[-1, 0]] if len(fits) else sizes[read.argmin()])
