"""Relative positions: what the distance between two tokens adds to their score, in seven schemes.

Source: Shaw et al. 2018, arXiv:1803.02155; Huang et al. 2018, arXiv:1809.04281 (Music Transformer); Dai et al. 2019,
arXiv:1901.02860 (Transformer-XL); Raffel et al. 2019, arXiv:1910.10683 (T5); Press et al. 2021, arXiv:2108.12409 (ALiBi);
Su et al. 2021, arXiv:2104.09864 (RoPE); Vaswani et al. 2017, arXiv:1706.03762 (sinusoids). Deviations: what the papers
learn is drawn here, each number N(0, 1) as those of a unit Gaussian query are, and shared by all heads (T5 and
Transformer-XL have one a head); T5's scores keep their 1/√d; ALiBi's slopes follow the closed form for any number of
heads; the sinusoids are added to queries and keys, not to the embeddings below them.
"""

from typing import ClassVar, Literal, Self

from longattn_core.contracts.indexing import STREAM_CELLS
from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, Refused, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.relative.distances import Scaling
from longattn_core.mechanisms.relative.encoding import Encoding
from longattn_core.mechanisms.relative.fast import attend_fast
from longattn_core.mechanisms.relative.map import RelativeMap, RelativeTrace
from longattn_core.mechanisms.relative.plain import attend_plainly
from longattn_core.mechanisms.relative.schemes import (
    Scheme,
    alibi,
    content_alone,
    music,
    rope,
    shaw,
    sinusoidal,
    t5,
    transformer_xl,
)

_NAMES = {
    "shaw": "Shaw's vectors",
    "music": "Music Transformer",
    "xl": "Transformer-XL",
    "t5": "T5's buckets",
    "alibi": "ALiBi",
    "rope": "RoPE",
    "sinusoidal": "Sinusoids",
}


