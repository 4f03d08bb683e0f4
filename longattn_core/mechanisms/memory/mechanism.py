"""Recurrent memory: read the text piece by piece, and carry on what a memory of bounded size can hold.

Source: Dai et al. 2019, arXiv:1901.02860 (cache); Rae et al. 2019, arXiv:1911.05507 (compressed); Bulatov et al. 2022,
arXiv:2207.06881 (slots); Katharopoulos et al. 2020, arXiv:2006.16236 (running state); Sun et al. 2023,
arXiv:2307.08621 (decay); Yang et al. 2023, arXiv:2312.06635 (gates); Yang et al. 2024, arXiv:2406.06484 (delta rule).
The file of each variant says where we deviate. Segments and caches count positions, padding included; padding does not
change slots or states.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory.cache import attend_cache, cache_cost
from longattn_core.mechanisms.memory.compressed import attend_compressed
from longattn_core.mechanisms.memory.delta import attend_delta
from longattn_core.mechanisms.memory.fading import attend_fading
from longattn_core.mechanisms.memory.segments import Layout
from longattn_core.mechanisms.memory.slots import attend_slots

LONGEST = 1 << 17
"""The largest segment, cache and number of summaries, in tokens."""

SHORTEST_FADE, LONGEST_FADE = 1.0, float(1 << 20)
"""The range of half-lives, in tokens."""

NAMES = {
    "cache": "cache",
    "compressed": "compressed",
    "slots": "slots",
    "state": "running state",
    "decay": "fading state",
    "gated": "gated state",
    "delta": "delta rule",
}


class Memory(Mechanism):
    """Attention to what a memory keeps of all earlier tokens: tokens, summaries, slots, or one running state."""

    key: ClassVar[str] = "memory"
    title: ClassVar[str] = "Recurrent memory"
    idea: ClassVar[str] = "Read segment by segment and carry a memory of bounded size along."
    paper: ClassVar[str] = "Dai et al. 2019, arXiv:1901.02860"
    complexity: ClassVar[str] = "n·(s + M)·d"
    family: ClassVar[Family] = "by place"
    order: ClassVar[int] = 30
    causal_note: ClassVar[str] = (
        "A segment sees the memory of earlier segments and, under a causal mask, its own tokens up to the query; a state is read "
        "after the query's own token is written. Without a mask, running states that fade or correct themselves are refused."
    )

    variant: Literal["cache", "compressed", "slots", "state", "decay", "gated", "delta"] = dial(
        "cache",
        title="Memory",
        help="What is carried from one piece of the text to the next.",
        options={
            "cache": "cache of the last tokens",
            "compressed": "cache, then summaries",
            "slots": "a few slots, rewritten",
            "state": "running state",
            "decay": "running state that fades",
            "gated": "running state with gates",
            "delta": "running state that corrects itself",
        },
    )
    segment: int = dial(
        64,
        title="Segment length L",
        symbol="L",
        ge=1,
        le=LONGEST,
        scale="log2",
        when={"variant": ("cache", "compressed", "slots")},
        help="The text is read in segments of this many tokens; inside a segment nothing is lost.",
    )
    memory: int = dial(
        64,
        title="Cache M",
        symbol="M",
        ge=1,
        le=LONGEST,
        scale="log2",
        when={"variant": ("cache", "compressed")},
        help="How many tokens before the segment are kept as they are.",
    )
    compressed: int = dial(
        32,
        title="Summaries",
        symbol="C",
        ge=1,
        le=LONGEST,
        scale="log2",
        when={"variant": ("compressed",)},
        help="How many summaries are kept; the oldest are pushed out.",
    )
    rate: int = dial(
        4,
        title="Compression c",
        symbol="c",
        ge=1,
        le=1024,
        scale="log2",
        when={"variant": ("compressed",)},
        help="How many tokens that leave the cache are averaged into one summary.",
    )
    slots: int = dial(
        16,
        title="Slots",
        symbol="s",
        ge=1,
        le=256,
        scale="log2",
        when={"variant": ("slots",)},
        help="How many slots are written after each segment and read by the next.",
    )
    decays: Literal["one", "by head"] = dial(
        "one",
        title="Fading of the heads",
        help="One half-life for all heads, or one decay for each head.",
        options={"one": "the half-life below", "by head": "1 − 2^(−5−h), as in the paper"},
        when={"variant": ("decay",)},
    )
    half_life: float = dial(
        128.0,
        title="Half-life",
        symbol="t½",
        ge=SHORTEST_FADE,
        le=LONGEST_FADE,
        scale="log2",
        when={"variant": ("decay", "gated")},
        help="After so many tokens half of what was written is left; for gates, where the drawn part is zero.",
    )
    beta: float = dial(
        0.5,
        title="Strength β",
        symbol="β",
        ge=0.01,
        le=1,
        scale="linear",
        when={"variant": ("delta",)},
        help="How much of what the state holds under a key is replaced when that key comes again.",
    )

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost for each token and head: (L + M)·(d + e) with a cache, about d·e with a state; see each variant's file."""
        match self.variant:
            case "cache":
                return attend_cache(self, sequence, segment=self.segment, memory=self.memory)
            case "compressed":
                return attend_compressed(
                    self, sequence, segment=self.segment, memory=self.memory, rate=self.rate, kept=self.compressed
                )
            case "slots":
                return attend_slots(self, sequence, segment=self.segment, slots=self.slots)
            case "delta":
                return attend_delta(self, sequence, beta=self.beta)
            case fading:
                by_head = self.decays == "by head"
                return attend_fading(self, sequence, fading=fading, half_life=self.half_life, by_head=by_head)

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """A cache's pairs; the other memories have no formula and attend."""
        if self.variant != "cache":
            return super().estimated_cost(sequence)
        return cache_cost(sequence, Layout.of(sequence.n, self.segment, self.memory))

    def refuses(self, sequence: Sequence) -> str | None:
        """A state that fades or corrects itself depends on the order, so it needs a causal mask."""
        if not sequence.causal and self.variant in ("decay", "gated", "delta"):
            return (
                f"The {NAMES[self.variant]} reads from left to right and depends on the order, "
                "so it needs a causal mask; this sequence has none."
            )
        return None

    def exact_setting(self, n: int) -> Self | None:
        """One segment for the whole text (under a causal mask, a cache of n tokens would be exact too)."""
        if self.variant not in ("cache", "compressed") or n > LONGEST:
            return None
        return self.with_dials(segment=n)

    @property
    def no_exact_setting(self) -> str | None:
        """Why slots and states have no exact setting."""
        if self.variant in ("cache", "compressed"):
            return None
        if self.variant == "slots":
            return (
                "A slot is a blend of tokens, so no number of slots gives each token its own weight; "
                "one segment for the whole text would be exact, but then nothing is remembered."
            )
        return (
            "The state has a fixed size and answers by φ(q)·φ(k) or q·k, not by the exponential of the score, whatever the dial."
        )

    def ladder(self, n: int) -> tuple[Self, ...]:
        """Longer segments and caches; for a state that fades, longer half-lives; else this setting alone."""
        if self.variant in ("cache", "compressed", "slots"):
            widths = [min(max(1, n // part), LONGEST) for part in (16, 8, 4, 2)]
            rungs = [self.with_dials(segment=width, memory=width) for width in widths]
            return tuple(dict.fromkeys((*rungs, self.exact_setting(n) or rungs[-1])))
        if self.variant == "gated" or (self.variant == "decay" and self.decays == "one"):
            lives = [min(max(SHORTEST_FADE, n / part), LONGEST_FADE) for part in (16, 8, 4, 2, 1)]
            return tuple(dict.fromkeys(self.with_dials(half_life=life) for life in lives))
        return (self,)

    def with_budget(self, keys: int, n: int) -> Self:
        """Half of the keys for the segment, the rest for the memory before it; the size of a state does not change."""
        half = max(1, keys // 2)
        whole = keys >= n
        match self.variant:
            case "cache":
                return self.with_dials(segment=min(n if whole else half, LONGEST), memory=max(1, keys - half))
            case "compressed":
                rest = max(1, (keys - half) // 2)
                return self.with_dials(segment=min(n if whole else half, LONGEST), memory=rest, compressed=rest)
            case "slots":
                slots = min(256, max(1, keys // 4))
                return self.with_dials(segment=min(n if whole else max(1, keys - slots), LONGEST), slots=slots)
            case _:
                return self

    @property
    def label(self) -> str:
        """What the memory consists of."""
        return f"Memory: {NAMES[self.variant]}"

    @property
    def parameters(self) -> Origin:
        """The papers learn slot queries and gates, which are drawn here."""
        return "learned in the paper, untrained here" if self.variant in ("slots", "gated") else "none"

    @property
    def not_stochastic(self) -> str | None:
        """Only the rows of the delta rule may be negative."""
        if self.variant == "delta":
            return "The delta rule takes back what its state held, so weights can be negative and do not sum to 1."
        return None
