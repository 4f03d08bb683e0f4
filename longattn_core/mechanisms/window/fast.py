"""The sliding window in single precision: torch's kernel on overlapping views of the keys, or products of small matrices.

Source: Beltagy et al. 2020, Longformer, arXiv:2004.05150, section 3.1. `plain` is the reference. Products of small matrices are
`numerics/band_attention.py`; a causal sequence goes through the kernel alone, because the choice between the two depends on
all tokens.
"""

import math

import torch
from torch import Tensor, unflatten

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.window.pattern import Part, Pattern
from longattn_core.numerics.band_attention import SIZE, attend_band, products_allowed
from longattn_core.numerics.block_attention import flash_blocks, kernel_allowed
from longattn_core.numerics.huge_pages import empty_like

END = 256
"""Queries of a block at the ends of a sequence, where the windows are cut off: few large blocks.

Elsewhere a block has `SIZE` queries, as many as torch's kernel takes at a time: each further query would read one more key
outside its window.
"""

COPIED = 1 << 20
"""Numbers of the kernel's output at a time: they are copied while in the cache, and their memory is used again."""


def window_fast(sequence: Sequence, pattern: Pattern) -> Part | None:
    """The result of `window_plainly`; None where only that form works: padding, a dilation, gradients, double precision.

    Keys are read in place, and all inner blocks share one small mask. Cost: h·n·(32 + back + ahead)·(d + e); only the result
    is copied.
    """
    if pattern.dilation > 1 or not bool(pattern.real.all()) or not kernel_allowed(sequence.q, sequence.k, sequence.v):
        return None
    n, back, ahead = sequence.n, pattern.back, pattern.ahead
    q, k, v = (x.contiguous() for x in (sequence.q, sequence.k, sequence.v))
    size, span = SIZE, SIZE + back + ahead
    output, lse = empty_like(v), v.new_empty(v.shape[:2])

    def attend(first: int, last: int, queries: Tensor, keys: Tensor, values: Tensor, band: Tensor) -> None:
        """Write the results of the queries first … last − 1 to their places."""
        bias = torch.zeros(band.shape, dtype=q.dtype).masked_fill_(~band, -math.inf)
        parts = flash_blocks(queries, keys, values, bias.expand(*queries.shape[:2], -1, -1))
        for whole, part in zip((output, lse), parts, strict=True):
            unflatten(whole[:, first:last], 1, part.shape[1:3]).copy_(part)

    # Whole blocks whose keys all lie inside the sequence; the two ends are computed block by block.
    inner = range(-(-back // size) * size, (n - ahead) // size * size, size)
    ends = [range(n)] if not inner else [range(inner.start), range(inner[-1] + size, n)]
    if inner and not pattern.causal and products_allowed(q, k, back + ahead):
        whole_blocks = range(inner.start, inner[-1] + size)
        attend_band(q, k, v, rows=whole_blocks, back=back, ahead=ahead, output=output, lse=lse)
    elif inner:
        keys, values = (
            x.as_strided(
                (len(x), len(inner), span, x.shape[-1]),
                (x.stride(0), size * x.stride(1), x.stride(1), 1),
                x.storage_offset() + (inner.start - back) * x.stride(1),
            )
            for x in (k, v)
        )
        queries = unflatten(q[:, inner.start : inner[-1] + size], 1, (len(inner), size))
        lag = torch.arange(size)[:, None] + back - torch.arange(span)
        band = (lag <= back) & (lag >= -ahead)
        for chunk in row_chunks(len(inner), len(v) * size * v.shape[-1], COPIED):
            rows = inner[chunk]
            attend(rows.start, rows.stop, queries[:, chunk], keys[:, chunk], values[:, chunk], band)
    for end in ends:
        for first in end[::END]:
            last = min(first + END, end.stop)
            low, high = max(0, first - back), min(n, last + ahead)
            lag = torch.arange(first, last)[:, None] - torch.arange(low, high)
            band = (lag <= back) & (lag >= -ahead)
            attend(first, last, q[:, None, first:last], k[:, None, low:high], v[:, None, low:high], band)
    return output, lse
