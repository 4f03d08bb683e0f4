"""Softmax attention over the union of each query's stretches of sorted lists: the output of hashing and clustering.

The output is computed head by head and tile by tile (see `tiles.py`), so that the buffers stay in the cache.

Source: the running maximum and the merge by logsumexps are FlashAttention's (Dao et al. 2022, arXiv:2205.14135, section
3.1). In single precision and without gradients torch's kernel computes each tile; the plain form is the reference.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from longattn_core.numerics.block_attention import flash_blocks, kernel_allowed
from longattn_core.numerics.huge_pages import zeros
from longattn_core.numerics.lists.sorted_lists import SortedLists, taken
from longattn_core.numerics.lists.tiles import MANY, Biases, tiles
from longattn_core.numerics.softmax import merge


def attend_lists(
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    v: Float[Tensor, "h n e"],
    lists: SortedLists,
    *,
    real: Bool[Tensor, "n"],
    scale: float,
    skip_self: bool = False,
    directions: bool = False,
) -> tuple[Float[Tensor, "h n e"], int]:
    """The output, and how many scores were computed. With `directions` keys are scaled to length 1.

    A real query without keys gets its own value, a padded one zero. Gradients reach q, k and v. Cost: about
    p·n·(w + block)·(d + e) a head. Memory: h·n·e numbers and a few MB; the plain form holds as many again for the keys.
    """
    if kernel_allowed(q, k, v) and v.shape[1] <= MANY:
        return _by_kernel(q, k, v, lists, real=real, scale=scale, skip_self=skip_self, directions=directions)
    return _plainly(q, normalize(k, dim=-1) if directions else k, v, lists, real=real, scale=scale, skip_self=skip_self)


def _plainly(
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    v: Float[Tensor, "h n e"],
    lists: SortedLists,
    *,
    real: Bool[Tensor, "n"],
    scale: float,
    skip_self: bool,
) -> tuple[Float[Tensor, "h n e"], int]:
    """`attend_lists` written out: any device, any dtype, with gradients."""
    h, n, e = v.shape
    # The column of ones sums the weights in the same product. The last row takes the empty places of the blocks.
    values = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)
    sums = torch.zeros(h * n + 1, e + 1, dtype=v.dtype, device=v.device)
    ceiling = torch.full((h * n + 1,), torch.finfo(v.dtype).min, dtype=v.dtype, device=v.device)
    computed = 0
    for head in range(h):
        for tile in tiles(lists, head):
            mask = tile.mask(lists)
            computed += mask.numel()
            if skip_self:
                mask = mask & (tile.keys[:, None, :] != tile.queries[:, :, None])
            scores = taken(q[head] * scale, tile.queries.clamp_max(n - 1)) @ taken(k[head], tile.keys).mT
            scores = scores.masked_fill(~mask, -math.inf)
            rows = torch.where(tile.queries < n, head * n + tile.queries, h * n)
            # Every ceiling gives the same quotient, so the gradient treats it as a constant.
            old = ceiling[rows]
            new = torch.maximum(old, scores.detach().amax(-1))
            weights = (scores - new[..., None]).exp()
            ceiling[rows] = new
            sums[rows] = taken(sums, rows) * (old - new).exp()[..., None] + weights @ taken(values[head], tile.keys)
    total = sums[:-1, -1:].view(h, n, 1)
    none = total == 0
    output = sums[:-1, :-1].view(h, n, e) / torch.where(none, torch.ones_like(total), total)
    return torch.where(none, torch.where(real[:, None], v, torch.zeros_like(v)), output), computed


def _by_kernel(
    q: Float[Tensor, "h n d"],
    k: Float[Tensor, "h n d"],
    v: Float[Tensor, "h n e"],
    lists: SortedLists,
    *,
    real: Bool[Tensor, "n"],
    scale: float,
    skip_self: bool,
    directions: bool,
) -> tuple[Float[Tensor, "h n e"], int]:
    """`attend_lists` by torch's kernel; tiles are merged by their logsumexps. Memory besides the output: a few MB and n·d."""
    h, n, e = v.shape
    # The last row takes the empty places of the blocks.
    output, lse = zeros(v, h * n + 1, e), v.new_full((h * n + 1,), -math.inf)
    computed = 0
    for head in range(h):
        keys = normalize(k[head], dim=-1) if directions else k[head]
        biases = Biases(lists, head, skip_self=skip_self)
        for tile in tiles(lists, head):
            bias = biases.of(tile)
            computed += bias.numel()
            without_keys = bias.amax(-1) == -math.inf
            part, log = flash_blocks(
                taken(q[head], tile.queries.clamp_max(n - 1))[None],
                taken(keys, tile.keys)[None],
                taken(v[head], tile.keys)[None],
                bias[None],
                scale=scale,
            )
            # The kernel reports a logsumexp of 0 for a row without keys; a merge would take this for a key of score 0.
            part, log = part.view(-1, e), log[0].masked_fill_(without_keys, -math.inf).flatten()
            rows = torch.where(tile.queries < n, head * n + tile.queries, h * n).flatten()
            if not tile.first:
                part, log = merge(output.index_select(0, rows), lse.index_select(0, rows), part, log)
            output.index_copy_(0, rows, part)
            lse.index_copy_(0, rows, log)
    none = (lse[:-1] == -math.inf).nonzero().squeeze(-1)
    output[none] = torch.where(real[none % n, None], v.reshape(-1, e).index_select(0, none), 0.0)
    return output[:-1].view(h, n, e), computed
