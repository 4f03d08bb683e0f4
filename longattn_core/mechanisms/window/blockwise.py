"""The output of a pattern in parts: each part has a softmax of its own, and all are merged by their logsumexps.

Source: the merge is Dao et al. 2022, arXiv:2205.14135, section 3.1. The parts hold disjoint keys, so none counts twice.
"""

from functools import reduce

import torch
from jaxtyping import Float, Int
from torch import Tensor, unflatten
from torch.nn.functional import pad

from longattn_core.contracts.indexing import STREAM_CELLS, row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.window.chosen import chosen_part
from longattn_core.mechanisms.window.fast import window_fast
from longattn_core.mechanisms.window.pattern import Part, Pattern
from longattn_core.mechanisms.window.plain import window_plainly
from longattn_core.numerics.block_attention import attend_blocks
from longattn_core.numerics.softmax import merge


def pattern_output(sequence: Sequence, pattern: Pattern, chosen: Int[Tensor, "h n m"] | None) -> Float[Tensor, "h n e"]:
    """The output of the pattern; if `chosen` is given, with each query's own block and its chosen blocks.

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
    output, _ = reduce(lambda part, other: merge(*part, *other), parts)
    return output.index_copy(1, pattern.full, full_rows(sequence, pattern)) if len(pattern.full) else output


def window_part(sequence: Sequence, pattern: Pattern) -> Part:
    """The sliding window, by the fast path where it works."""
    part = window_fast(sequence, pattern)
    return window_plainly(sequence, pattern) if part is None else part


def column_part(sequence: Sequence, pattern: Pattern) -> Part:
    """The tokens that every query sees, except those in its window."""
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
    """Each block of queries over the m blocks of keys that it is given (−1: none), except keys that another part holds.

    Cost: n·m·block·(d + e) per head; gathered keys are held for a few blocks at a time.
    """
    n, units, size = sequence.n, pattern.blocks, pattern.block
    missing = (0, 0, 0, units * size - n)
    q, k, v = (unflatten(pad(x, missing), 1, (-1, size)) for x in (sequence.q, sequence.k, sequence.v))
    head = torch.arange(sequence.h, device=q.device)[:, None, None]
    outputs, logs = [], []
    # The gathered keys and values need more memory than the scores.
    for chunk in row_chunks(units, sequence.h * blocks.shape[2] * size * (sequence.d + sequence.e + size)):
        given = blocks[:, chunk]
        queries = torch.arange(chunk.start * size, chunk.stop * size, device=q.device).view(-1, size)
        listed = given[:, :, None].expand(-1, -1, size, -1)
        mask = (pattern.block_keys(queries.clamp_max(n - 1), listed) >= 0) & (queries < n)[..., None]
        index = given.clamp_min(0)
        keys, values = (x[head, index].flatten(2, 3) for x in (k, v))
        output, lse = attend_blocks(q[:, chunk], keys, values, mask)
        outputs.append(output.flatten(1, 2))
        logs.append(lse.flatten(1, 2))
    return torch.cat(outputs, 1)[:, :n], torch.cat(logs, 1)[:, :n]


def full_rows(sequence: Sequence, pattern: Pattern) -> Float[Tensor, "h f e"]:
    """The output of the queries that see every key the mask allows. Cost f·n·(d + e) per head."""
    outputs = []
    keys, values = sequence.k[:, None], sequence.v[:, None]
    for chunk in row_chunks(len(pattern.full), sequence.h * sequence.n):
        queries = pattern.full[chunk]
        output, _ = attend_blocks(sequence.q[:, None, queries], keys, values, sequence.allowed(queries)[None, None])
        outputs.append(output[:, 0])
    return torch.cat(outputs, 1)


def pairs_seen(pattern: Pattern, heads: int, chosen: Int[Tensor, "h n m"] | None) -> int:
    """The number of pairs that the parts compute in all heads together, padding and overlaps included."""
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
