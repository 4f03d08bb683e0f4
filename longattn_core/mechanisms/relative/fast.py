"""The output of a scheme of positions by torch's kernel, which holds no scores: what the distance adds is the kernel's mask.

Source: as in `encoding`, whose plain form is the reference. A scheme whose addition hangs on the distance alone needs no matrix
of it: with queries in reverse order the number for query i and key j stands at place i + j of one curve, which a view with a
step of one along both axes reads where it is. The skew (Huang et al. 2018, arXiv:1809.04281, section 3.4.1) is such a view too.
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
"""Queries at a time. Under a causal mask each stretch sees half its own length in vain; the skew holds a row of keys for each."""


def attend_fast(encoding: Encoding) -> Float[Tensor, "h n e"] | None:
    """`Encoding.attend` in single precision, None where the plain form must serve: gradients, padding, positions with gaps,
    value vectors. Cost n²·(d + e) a head, n²·d more for the skew; memory above the output 4 MB, for the skew 512·n numbers.
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
        seen = rows.stop if sequence.causal else n
        steps = (curve.stride(0) if len(curve) == h else 0, 0, 1, 1)
        bias = curve.as_strided((h, 1, rows.stop - rows.start, seen), steps, n - rows.stop)
        part, _ = flash_blocks(q[:, None, rows].flip(2), k[:, None, :seen], sequence.v[:, None, :seen], bias)
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
    """Head by head: logits by distance are written into rows that are one number longer, and read as logits by key."""
    assert encoding.asked is not None
    assert encoding.table is not None
    sequence, q, k, v = encoding.sequence, encoding.q, encoding.k, encoding.sequence.v
    n, reach, output = sequence.n, encoding.reach, torch.empty_like(v)
    asked, most = encoding.asked * inverse_root(sequence.d), min(n, SKEWED_ROWS)
    held = q.new_empty(most * (n + most))
    for rows in row_chunks(n, 1, SKEWED_ROWS):
        count, seen = rows.stop - rows.start, rows.stop if sequence.causal else n
        width = seen + count - 1
        lags = rows.stop - 1 - torch.arange(width, device=q.device)
        vectors = encoding.table[lags.clamp(-reach, reach) + reach]
        logits = held[: count * (width + 1)].view(count, width + 1)[:, :width]
        bias = held.as_strided((count, seen), (width, 1), count - 1)
        for head in range(sequence.h):
            torch.mm(asked[head, rows], vectors.mT, out=logits)
            if encoding.key_bias is not None:
                bias += encoding.key_bias[head, :seen]
            if sequence.causal:
                bias[:, rows.start :].masked_fill_(torch.ones(count, count, dtype=torch.bool).triu_(1), -math.inf)
            asking, keys, values = (x[head, None, None] for x in (q[:, rows], k[:, :seen], v[:, :seen]))
            output[head, rows] = flash_blocks(asking, keys, values, bias[None, None])[0][0, 0]
    return output
