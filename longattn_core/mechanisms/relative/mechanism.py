"""Relative positions: what the distance between two tokens adds to their score, in seven schemes.

Source: Shaw et al. 2018, arXiv:1803.02155; Huang et al. 2018, arXiv:1809.04281 (Music Transformer); Dai et al. 2019,
arXiv:1901.02860 (Transformer-XL); Raffel et al. 2019, arXiv:1910.10683 (T5); Press et al. 2021, arXiv:2108.12409 (ALiBi);
Su et al. 2021, arXiv:2104.09864 (RoPE); Vaswani et al. 2017, arXiv:1706.03762 (sinusoids). Deviations: what the papers
learn is drawn here, each number N(0, 1) as those of a unit Gaussian query are, and shared by all heads (T5 and
Transformer-XL have one a head); T5's scores keep their 1/√d; ALiBi's slopes follow the closed form for any number of
heads; the sinusoids are added to queries and keys, not to the embeddings below them.
"""

import math
from dataclasses import replace
from typing import ClassVar, Literal, Self, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS
from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, Refused, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.relative.distances import Scaling, alibi_slopes, scaled_frequencies, skew, t5_buckets
from longattn_core.mechanisms.relative.encoding import Encoding
from longattn_core.mechanisms.relative.fast import attend_fast
from longattn_core.mechanisms.relative.map import RelativeMap, RelativeReason, RelativeTrace
from longattn_core.numerics.draws import normal
from longattn_core.numerics.maps.listed import inverse_root
from longattn_core.numerics.rotary import rotate, sinusoids, unrotate

__all__ = ["Relative", "RelativeMap", "RelativeReason", "RelativeTrace", "skew", "t5_buckets"]

