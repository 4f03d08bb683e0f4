"""Softmax under a mask, and softmaxes merged by their logarithms of sums.

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
    """Softmax over the last axis where `mask` is True; a row with nothing to see is zero, and its gradient too."""
    some = any_of(mask)
    seen = torch.where(mask, scores, -math.inf)
    if bool(some.all()):
        return seen.softmax(-1)
    # A row of -inf only would be nan in value and gradient: give it finite scores first, then zero.
    return torch.where(some & mask, torch.where(some, seen, 0.0).softmax(-1), 0.0)


def any_of(mask: Bool[Tensor, "*b c"]) -> Bool[Tensor, "*b 1"]:
    """Whether a row has anything to see. The largest of bytes is found ten times as fast as torch's `any`."""
    return mask.view(torch.uint8).amax(-1, keepdim=True).bool() if mask.shape[-1] else mask.any(-1, keepdim=True)


def softmax_and_lse(
    scores: Float[Tensor, "*b c"], mask: Bool[Tensor, "*b c"]
) -> tuple[Float[Tensor, "*b c"], Float[Tensor, "*b"]]:
    """`masked_softmax` and the logarithm of each row's sum of exponentials; −inf for a row with nothing to see."""
    return masked_softmax(scores, mask), scores.masked_fill(~mask, -math.inf).logsumexp(-1)


def merge(
    output: Float[Tensor, "*b e"], lse: Float[Tensor, "*b"], other: Float[Tensor, "*b e"], other_lse: Float[Tensor, "*b"]
) -> tuple[Float[Tensor, "*b e"], Float[Tensor, "*b"]]:
    """Two softmax outputs over disjoint keys as one over their union, by their logsumexps; −inf means no key."""
    total = torch.logaddexp(lse, other_lse)
    ceiling = torch.where(total == -math.inf, torch.zeros_like(total), total)  # exp(−inf − −inf) is nan
    share, other_share = (lse - ceiling).exp(), (other_lse - ceiling).exp()
    return output * share[..., None] + other * other_share[..., None], total


def streaming_attention(sequence: Sequence) -> Float[Tensor, "h n e"]:
    """Exact attention, queries in chunks so that n × n is never held.

    Cost h·n²·(d + e); memory above the output: a few times 4 M scores, in float32 about 130 MB.
    """
    keys, root = sequence.k.mT, math.sqrt(sequence.d)
    # Written in place: small results kept between the large scores would keep the memory of those from being used again.
    output = torch.empty_like(sequence.v)
    for rows in row_chunks(sequence.n, sequence.n * sequence.h):
        visible = slice(0, rows.stop if sequence.causal else sequence.n)
        scores = sequence.q[:, rows] @ keys[..., visible] / root
        index = torch.arange(rows.start, rows.stop, device=scores.device)
        mask = sequence.allowed(index)[:, visible]
        output[:, rows] = masked_softmax(scores, mask.expand_as(scores)) @ sequence.v[:, visible]
    return output


def exact_cost(*, heads: int, n: int, d: int, e: int, causal: bool, number_bytes: int = 4) -> Cost:
    """Exact attention by formula: pairs·(d + e) multiply-adds a head, n(n + 1)/2 pairs under a causal mask, else n².

    Bytes moved: inputs and output once, each score written and read once; the peak is that of streaming in blocks.
    """
    pairs = n * (n + 1) // 2 if causal else n * n
    return Cost(
        multiply_adds=heads * pairs * (d + e),
        bytes_moved=heads * number_bytes * (2 * n * (d + e) + 2 * pairs),
        bytes_peak=number_bytes * min(heads * n * n, 1 << 23),
    )
