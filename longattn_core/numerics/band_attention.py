"""A band of attention by products of small matrices: blocks of queries, each against the stretch of keys around it.

Torch's kernel asks MKL for one product a block, which packs both matrices first, and at this size packing is a quarter of
the work. On processors with AVX-512 numpy's BLAS has products for small matrices that pack nothing: all blocks of a chunk go
through two of them, and what stands between is a pass each over scores that lie in the cache. Scores stand as [key, query],
because then neither product meets its slow layout.

No maximum is subtracted: only queries and keys whose scores are all near zero come here (`products_allowed`). That asks every
token, so it is not for a causal mask, under which no later token may decide how an earlier one is computed.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, unflatten

SIZE = 32
"""Queries of a block. Each one more would meet one key more that is outside of its window, and one less slows the products."""

UNPACKED = 10**6
"""Multiply-adds of a product up to which numpy's BLAS packs nothing and stays on one thread; beyond, it is far slower."""

CELLS = 1 << 19
"""Scores of a chunk of blocks: 2 MB."""

CALM = 80.0
"""Powers of two that scores may reach either way: sums of so large weights and their products with values stay finite."""

LOG2_E = 1 / math.log(2)


def products_allowed(q: Float[Tensor, "h n d"], k: Float[Tensor, "h n d"], reach: int) -> bool:
    """Whether `attend_band` may be used, and is faster than torch's kernel: one thread (numpy's small products have no
    more), a processor that they are written for, a narrow band, and calm scores. Cost n·d.
    """
    if torch.get_num_threads() > 1 or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    if SIZE * (SIZE + reach) * q.shape[-1] > UNPACKED:
        return False
    longest, other = (torch.linalg.vector_norm(x, dim=-1).amax(-1) for x in (q, k))
    return bool(((longest * other).amax() * _scale(q) < CALM).item())


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
    """Write `rows` of output and of its logsumexps: each query i sees the keys i − back … i + ahead, all of which exist.

    All are float32 with rows that are contiguous; `rows` holds whole blocks of `SIZE`. Cost: h·n·(32 + back + ahead)·(d + e);
    memory 2 MB and an eighth of it.
    """
    span, blocks = SIZE + back + ahead, len(rows) // SIZE
    step = max(1, CELLS // (SIZE * span))
    scores, turned = q.new_empty(step, span, SIZE), q.new_empty(step, q.shape[-1], SIZE)
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
            asked, here = turned[: at.stop - start], scores[: at.stop - start]
            torch.mul(queries[at].mT, _scale(q), out=asked)
            np.matmul(keys[at].numpy(), asked.numpy(), out=here.numpy())
            # Only the first and the last keys of a stretch are outside of some query's window.
            here[:, :SIZE].add_(bias[:SIZE])
            here[:, -SIZE:].add_(bias[-SIZE:])
            weights = here.exp2_().sum(1)
            np.matmul(here.mT.numpy(), values[at].numpy(), out=out[at].numpy())
            out[at].div_(weights[..., None])
            torch.log(weights, out=log[at])


def _scale(q: Tensor) -> float:
    """1/√d, and scores in powers of two: torch's `exp2` takes a third of the time of its `exp`."""
    return LOG2_E / math.sqrt(q.shape[-1])
