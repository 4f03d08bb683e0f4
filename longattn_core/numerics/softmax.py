"""Softmax under a mask, softmaxes merged by their logsumexps, and exact attention.

Source: the merge is the identity behind FlashAttention (Dao et al. 2022, arXiv:2205.14135, section 3.1).
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.mechanism import Cost
from longattn_core.contracts.sequence import Sequence


def masked_softmax(scores: Float[Tensor, "*b c"], mask: Bool[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
    """Softmax over the last axis where `mask` is True; a row that is masked everywhere is zero, and so is its gradient."""
    some = any_of(mask)
    masked = torch.where(mask, scores, -math.inf)
    if bool(some.all()):
        return masked.softmax(-1)
    # A row of −inf alone would be nan, in value and gradient: it gets finite scores first, and zeros afterwards.
    return torch.where(some & mask, torch.where(some, masked, 0.0).softmax(-1), 0.0)


def any_of(mask: Bool[Tensor, "*b c"]) -> Bool[Tensor, "*b 1"]:
    """Whether any place of a row is True. The maximum of bytes is ten times as fast as torch's `any`."""
    return mask.view(torch.uint8).amax(-1, keepdim=True).bool() if mask.shape[-1] else mask.any(-1, keepdim=True)


def softmax_and_lse(
    scores: Float[Tensor, "*b c"], mask: Bool[Tensor, "*b c"]
) -> tuple[Float[Tensor, "*b c"], Float[Tensor, "*b"]]:
    """`masked_softmax` and the logsumexp of each row; −inf for a row that is masked everywhere."""
    return masked_softmax(scores, mask), scores.masked_fill(~mask, -math.inf).logsumexp(-1)


def merge(
    output: Float[Tensor, "*b e"], lse: Float[Tensor, "*b"], other: Float[Tensor, "*b e"], other_lse: Float[Tensor, "*b"]
) -> tuple[Float[Tensor, "*b e"], Float[Tensor, "*b"]]:
    """Merge two softmax outputs over disjoint keys into one over their union, by their logsumexps; −inf means no key."""
    total = torch.logaddexp(lse, other_lse)
    ceiling = torch.where(total == -math.inf, torch.zeros_like(total), total)  # because exp(−inf − −inf) is nan
    share, other_share = (lse - ceiling).exp(), (other_lse - ceiling).exp()
    return output * share[..., None] + other * other_share[..., None], total


def streaming_attention(sequence: Sequence) -> Float[Tensor, "h n e"]:
    """Exact attention in chunks of queries, so that n × n scores are never held.

    Cost h·n²·(d + e); memory besides the output: a few times 4 M scores, in float32 about 130 MB.
    """
    keys, root = sequence.k.mT, math.sqrt(sequence.d)
    # Written in place: small results kept between large buffers of scores would stop that memory from being used again.
    output = torch.empty_like(sequence.v)
    for rows in row_chunks(sequence.n, sequence.n * sequence.h):
        visible = slice(0, rows.stop if sequence.causal else sequence.n)
        scores = sequence.q[:, rows] @ keys[..., visible] / root
        index = torch.arange(rows.start, rows.stop, device=scores.device)
        mask = sequence.allowed(index)[:, visible]
        output[:, rows] = masked_softmax(scores, mask.expand_as(scores)) @ sequence.v[:, visible]
    return output


def exact_cost(*, heads: int, n: int, d: int, e: int, causal: bool, number_bytes: int = 4) -> Cost:
    """The cost of exact attention by formula: pairs·(d + e) multiply-adds a head; n(n + 1)/2 causal pairs, else n².

    Bytes moved: inputs and output once, each score written and read once. The peak is that of `streaming_attention`.
    """
    pairs = n * (n + 1) // 2 if causal else n * n
    return Cost(
        multiply_adds=heads * pairs * (d + e),
        bytes_moved=heads * number_bytes * (2 * n * (d + e) + 2 * pairs),
        bytes_peak=number_bytes * min(heads * n * n, 1 << 23),
    )