class Relative(Mechanism):
    """Exact attention with another score; Shaw's scheme adds to the values too.

    The rotation of a sequence is taken back first, so every scheme starts from the same content. Distances are those of
    `sequence.positions`. `strength` multiplies what the scheme adds (RoPE: its angles); at 0 only the content counts.
    """

    key: ClassVar[str] = "relative"
    title: ClassVar[str] = "Relative positions"
    idea: ClassVar[str] = "Let the score know how far apart two tokens are."
    paper: ClassVar[str] = "Shaw, Uszkoreit and Vaswani 2018, arXiv:1803.02155"
    complexity: ClassVar[str] = "n²·d"
    family: ClassVar[Family] = "changes the score"
    order: ClassVar[int] = 100
    quadratic: ClassVar[bool] = True
    approximates: ClassVar[bool] = False
    causal_note: ClassVar[str] = (
        "A distance says nothing of a token's content. Rotary frequencies that are scaled beyond the trained length depend on "
        "the length of the whole text: a longer text changes earlier rows."
    )

    variant: Literal["shaw", "music", "xl", "t5", "alibi", "rope", "sinusoidal"] = dial(
        "alibi",
        title="Scheme",
        help="How the distance enters the score.",
        options={
            "shaw": "Shaw: a vector per clipped distance, for keys and values",
            "music": "Music Transformer: a vector per distance, by the skew",
            "xl": "Transformer-XL: sinusoids of the distance and two biases",
            "t5": "T5: a number per bucket of distances",
            "alibi": "ALiBi: a straight line, one slope a head",
            "rope": "RoPE: turn queries and keys",
            "sinusoidal": "sinusoids (absolute, for contrast)",
        },
    )
    strength: float = dial(
        1.0,
        title="Strength",
        symbol="λ",
        ge=0,
        le=8,
        help="Multiplies all that the scheme adds (RoPE: its angles); 0 is attention by content alone.",
    )
    clip: int = dial(
        16,
        title="Clipping distance k",
        symbol="k",
        ge=1,
        le=1024,
        scale="log2",
        when={"variant": ("shaw",)},
        help="All distances beyond k share one vector.",
    )
    longest: int = dial(
        2048,
        title="Longest distance L",
        symbol="L",
        ge=1,
        le=65536,
        scale="log2",
        when={"variant": ("music",)},
        help="Every distance up to L has a vector of its own; those beyond share the last.",
    )
    buckets: int = dial(
        32,
        title="Buckets",
        symbol="B",
        ge=4,
        le=256,
        scale="log2",
        when={"variant": ("t5",)},
        help="How many numbers there are for all distances.",
    )
    reach: int = dial(
        128,
        title="Last bucket from",
        symbol="D",
        ge=8,
        le=8192,
        scale="log2",
        when={"variant": ("t5",)},
        help="Buckets grow with the logarithm of the distance up to here; one holds all beyond.",
    )
    base: float = dial(
        10000.0,
        title="Rotary base",
        symbol="θ",
        ge=10,
        le=10_000_000,
        scale="log10",
        when={"variant": ("rope",)},
        help="The slowest pair of channels turns about once in 2π times this many tokens.",
    )
    scaling: Scaling = dial(
        "none",
        title="Past the trained length",
        when={"variant": ("rope",)},
        help="What is done with angles that training has not seen.",
        options={"none": "nothing", "interpolation": "interpolate positions", "ntk": "raise the base (NTK)", "yarn": "YaRN"},
    )
    trained: int = dial(
        2048,
        title="Trained length",
        symbol="T",
        ge=16,
        le=131072,
        scale="log2",
        when={"variant": ("rope",)},
        help="The length that a model was trained on; scaling starts beyond it.",
    )

    def refuses(self, sequence: Sequence) -> str | None:
        """Rotation needs an even width, the skew consecutive positions."""
        if sequence.d % 2 and (self.variant == "rope" or sequence.rotary is not None):
            return f"Rotary positions turn pairs of channels, so the width must be even; it is {sequence.d}."
        if self.variant in ("music", "xl") and bool((sequence.token_positions.diff() != 1).any()):
            return f"{_NAMES[self.variant]} finds distances by the skew, which needs consecutive positions; these have gaps."
        return None

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost: n²·(d + e) per head, n²·d more for the skew, O(n·d) for every table.

        Memory above the output: about 64 MB, and queries and keys once more where the scheme shifts or rotates them.
        """
        encoding, trace = self._scheme(sequence)
        fast = attend_fast(encoding)
        output, offset = attend_plainly(encoding) if fast is None else (fast, None)
        return RelativeMap(
            mechanism=self,
            sequence=sequence,
            output=output,
            offset=offset,
            trace=trace,
            encoding=encoding,
            scheme=_NAMES[self.variant],
            cost=_cost(encoding),
        )

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """Every pair, and what the scheme adds; only the tables are computed, which costs n·d."""
        return _cost(self._scheme(sequence)[0])

    def trace(self, sequence: Sequence) -> RelativeTrace:
        """What the scheme adds at each distance, computed without attending. Cost n·d. Raises: Refused, as `attend` does."""
        if (sentence := self.refuses(sequence)) is not None:
            raise Refused(sentence)
        return self._scheme(sequence)[1]

    def _scheme(self, sequence: Sequence) -> Scheme:
        content, strength, seed = content_alone(sequence), self.strength, self.seed
        match self.variant:
            case "shaw":
                return shaw(content, clip=self.clip, strength=strength, seed=seed)
            case "music":
                return music(content, longest=self.longest, strength=strength, seed=seed)
            case "xl":
                return transformer_xl(content, strength=strength, seed=seed)
            case "t5":
                return t5(content, buckets=self.buckets, reach=self.reach, strength=strength, seed=seed)
            case "alibi":
                return alibi(content, strength=strength)
            case "rope":
                return rope(content, base=self.base, scaling=self.scaling, trained=self.trained, strength=strength)
            case "sinusoidal":
                return sinusoidal(content, strength=strength)

    def exact_setting(self, n: int) -> Self:
        """Strength 0: attention by content alone, which is exact attention of a sequence without rotation.

        For a rotated sequence this is exact attention of the sequence before its rotation.
        """
        return self.with_dials(strength=0.0)

    def ladder(self, n: int) -> tuple[Self, ...]:
        """The strength falls to 0; the other score is intended, so the rungs show how much the scheme changes."""
        strengths = (self.strength / share for share in (1, 10, 100, 1000))
        return tuple(self.with_dials(strength=x) for x in (*dict.fromkeys((*strengths, 0.0)),))

    def with_budget(self, keys: int, n: int) -> Self:
        """Unchanged: every key is read, whatever the budget."""
        return self

    @property
    def label(self) -> str:
        """The scheme, and how rotary angles are scaled."""
        scaled = {"interpolation": ", interpolated", "ntk": ", NTK", "yarn": ", YaRN", "none": ""}
        return _NAMES[self.variant] + (scaled[self.scaling] if self.variant == "rope" else "")

    @property
    def parameters(self) -> Origin:
        """Four schemes learn their vectors or numbers in the papers; the slopes, angles and sinusoids of the others are fixed."""
        return "learned in the paper, untrained here" if self.variant in ("shaw", "music", "xl", "t5") else "none"

    @property
    def depends_on_future(self) -> str | None:
        """Scaled rotary frequencies depend on the length of the whole text."""
        if self.variant == "rope" and self.scaling != "none":
            return (
                "The rotary frequencies are scaled by the length of the whole text: beyond the trained length, each new token "
                "changes the angles, and with them all rows, the earlier ones too."
            )
        return None


def _cost(encoding: Encoding) -> Cost:
    """Exact attention's pairs, and what the scheme adds to each; rotations and tables count as n·d a head."""
    sequence = encoding.sequence
    h, n, d, e = sequence.h, sequence.n, sequence.d, sequence.e
    size = sequence.q.element_size()
    pairs = h * (n * (n + 1) // 2 if sequence.causal else n * n)
    added = 0
    if encoding.table is not None:
        added = pairs * d if encoding.skewed else h * n * len(encoding.table) * d
    if encoding.values is not None:
        added += pairs + h * n * len(encoding.values) * e
    tables = 0 if encoding.table is None else encoding.table.numel()
    return Cost(
        multiply_adds=pairs * (d + e + 1) + added + 2 * h * n * d,
        bytes_moved=size * (2 * h * n * (d + e) + 4 * pairs + tables),
        bytes_peak=size * (2 * h * n * d + tables + 4 * min(h * n * n, STREAM_CELLS)),
    )