Scheme: TypeAlias = tuple[Encoding, RelativeTrace]

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
    """Exact attention with another score: position is in the score, and in nothing else.

    A sequence that comes rotated is turned back first, so every scheme starts from the same content. Distances are those of
    `sequence.positions`. `strength` multiplies whatever the scheme adds (RoPE: its angles), so that 0 is content alone.
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
        "Distances hold no content. Rotary frequencies scaled past the trained length depend on how long the text is."
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
        """Cost: n²·(d + e) per head, n²·d more for the skew, O(n·d) for every table; above the output about 64 MB, and
        queries and keys once more where the scheme moves or turns them.
        """
        encoding, trace = self._scheme(sequence)
        fast = attend_fast(encoding)
        output, offset = encoding.attend() if fast is None else (fast, None)
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
        """Every pair, and what the scheme adds; tables are made, which costs n·d, and no pair is weighed."""
        return _cost(self._scheme(sequence)[0])

    def trace(self, sequence: Sequence) -> RelativeTrace:
        """What the scheme adds at each distance, without attending. Cost n·d. Raises: Refused, as `attend` does."""
        if (sentence := self.refuses(sequence)) is not None:
            raise Refused(sentence)
        return self._scheme(sequence)[1]

    def _scheme(self, sequence: Sequence) -> Scheme:
        schemes = {
            "shaw": self._shaw,
            "music": self._music,
            "xl": self._xl,
            "t5": self._t5,
            "alibi": self._alibi,
            "rope": self._rope,
            "sinusoidal": self._sinusoidal,
        }
        return schemes[self.variant](self._content(sequence))

    def _content(self, sequence: Sequence) -> Encoding:
        q, k = sequence.q, sequence.k
        if sequence.rotary is not None:
            q, k = (unrotate(x, sequence.token_positions, sequence.rotary) for x in (q, k))
        return Encoding(sequence=sequence, content_q=q, content_k=k, q=q, k=k)

    def _shaw(self, plain: Encoding) -> Scheme:
        q, v = plain.q, plain.sequence.v
        count = 2 * self.clip + 1
        table = normal(self.seed, "shaw keys", count, q.shape[-1], like=q)
        values = normal(self.seed, "shaw values", count, v.shape[-1], like=v)
        encoding = replace(plain, asked=q * self.strength, table=table, values=values * self.strength, reach=self.clip)
        return encoding, RelativeTrace(bias=_mean_bias(encoding), embeddings=table, values=values)

    def _music(self, plain: Encoding) -> Scheme:
        table = normal(self.seed, "music", 2 * self.longest + 1, plain.q.shape[-1], like=plain.q)
        encoding = replace(plain, asked=plain.q * self.strength, table=table, reach=self.longest, skewed=True)
        return encoding, RelativeTrace(bias=_mean_bias(encoding), embeddings=table)

    def _xl(self, plain: Encoding) -> Scheme:
        q, n, d = plain.q, plain.sequence.n, plain.q.shape[-1]
        waves = sinusoids(torch.arange(1 - n, n, device=q.device), d).to(q.dtype)
        projection = normal(self.seed, "xl projection", d, d, like=q) / math.sqrt(d)
        u, v = (normal(self.seed, f"xl {name}", d, like=q) for name in ("u", "v"))
        encoding = replace(
            plain,
            asked=(q + v) * self.strength,
            table=waves @ projection,
            reach=n - 1,
            skewed=True,
            key_bias=plain.k @ u * (self.strength * inverse_root(d)),
        )
        trace = RelativeTrace(bias=_mean_bias(encoding), embeddings=encoding.table, projection=projection, u=u, v=v)
        return encoding, trace

    def _t5(self, plain: Encoding) -> Scheme:
        q, sequence = plain.q, plain.sequence
        buckets = self.buckets - self.buckets % 2
        scalars = normal(self.seed, "t5", buckets, like=q)
        lags = torch.arange(-self.reach, self.reach + 1, device=q.device)
        curve = scalars[t5_buckets(lags, sequence.causal, buckets, self.reach)] * self.strength
        encoding = replace(plain, curve=curve, reach=self.reach)
        staircase = t5_buckets(_lags(sequence), sequence.causal, buckets, self.reach)
        bias = (scalars[staircase] * self.strength).expand(sequence.h, -1)
        return encoding, RelativeTrace(bias=bias, scalars=scalars, buckets=staircase)

    def _alibi(self, plain: Encoding) -> Scheme:
        sequence = plain.sequence
        slopes = alibi_slopes(sequence.head_numbers, sequence.head_count).to(plain.q)
        encoding = replace(plain, slopes=slopes * self.strength)
        bias = -self.strength * slopes[:, None] * _lags(sequence).abs()
        return encoding, RelativeTrace(bias=bias, slopes=slopes)

    def _rope(self, plain: Encoding) -> Scheme:
        sequence, positions = plain.sequence, plain.sequence.token_positions
        length = int(positions.max() - positions.min()) + 1
        frequencies, side = scaled_frequencies(sequence.d, self.base, self.scaling, self.trained, length)
        frequencies = frequencies.to(plain.q.device) * self.strength
        temperature = (1 + self.strength * (side - 1)) ** 2
        q, k = (rotate(x, positions, frequencies) for x in (plain.q * temperature, plain.k))
        mean_q, mean_k = (_mean(x, sequence)[:, None] for x in (plain.q, plain.k))
        turned = rotate(mean_q.expand(-1, 2 * sequence.n - 1, -1) * temperature, _lags(sequence), frequencies)
        bias = ((turned - mean_q) * mean_k).sum(-1) * inverse_root(sequence.d)
        trace = RelativeTrace(bias=bias, frequencies=frequencies.to(q.dtype), temperature=temperature)
        return replace(plain, q=q, k=k), trace

    def _sinusoidal(self, plain: Encoding) -> Scheme:
        sequence, d = plain.sequence, plain.sequence.d
        waves = sinusoids(sequence.token_positions, d).to(plain.q) * self.strength
        lags = _lags(sequence)
        here = sinusoids(torch.zeros_like(lags), d) * sinusoids(lags, d)
        bias = here.sum(-1) * self.strength**2 * inverse_root(d)
        return replace(plain, q=plain.q + waves, k=plain.k + waves), RelativeTrace(bias=bias.to(plain.q).expand(sequence.h, -1))

    def exact_setting(self, n: int) -> Self:
        """No strength: attention by content alone, which is exact attention of a sequence that has not been rotated.

        A rotated sequence is turned back first, so there the limit is exact attention of what it was before.
        """
        return self.with_dials(strength=0.0)

    def ladder(self, n: int) -> tuple[Self, ...]:
        """The strength comes down to 0; another score is wanted here, so this measures how far it goes."""
        strengths = (self.strength / share for share in (1, 10, 100, 1000))
        return tuple(self.with_dials(strength=x) for x in (*dict.fromkeys((*strengths, 0.0)),))

    def with_budget(self, keys: int, n: int) -> Self:
        """Every key is looked at, whatever the budget."""
        return self

    @property
    def label(self) -> str:
        """The scheme, and how rotary angles are scaled."""
        scaled = {"interpolation": ", interpolated", "ntk": ", NTK", "yarn": ", YaRN", "none": ""}
        return _NAMES[self.variant] + (scaled[self.scaling] if self.variant == "rope" else "")

    @property
    def parameters(self) -> Origin:
        """Vectors and numbers are learned in their papers; slopes, angles and sinusoids are given."""
        return "learned in the paper, untrained here" if self.variant in ("shaw", "music", "xl", "t5") else "none"


def _lags(sequence: Sequence) -> Tensor:
    return torch.arange(1 - sequence.n, sequence.n, device=sequence.q.device)


def _mean(x: Float[Tensor, "h n d"], sequence: Sequence) -> Float[Tensor, "h d"]:
    return x[:, sequence.real].mean(1)


def _mean_bias(encoding: Encoding) -> Float[Tensor, "h m"]:
    """What each distance adds to the score of the mean query."""
    assert encoding.asked is not None
    assert encoding.table is not None
    rows = _lags(encoding.sequence).clamp(-encoding.reach, encoding.reach) + encoding.reach
    mean = _mean(encoding.asked, encoding.sequence)
    return mean @ encoding.table[rows].mT * inverse_root(encoding.sequence.d)


def _cost(encoding: Encoding) -> Cost:
    """Exact attention's pairs, and what the scheme adds to each; turning and tables are counted at n·d a head."""
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
