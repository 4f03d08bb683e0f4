"""The output of a windowed pattern, block by block: each part's own softmax, then all parts merged by their logsumexps.

Source: the merge is Dao et al. 2022, arXiv:2205.14135, section 3.1. The parts hold disjoint keys, so none counts twice.
"""

import math
from functools import reduce
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, unflatten
from torch.nn.functional import pad

from longattn_core.contracts.indexing import STREAM_CELLS, row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.window.chosen import chosen_part
from longattn_core.mechanisms.window.pattern import Pattern
from longattn_core.numerics.band_attention import SIZE, attend_band, products_allowed
from longattn_core.numerics.block_attention import attend_blocks, flash_blocks, kernel_allowed
from longattn_core.numerics.huge_pages import empty_like
from longattn_core.numerics.softmax import merge

END = 256
"""Queries that share one stretch of keys at the ends of a sequence, where it is cut off: few large blocks. Elsewhere `SIZE` do:
that is what torch's kernel takes at a time too, and every query more would read a key more that is outside of its window.
"""

COPIED = 1 << 20
"""Numbers of the kernel's own output at a time: copied to their place while in the cache, in memory that is used again."""

Part: TypeAlias = tuple[Float[Tensor, "h n e"], Float[Tensor, "h n"]]


def pattern_output(sequence: Sequence, pattern: Pattern, chosen: Int[Tensor, "h n m"] | None) -> Float[Tensor, "h n e"]:
    """The output of the pattern, with each query's chosen blocks and its own block beside it if `chosen` is given.

    Cost: h·(d + e) for each pair in the window, the columns, the blocks and the full rows. Never holds n × n.
    """
    parts: list[Part] = []
    if pattern.back >= 0:
        parts.append(window_part(sequence, pattern))
    if len(pattern.columns):
        parts.append(column_part(sequence, pattern))
    if pattern.random.shape[1]:
        parts.append(block_part(sequence, pattern, pattern.random[None]))
    if chosen is not None:
        own = torch.arange(pattern.blocks, device=sequence.q.device)[None, :, None]
        parts.append(block_part(sequence, pattern, own))
        if chosen.shape[-1]:
            parts.append(chosen_part(sequence, pattern, chosen))
    output, _ = reduce(lambda one, other: merge(*one, *other), parts)
    return output.index_copy(1, pattern.full, full_rows(sequence, pattern)) if len(pattern.full) else output


def window_part(sequence: Sequence, pattern: Pattern) -> Part:
    """The sliding window: blocks of queries against the one overlapping stretch of keys that all their windows span.

    With a dilation the tokens of each residue are put side by side, where the window has no gaps.
    """
    if pattern.dilation == 1 and bool(pattern.real.all()) and kernel_allowed(sequence.q, sequence.k, sequence.v):
        return _window_in_place(sequence, pattern)
    stride = min(pattern.dilation, sequence.n)
    q, k, v = (_by_residue(x, stride) for x in (sequence.q, sequence.k, sequence.v))
    real = _by_residue(pattern.real[None, :, None].to(torch.uint8), stride)[0, ..., 0].bool()
    length, back, ahead = q.shape[2], pattern.back, pattern.ahead
    size = min(length, max(32, min(256, 1 << (back + ahead).bit_length())))
    blocks = math.ceil(length / size)
    tail = blocks * size - length
    span = size + back + ahead
    q = unflatten(pad(q, (0, 0, 0, tail)), 2, (blocks, size))
    keys, values = (pad(x, (0, 0, back, tail + ahead)).unfold(2, span, size).mT for x in (k, v))
    real_queries = unflatten(pad(real, (0, tail)), 1, (blocks, size))
    real_keys = pad(real, (back, tail + ahead)).unfold(1, span, size)
    lag = torch.arange(size, device=q.device)[:, None] + back - torch.arange(span, device=q.device)[None, :]
    band = (lag <= back) & (lag >= -ahead)
    outputs, logs = [], []
    for at in row_chunks(blocks, sequence.h * stride * size * span):
        mask = band & real_queries[:, at, :, None] & real_keys[:, at, None, :]
        some_q, some_k, some_v = (x[:, :, at].flatten(1, 2) for x in (q, keys, values))
        one, log = attend_blocks(some_q, some_k, some_v, mask.flatten(0, 1)[None])
        outputs.append(unflatten(one, 1, (stride, -1)).flatten(2, 3))
        logs.append(unflatten(log, 1, (stride, -1)).flatten(2, 3))
    output, lse = torch.cat(outputs, 2)[:, :, :length], torch.cat(logs, 2)[:, :, :length]
    return output.transpose(1, 2).flatten(1, 2)[:, : sequence.n], lse.mT.flatten(1, 2)[:, : sequence.n]


