"""The dials of segmented attention.

Source: Qiu et al. 2019, arXiv:1911.02972, section 3, with the identity permutation; shifting every other layer's
windows by half their width is Liu et al. 2021 (Swin), arXiv:2103.14030, section 3.2, on a line.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, Self

import torch

from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.segmented.integration import (
    IntegratedReader,
    SegmentReader,
    SummaryReader,
    fixed_starts,
    sentence_starts,
)
from longattn_core.mechanisms.segmented.map import SegmentedMap, SegmentedTrace
from longattn_core.numerics.tiles.groups import mean_groups

WIDEST = 131072
"""The largest segment width and the largest overlap."""


class Segmented(Mechanism):
    """Attention inside consecutive segments of `width` tokens; the variant says what a token reads of other segments."""

    key: ClassVar[str] = "segmented"
    title: ClassVar[str] = "Segmented attention"
    idea: ClassVar[str] = "Cut the sequence into segments and attend inside each."
    paper: ClassVar[str] = "Qiu et al. 2019, arXiv:1911.02972"
    complexity: ClassVar[str] = "n·s·d"
    family: ClassVar[Family] = "by place"
    order: ClassVar[int] = 20
    causal_note: ClassVar[str] = (
        "Only segments before the query's own are read as summaries. Cuts at sentence ends depend on the length of the next "
        "sentence: there, a later token changes earlier outputs."
    )

    variant: Literal["none", "summaries", "second", "overlap", "shifted"] = dial(
        "none",
        title="Across segments",
        help="What a token learns of the other segments.",
        options={
            "none": "nothing",
            "summaries": "a mean of each",
            "second": "one integrated summary",
            "overlap": "an overlap",
            "shifted": "nothing, but the cuts are shifted",
        },
    )
    width: int = dial(
        64,
        title="Segment width",
        symbol="s",
        ge=1,
        le=WIDEST,
        scale="log2",
        help="How many tokens a segment holds; once all tokens stand in one segment, this is exact attention.",
    )
    boundaries: Literal["fixed", "sentences"] = dial(
        "fixed",
        title="Cuts",
        help="Cut after every s tokens, or only between sentences: as many whole ones to a segment as fit into s tokens.",
        options={"fixed": "every s tokens", "sentences": "at sentence ends"},
    )
    overlap: int = dial(
        16,
        title="Overlap",
        symbol="o",
        ge=0,
        le=WIDEST,
        when={"variant": ("overlap",)},
        help="How many tokens before its segment a token also reads; with no mask, behind it too.",
    )
    counts: Literal["one", "tokens"] = dial(
        "tokens",
        title="A summary counts as",
        when={"variant": ("summaries", "second")},
        help="In the softmax a summary counts as one key, or as all the tokens it stands for (ln of their number is added).",
        options={"one": "one key", "tokens": "its tokens"},
    )

    def refuses(self, sequence: Sequence) -> str | None:
        """Cuts at sentence ends need the sentences of the text."""
        if self.boundaries == "sentences" and sequence.levels is None:
            return "This sequence does not say where its sentences end, so it cannot be cut there: cut every s tokens."
        return None

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost per head: n·s·(d + e), n·(n/s)·(d + e) more for summaries, (n/s)²·(2d + e) for a second attention."""
        starts = self.starts(sequence, shifted=self.variant == "shifted")
        reader = self._reader(sequence, starts)
        end = starts.new_tensor([sequence.n])
        shifted = self.variant == "shifted"
        summaries = reader.groups[0] if reader.groups else None
        trace = SegmentedTrace(
            boundaries=torch.cat([starts, end]),
            unshifted=torch.cat([self.starts(sequence, shifted=False), end]) if shifted else None,
            segment=reader.segment,
            summary_queries=None if summaries is None else summaries.q,
            summary_keys=None if summaries is None else summaries.k,
            summary_values=None if summaries is None else summaries.v,
            integrated_values=reader.integrated[1] if isinstance(reader, IntegratedReader) else None,
        )
        read = reader.read()
        return SegmentedMap(
            mechanism=self,
            sequence=sequence,
            output=read.output,
            trace=trace,
            cost=read.cost,
            reading=reader,
            integrated=self.variant == "second",
        )

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """The keys and summaries on the segments' lists."""
        return self._reader(sequence, self.starts(sequence, shifted=self.variant == "shifted")).estimated_cost()

    def starts(self, sequence: Sequence, *, shifted: bool) -> torch.Tensor:
        """The first token of each segment; with the shift, the first segment holds only half a width."""
        first = max(1, self.width // 2) if shifted else self.width
        if self.boundaries == "sentences" and sequence.levels is not None:
            starts = sentence_starts(sequence.levels.sentence, self.width, first)
        else:
            starts = fixed_starts(sequence.n, self.width, first)
        return torch.tensor(starts, device=sequence.q.device)

    def _reader(self, sequence: Sequence, starts: torch.Tensor) -> SegmentReader:
        if self.variant not in {"summaries", "second"}:
            overlap = self.overlap if self.variant == "overlap" else 0
            return SegmentReader(sequence=sequence, groups=(), starts=starts, overlap=overlap)
        segment = torch.searchsorted(starts, torch.arange(sequence.n, device=starts.device), right=True) - 1
        kind = SummaryReader if self.variant == "summaries" else IntegratedReader
        groups = (mean_groups(sequence, segment),)
        return kind(sequence=sequence, groups=groups, starts=starts, by_size=self.counts == "tokens")

    def exact_setting(self, n: int) -> Self | None:
        """One segment that holds every token; with the shift, the first segment must hold them in half a width."""
        return self.with_dials(width=min(WIDEST, 2 * n if self.variant == "shifted" else n))

    def ladder(self, n: int) -> tuple[Self, ...]:
        """Widths up to the whole sequence: from n/16, or with summaries from √n, because smaller ones cost more."""
        least = math.isqrt(n) if self.variant == "summaries" else 1
        widths = sorted({max(1, least, n // part) for part in (16, 8, 4, 2)} - {n})
        return (*(self.with_dials(width=min(WIDEST, width)) for width in widths), self.exact_setting(n) or self)

    def with_budget(self, keys: int, n: int) -> Self:
        """Segments, overlaps and summaries with about `keys` keys a query, counted for the last token under a causal mask."""
        if keys >= n:
            return self.exact_setting(n) or self
        if self.variant == "overlap":
            overlap = min(self.overlap, keys // 2)
            return self.with_dials(overlap=overlap, width=keys - overlap)
        if self.variant == "summaries":
            # width + n/width = keys. Of its two solutions the larger width; if there is none, √n, where the sum is smallest.
            square = keys**2 - 4 * n
            return self.with_dials(width=math.isqrt(n) if square < 0 else round((keys + math.sqrt(square)) / 2))
        return self.with_dials(width=max(1, keys - 1) if self.variant == "second" else keys)

    @classmethod
    def showcase(cls) -> tuple[Self, ...]:
        """Segments alone, and with summaries of the others."""
        return (cls(), cls(variant="summaries"))

    @property
    def depends_on_future(self) -> str | None:
        """Whether a sentence fits into a segment depends on where it ends."""
        if self.boundaries == "sentences":
            return "Whether a sentence still fits into a segment depends on its whole length, so a cut knows of later tokens."
        return None

    @property
    def label(self) -> str:
        """The title, and what is read across the cuts."""
        names = {"summaries": "means", "second": "integrated mean", "overlap": "overlap", "shifted": "shifted"}
        return "Segments" if self.variant == "none" else f"Segments, {names[self.variant]}"
