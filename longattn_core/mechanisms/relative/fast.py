"""The output of a scheme of positions by torch's kernel, which holds no scores: what a distance adds is passed as the mask.

Source: as in `encoding`; `plain` is the reference. Where the addition depends on the distance alone, no matrix of it is
needed. With the queries in reverse order, the number for query i and key j stands at index i + j of one curve, and a strided
view (1, 1) of that curve is the matrix. The skew (Huang et al. 2018, arXiv:1809.04281, section 3.4.1) is such a view too.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from longattn_core.contracts.indexing import row_chunks
from longattn_core.mechanisms.relative.encoding import Encoding
from longattn_core.numerics.block_attention import flash_blocks, kernel_allowed
from longattn_core.numerics.maps.listed import inverse_root

ROWS, SKEWED_ROWS = 1024, 512
"""Queries at a time. Under a causal mask half of each chunk's own square is computed in vain; the skew holds n scores a query."""


def attend_fast(encoding: Encoding) -> Float[Tensor, "h n e"] | None:
    """The output of `attend_plainly` in single precision; None where only the plain form works.

    That is so for gradients, padding, positions with gaps and value vectors. Cost n²·(d + e) a head, n²·d more for the skew;
    memory above the output 4 MB, for the skew 512·n numbers.
    """
    sequence = encoding.sequence
    q, k, v = encoding.q, encoding.k, sequence.v
    gaps = bool((sequence.token_positions.diff() != 1).any())
    if gaps or sequence.padding is not None or encoding.values is not None or not kernel_allowed(q, k, v):
        return None
    if encoding.curve is not None or encoding.slopes is not None:
        return _by_curve(encoding)
    if encoding.skewed:
        return _by_skew(encoding)
    return functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=sequence.causal)[0]


def _by_curve(encoding: Encoding) -> Float[Tensor, "h n e"]:
    """Every head at once, queries in reverse order."""
    sequence, q, k = encoding.sequence, encoding.q, encoding.k
    n, h, output = sequence.n, sequence.h, torch.empty_like(sequence.v)
    curve = _reversed_curve(encoding)
    for rows in row_chunks(n, 1, ROWS):
        keys = rows.stop if sequence.causal else n
        steps = (curve.stride(0) if len(curve) == h else 0, 0, 1, 1)
        bias = curve.as_strided((h, 1, rows.stop - rows.start, keys), steps, n - rows.stop)
        part, _ = flash_blocks(q[:, None, rows].flip(2), k[:, None, :keys], sequence.v[:, None, :keys], bias)
        output[:, rows] = part[:, 0].flip(1)
    return output


def _reversed_curve(encoding: Encoding) -> Float[Tensor, "g m"]:
    """What each distance adds, from n − 1 (the first key for the last query) down to 1 − n; −∞ for what is hidden."""
    sequence = encoding.sequence
    lags = torch.arange(sequence.n - 1, -sequence.n, -1, device=encoding.q.device)
    if encoding.slopes is not None:
        curve = -encoding.slopes[:, None] * lags.abs()
    else:
        assert encoding.curve is not None
        curve = encoding.curve[lags.clamp(-encoding.reach, encoding.reach) + encoding.reach][None]
    return curve.masked_fill(lags < 0, -math.inf) if sequence.causal else curve


def _by_skew(encoding: Encoding) -> Float[Tensor, "h n e"]:
    """Head by head: scores by distance are written with a row stride of width + 1 and read as scores by key with stride width."""
    assert encoding.table_q is not None
    assert encoding.table is not None
    sequence, q, k, v = encoding.sequence, encoding.q, encoding.k, encoding.sequence.v
    n, reach, output = sequence.n, encoding.reach, torch.empty_like(v)
    table_q, most = encoding.table_q * inverse_root(sequence.d), min(n, SKEWED_ROWS)
    buffer = q.new_empty(most * (n + most))
    for rows in row_chunks(n, 1, SKEWED_ROWS):
        count, keys = rows.stop - rows.start, rows.stop if sequence.causal else n
        width = keys + count - 1
        lags = rows.stop - 1 - torch.arange(width, device=q.device)
        vectors = encoding.table[lags.clamp(-reach, reach) + reach]
        by_distance = buffer[: count * (width + 1)].view(count, width + 1)[:, :width]
        bias = buffer.as_strided((count, keys), (width, 1), count - 1)
        for head in range(sequence.h):
            torch.mm(table_q[head, rows], vectors.mT, out=by_distance)
            if encoding.key_bias is not None:
                bias += encoding.key_bias[head, :keys]
            if sequence.causal:
                bias[:, rows.start :].masked_fill_(torch.ones(count, count, dtype=torch.bool).triu_(1), -math.inf)
            some_q, some_k, some_v = (x[head, None, None] for x in (q[:, rows], k[:, :keys], v[:, :keys]))
            output[head, rows] = flash_blocks(some_q, some_k, some_v, bias[None, None])[0][0, 0]
    return output
