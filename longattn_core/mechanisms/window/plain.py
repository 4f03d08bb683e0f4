"""The sliding window by padded copies of the keys, for every dtype, gradient, padding and dilation.

Source: Beltagy et al. 2020, Longformer, arXiv:2004.05150, section 3.1. `fast` computes the same in single precision without
copies.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, unflatten
from torch.nn.functional import pad

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.window.pattern import Part, Pattern
from longattn_core.numerics.block_attention import attend_blocks


def window_plainly(sequence: Sequence, pattern: Pattern) -> Part:
    """The output and logsumexp of the window. Cost: h·n·(x + back + ahead)·(d + e) in blocks of x queries, and copies k, v.

    Blocks of 32 to 256 queries are compared with the one stretch of keys that all their windows span. With a dilation, the
    tokens of each residue modulo the dilation are put side by side, so that their windows have no gaps.
    """
    stride = min(pattern.dilation, sequence.n)
    q, k, v = (_by_residue(x, stride) for x in (sequence.q, sequence.k, sequence.v))
    real = _by_residue(pattern.real[None, :, None].to(torch.uint8), stride)[0, ..., 0].bool()
    length, back, ahead = q.shape[2], pattern.back, pattern.ahead
    size = min(length, max(32, min(256, 1 << (back + ahead).bit_length())))
    blocks = math.ceil(length / size)
    missing = blocks * size - length
    span = size + back + ahead
    q = unflatten(pad(q, (0, 0, 0, missing)), 2, (blocks, size))
    keys, values = (pad(x, (0, 0, back, missing + ahead)).unfold(2, span, size).mT for x in (k, v))
    real_queries = unflatten(pad(real, (0, missing)), 1, (blocks, size))
    real_keys = pad(real, (back, missing + ahead)).unfold(1, span, size)
    lag = torch.arange(size, device=q.device)[:, None] + back - torch.arange(span, device=q.device)[None, :]
    band = (lag <= back) & (lag >= -ahead)
    outputs, logs = [], []
    for chunk in row_chunks(blocks, sequence.h * stride * size * span):
        mask = band & real_queries[:, chunk, :, None] & real_keys[:, chunk, None, :]
        some_q, some_k, some_v = (x[:, :, chunk].flatten(1, 2) for x in (q, keys, values))
        output, lse = attend_blocks(some_q, some_k, some_v, mask.flatten(0, 1)[None])
        outputs.append(unflatten(output, 1, (stride, -1)).flatten(2, 3))
        logs.append(unflatten(lse, 1, (stride, -1)).flatten(2, 3))
    output, lse = torch.cat(outputs, 2)[:, :, :length], torch.cat(logs, 2)[:, :, :length]
    return output.transpose(1, 2).flatten(1, 2)[:, : sequence.n], lse.mT.flatten(1, 2)[:, : sequence.n]


def _by_residue(x: Float[Tensor, "h n w"] | Tensor, stride: int) -> Tensor:
    """Tokens of one residue modulo `stride` side by side: `[h, stride, ⌈n/stride⌉, w]`, zeros after the last."""
    return unflatten(pad(x, (0, 0, 0, -x.shape[1] % stride)), 1, (-1, stride)).transpose(1, 2)