def _window_in_place(sequence: Sequence, pattern: Pattern) -> Part:
    """The window without padding or dilation: keys are read where they stand, and all inner blocks share one small mask.

    Cost: h·n·(32 + back + ahead)·(d + e); nothing is copied but the result.
    """
    n, back, ahead = sequence.n, pattern.back, pattern.ahead
    q, k, v = (x.contiguous() for x in (sequence.q, sequence.k, sequence.v))
    size, span = SIZE, SIZE + back + ahead
    output, lse = empty_like(v), v.new_empty(v.shape[:2])

    def attended(first: int, last: int, queries: Tensor, keys: Tensor, values: Tensor, band: Tensor) -> None:
        bias = torch.zeros(band.shape, dtype=q.dtype).masked_fill_(~band, -math.inf)
        one, log = flash_blocks(queries, keys, values, bias.expand(*queries.shape[:2], -1, -1))
        for whole, part in ((output, one), (lse, log)):
            unflatten(whole[:, first:last], 1, part.shape[1:3]).copy_(part)

    # Whole blocks whose keys all lie inside the sequence, and the ends block by block.
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
        for at in row_chunks(len(inner), len(v) * size * v.shape[-1], COPIED):
            rows = inner[at]
            attended(rows.start, rows.stop, queries[:, at], keys[:, at], values[:, at], band)
    for end in ends:
        for first in end[::END]:
            last = min(first + END, end.stop)
            low, high = max(0, first - back), min(n, last + ahead)
            lag = torch.arange(first, last)[:, None] - torch.arange(low, high)
            band = (lag <= back) & (lag >= -ahead)
            attended(first, last, q[:, None, first:last], k[:, None, low:high], v[:, None, low:high], band)
    return output, lse


def _by_residue(x: Float[Tensor, "h n w"] | Tensor, stride: int) -> Tensor:
    """Tokens of one residue modulo `stride` side by side: `[h, stride, ⌈n/stride⌉, w]`, zeros behind the last."""
    return unflatten(pad(x, (0, 0, 0, -x.shape[1] % stride)), 1, (-1, stride)).transpose(1, 2)


def column_part(sequence: Sequence, pattern: Pattern) -> Part:
    """The tokens that every query sees, but for those that its window already holds."""
    keys, values = sequence.k[:, None, pattern.columns], sequence.v[:, None, pattern.columns]
    outputs, logs = [], []
    for rows in row_chunks(sequence.n, sequence.h * len(pattern.columns)):
        queries = torch.arange(rows.start, rows.stop, device=keys.device)
        mask = pattern.column_keys(queries) >= 0
        output, lse = attend_blocks(sequence.q[:, None, rows], keys, values, mask[None, None])
        outputs.append(output[:, 0])
        logs.append(lse[:, 0])
    return torch.cat(outputs, 1), torch.cat(logs, 1)


def block_part(sequence: Sequence, pattern: Pattern, blocks: Int[Tensor, "1 u m"]) -> Part:
    """Each block of queries against the m blocks of keys it is given (−1: none), but for keys seen otherwise.

    Cost: n·m·block·(d + e) per head; the gathered keys are held for a chunk of blocks at a time.
    """
    n, units, size = sequence.n, pattern.blocks, pattern.block
    missing = (0, 0, 0, units * size - n)
    q, k, v = (unflatten(pad(x, missing), 1, (-1, size)) for x in (sequence.q, sequence.k, sequence.v))
    head = torch.arange(sequence.h, device=q.device)[:, None, None]
    outputs, logs = [], []
    # Gathered keys and values outweigh the scores here.
    for at in row_chunks(units, sequence.h * blocks.shape[2] * size * (sequence.d + sequence.e + size)):
        given = blocks[:, at]
        queries = torch.arange(at.start * size, at.stop * size, device=q.device).view(-1, size)
        listed = given[:, :, None].expand(-1, -1, size, -1)
        mask = (pattern.block_keys(queries.clamp_max(n - 1), listed) >= 0) & (queries < n)[..., None]
        index = given.clamp_min(0)
        keys, values = (x[head, index].flatten(2, 3) for x in (k, v))
        output, lse = attend_blocks(q[:, at], keys, values, mask)
        outputs.append(output.flatten(1, 2))
        logs.append(lse.flatten(1, 2))
    return torch.cat(outputs, 1)[:, :n], torch.cat(logs, 1)[:, :n]


def full_rows(sequence: Sequence, pattern: Pattern) -> Float[Tensor, "h f e"]:
    """The output of the queries that see every key the mask allows. Cost f·n·(d + e) per head."""
    outputs = []
    keys, values = sequence.k[:, None], sequence.v[:, None]
    for at in row_chunks(len(pattern.full), sequence.h * sequence.n):
        queries = pattern.full[at]
        output, _ = attend_blocks(sequence.q[:, None, queries], keys, values, sequence.allowed(queries)[None, None])
        outputs.append(output[:, 0])
    return torch.cat(outputs, 1)


def pairs_seen(pattern: Pattern, heads: int, chosen: Int[Tensor, "h n m"] | None) -> int:
    """How many (query, key) pairs the parts hold in all heads together, padding and overlaps included: what is computed."""
    n, step = pattern.n, pattern.dilation
    reach = pattern.back * (pattern.back + 1) + pattern.ahead * (pattern.ahead + 1)
    window = (pattern.back + pattern.ahead + 1) * n - step * reach // 2 if pattern.back >= 0 else 0
    shared = window + n * len(pattern.columns) + n * len(pattern.full)
    shared += int((pattern.random >= 0).sum()) * pattern.block**2
    if chosen is None:
        return heads * shared
    return heads * (shared + n * pattern.block) + int((chosen >= 0).sum()) * pattern.block


def peak_cells(sequence: Sequence, pattern: Pattern) -> int:
    """The most numbers held at once above inputs and output: padded copies of k and v, one part's result, one chunk."""
    copies = sequence.h * (pattern.n + pattern.back + pattern.ahead + 1) * (sequence.d + sequence.e)
    return copies + 2 * sequence.h * pattern.n * (sequence.e + 1) + 3 * min(STREAM_CELLS, sequence.h * pattern.n**2)
