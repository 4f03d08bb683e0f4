"""Attention in a band, by products of small matrices: blocks of queries, each against the stretch of keys around it.

    A block of queries and its span of keys (#: in the band of the query; +: the key of its own token):

                        --back--|---SIZE---|ahead
        query 0        [########+######          ]
        query 1        [ ########+######         ]
          …
        query SIZE − 1 [          ########+######]

The span has SIZE + back + ahead keys; only its first and its last SIZE keys lie outside the band of some query.

Torch's kernel calls MKL for one product a block. MKL packs both matrices first, and at this size packing is a quarter of the
work. On processors with AVX-512 numpy's BLAS has products for small matrices that pack nothing. All blocks of a chunk go
through two such products; the steps between them are passes over scores that lie in the cache. Scores are laid out as
[key, query], because then both products have a fast layout.

No maximum is subtracted before the exponential, so the scores must be bounded (`products_allowed`). This check reads every
token. It is therefore not for a causal mask, under which no later token may decide how an earlier one is computed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, unflatten

SIZE = 32
"""Queries of a block. A larger block computes more pairs outside the band; a smaller one makes the products slower."""

UNPACKED = 10**6
"""Most multiply-adds of a product for which numpy's BLAS packs nothing and uses one thread; beyond, it is far slower."""

CELLS = 1 << 19
"""Scores of a chunk of blocks: 2 MB."""

BOUND = 80.0
"""Largest size of a score, as a power of two: sums of such weights, and their products with values, stay finite."""

LOG2_E = 1 / math.log(2)


def products_allowed(q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], reach: int) -> bool:
    """Whether `attend_band` may be used, and is faster than torch's kernel. Cost n·d.

    It needs a single thread (numpy's small products use no more), a processor with AVX-512, a narrow band (`reach` keys besides
    the block) and bounded scores.
    """
    if torch.get_num_threads() > 1 or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    if SIZE * (SIZE + reach) * q.shape[-1] > UNPACKED:
        return False
    longest, other = (torch.linalg.vector_norm(x, dim=-1).amax(-1) for x in (q, k))
    return bool(((longest * other).amax() * _scale(q) < BOUND).item())


def attend_band(
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    v: Float[Tensor, "h n e"],
    *,
    rows: range,
    back: int,
    ahead: int,
    output: Float[Tensor, "h n e"],
    lse: Float[Tensor, "h n"],
) -> None:
    """Write `rows` of the output and of its logsumexps: query i attends to the keys i − back … i + ahead, which all exist.

    All tensors are float32 with contiguous rows; `rows` is a whole number of blocks of `SIZE`.
    Cost: h·n·(SIZE + back + ahead)·(d + e); memory a little more than 2 MB.
    """
    span, blocks = SIZE + back + ahead, len(rows) // SIZE
    step = max(1, CELLS // (SIZE * span))
    scores, scaled = q.new_empty(step, span, SIZE), q.new_empty(step, q.shape[-1], SIZE)
    lag = torch.arange(SIZE) + back - torch.arange(span)[:, None]
    bias = torch.zeros(lag.shape, dtype=q.dtype).masked_fill_((lag > back) | (lag < -ahead), -math.inf)
    own = slice(rows.start, rows.stop)
    for head in range(len(q)):
        keys, values = (
            x[head, rows.start - back :].as_strided((blocks, span, x.shape[-1]), (SIZE * x.stride(1), x.stride(1), 1))
            for x in (k.detach(), v.detach())
        )
        queries, out, log = (unflatten(x[head, own], 0, (blocks, SIZE)) for x in (q, output, lse))
        for start in range(0, blocks, step):
            at = slice(start, min(start + step, blocks))
            asked, chunk = scaled[: at.stop - start], scores[: at.stop - start]
            torch.mul(queries[at].mT, _scale(q), out=asked)
            np.matmul(keys[at].numpy(), asked.numpy(), out=chunk.numpy())
            # Only the first and the last keys of a span are outside some query's band.
            chunk[:, :SIZE].add_(bias[:SIZE])
            chunk[:, -SIZE:].add_(bias[-SIZE:])
            sums = chunk.exp2_().sum(1)
            np.matmul(chunk.mT.numpy(), values[at].numpy(), out=out[at].numpy())
            out[at].div_(sums[..., None])
            torch.log(sums, out=log[at])


def _scale(q: Tensor) -> float:
    """1/√d, times log₂ e: scores are powers of two, because torch's `exp2` takes a third of the time of its `exp`."""
    return LOG2_E / math.sqrt(q.shape[-1])
