"""The seven schemes: what each makes of a sequence's queries and keys, and its table, curve or slopes by distance.

Source: Shaw et al. 2018, arXiv:1803.02155; Huang et al. 2018, arXiv:1809.04281 (Music Transformer); Dai et al. 2019,
arXiv:1901.02860 (Transformer-XL); Raffel et al. 2019, arXiv:1910.10683 (T5); Press et al. 2021, arXiv:2108.12409 (ALiBi);
Su et al. 2021, arXiv:2104.09864 (RoPE); Vaswani et al. 2017, arXiv:1706.03762 (sinusoids). Where we deviate is said in
`mechanism`. Every function takes the encoding by content alone and costs n·d a head.
"""

import math
from dataclasses import replace
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.relative.distances import Scaling, alibi_slopes, scaled_frequencies, t5_buckets
from longattn_core.mechanisms.relative.encoding import Encoding
from longattn_core.mechanisms.relative.map import RelativeTrace
from longattn_core.numerics.draws import normal
from longattn_core.numerics.maps.listed import inverse_root
from longattn_core.numerics.rotary import rotate, sinusoids, unrotate

Scheme: TypeAlias = tuple[Encoding, RelativeTrace]


def content_alone(sequence: Sequence) -> Encoding:
    """The sequence without positions: its rotation, if it has one, is taken back."""
    q, k = sequence.q, sequence.k
    if sequence.rotary is not None:
        q, k = (unrotate(x, sequence.token_positions, sequence.rotary) for x in (q, k))
    return Encoding(sequence=sequence, content_q=q, content_k=k, q=q, k=k)


def shaw(content: Encoding, *, clip: int, strength: float, seed: int) -> Scheme:
    """A vector for each distance up to `clip` on the keys, and one on the values."""
    q, v = content.q, content.sequence.v
    count = 2 * clip + 1
    table = normal(seed, "shaw keys", count, q.shape[-1], like=q)
    values = normal(seed, "shaw values", count, v.shape[-1], like=v)
    encoding = replace(content, table_q=q * strength, table=table, values=values * strength, reach=clip)
    return encoding, RelativeTrace(bias=_mean_bias(encoding), embeddings=table, values=values)


def music(content: Encoding, *, longest: int, strength: float, seed: int) -> Scheme:
    """A vector for each distance up to `longest`, by the skew."""
    table = normal(seed, "music", 2 * longest + 1, content.q.shape[-1], like=content.q)
    encoding = replace(content, table_q=content.q * strength, table=table, reach=longest, skewed=True)
    return encoding, RelativeTrace(bias=_mean_bias(encoding), embeddings=table)


def transformer_xl(content: Encoding, *, strength: float, seed: int) -> Scheme:
    """Projected sinusoids of the distance, and two biases: u on the content, v on the distance."""
    q, n, d = content.q, content.sequence.n, content.q.shape[-1]
    waves = sinusoids(torch.arange(1 - n, n, device=q.device), d).to(q.dtype)
    projection = normal(seed, "xl projection", d, d, like=q) / math.sqrt(d)
    u, v = (normal(seed, f"xl {name}", d, like=q) for name in ("u", "v"))
    encoding = replace(
        content,
        table_q=(q + v) * strength,
        table=waves @ projection,
        reach=n - 1,
        skewed=True,
        key_bias=content.k @ u * (strength * inverse_root(d)),
    )
    trace = RelativeTrace(bias=_mean_bias(encoding), embeddings=encoding.table, projection=projection, u=u, v=v)
    return encoding, trace


def t5(content: Encoding, *, buckets: int, reach: int, strength: float, seed: int) -> Scheme:
    """A number for each bucket of distances; an odd number of buckets loses one."""
    q, sequence = content.q, content.sequence
    buckets -= buckets % 2
    scalars = normal(seed, "t5", buckets, like=q)
    lags = torch.arange(-reach, reach + 1, device=q.device)
    curve = scalars[t5_buckets(lags, sequence.causal, buckets, reach)] * strength
    encoding = replace(content, curve=curve, reach=reach)
    bucket = t5_buckets(_lags(sequence), sequence.causal, buckets, reach)
    bias = (scalars[bucket] * strength).expand(sequence.h, -1)
    return encoding, RelativeTrace(bias=bias, scalars=scalars, buckets=bucket)


def alibi(content: Encoding, *, strength: float) -> Scheme:
    """A slope for each head, times the distance."""
    sequence = content.sequence
    slopes = alibi_slopes(sequence.head_numbers, sequence.head_count).to(content.q)
    encoding = replace(content, slopes=slopes * strength)
    bias = -strength * slopes[:, None] * _lags(sequence).abs()
    return encoding, RelativeTrace(bias=bias, slopes=slopes)


def rope(content: Encoding, *, base: float, scaling: Scaling, trained: int, strength: float) -> Scheme:
    """Queries and keys rotated by their positions; frequencies scaled where the text is longer than `trained`."""
    sequence, positions = content.sequence, content.sequence.token_positions
    length = int(positions.max() - positions.min()) + 1
    frequencies, factor = scaled_frequencies(sequence.d, base, scaling, trained, length)
    frequencies = frequencies.to(content.q.device) * strength
    temperature = (1 + strength * (factor - 1)) ** 2
    q, k = (rotate(x, positions, frequencies) for x in (content.q * temperature, content.k))
    mean_q, mean_k = (_mean(x, sequence)[:, None] for x in (content.q, content.k))
    rotated = rotate(mean_q.expand(-1, 2 * sequence.n - 1, -1) * temperature, _lags(sequence), frequencies)
    bias = ((rotated - mean_q) * mean_k).sum(-1) * inverse_root(sequence.d)
    trace = RelativeTrace(bias=bias, frequencies=frequencies.to(q.dtype), temperature=temperature)
    return replace(content, q=q, k=k), trace


def sinusoidal(content: Encoding, *, strength: float) -> Scheme:
    """Sinusoids of the position added to queries and keys: absolute, for contrast."""
    sequence, d = content.sequence, content.sequence.d
    waves = sinusoids(sequence.token_positions, d).to(content.q) * strength
    lags = _lags(sequence)
    products = sinusoids(torch.zeros_like(lags), d) * sinusoids(lags, d)
    bias = (products.sum(-1) * strength**2 * inverse_root(d)).to(content.q).expand(sequence.h, -1)
    return replace(content, q=content.q + waves, k=content.k + waves), RelativeTrace(bias=bias)


def _lags(sequence: Sequence) -> Tensor:
    """All distances, from the first query and the last key to the last query and the first key."""
    return torch.arange(1 - sequence.n, sequence.n, device=sequence.q.device)


def _mean(x: Float[Tensor, "h n d"], sequence: Sequence) -> Float[Tensor, "h d"]:
    return x[:, sequence.real].mean(1)


def _mean_bias(encoding: Encoding) -> Float[Tensor, "h m"]:
    """What each distance adds to the score of the mean query."""
    assert encoding.table_q is not None
    assert encoding.table is not None
    rows = _lags(encoding.sequence).clamp(-encoding.reach, encoding.reach) + encoding.reach
    mean = _mean(encoding.table_q, encoding.sequence)
    return mean @ encoding.table[rows].mT * inverse_root(encoding.sequence.d)
