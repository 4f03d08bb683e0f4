"""Products of queries with a few keys each, without copying the keys.

On a CPU and without gradients, torch's sampled product of a sparse pattern reads each key in place. The plain form gathers
the keys first; it is the reference, and serves everywhere else.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks

GATHERED = 1 << 20
"""How many numbers of gathered keys the plain form holds at once: a buffer that stays in the cache."""

with warnings.catch_warnings():
    # Torch warns once in each process that sparse CSR is in beta. Provoked here, the warning stays out of a visitor's log.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.zeros(0, dtype=torch.int64), torch.zeros(0), size=(1, 1))


def pair_scores(q: Float[Tensor, "g r d"], k: Float[Tensor, "g n d"], keys: Int[Tensor, "g r c"]) -> Float[Tensor, "g r c"]:
    """q·k of each query with the keys listed for it, 0 … n − 1 (a key may be listed twice). Cost g·r·c·d, memory g·r·c."""
    gradients = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    return plain_scores(q, k, keys) if gradients or q.device.type != "cpu" else sampled_scores(q, k, keys)


def plain_scores(q: Float[Tensor, "g r d"], k: Float[Tensor, "g n d"], keys: Int[Tensor, "g r c"]) -> Float[Tensor, "g r c"]:
    """`pair_scores` with gathered keys: any device, with gradients."""
    heads, n, width = k.shape
    flat, offset = k.reshape(-1, width), torch.arange(heads, device=k.device)[:, None, None] * n
    parts = []
    for rows in row_chunks(keys.shape[1], heads * keys.shape[2] * width, GATHERED):
        listed = keys[:, rows] + offset
        gathered = flat.index_select(0, listed.flatten()).view(*listed.shape, width)
        parts.append((gathered @ q[:, rows, :, None]).squeeze(-1))
    return torch.cat(parts, dim=1) if parts else q.new_zeros(keys.shape)


def sampled_scores(q: Float[Tensor, "g r d"], k: Float[Tensor, "g n d"], keys: Int[Tensor, "g r c"]) -> Float[Tensor, "g r c"]:
    """`pair_scores` on the CPU, one head at a time; fastest where neighbouring queries list neighbouring keys."""
    heads, rows, width = keys.shape
    if not keys.numel():
        return q.new_zeros(keys.shape)
    ends = torch.arange(0, rows * width + 1, width)
    zeros = q.new_zeros(rows * width)
    scores = []
    for head in range(heads):
        pattern = torch.sparse_csr_tensor(ends, keys[head].reshape(-1), zeros, size=(rows, k.shape[1]), check_invariants=False)
        scores.append(torch.sparse.sampled_addmm(pattern, q[head], k[head].mT, beta=0.0).values().view(rows, width))
    return torch.stack(scores)
