"""Attention inside many small blocks at once. Each row's logsumexp comes too, so that results over disjoint keys can be merged.

Source: Dao et al. 2022, arXiv:2205.14135, section 3.1 (the logsumexp merge). On a CPU, in float32 and without gradients,
torch's flash kernel computes the same without holding the scores. The plain form is its reference, and serves elsewhere.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.softmax import softmax_and_lse, streaming_attention


def attend_blocks(
    q: Float[Tensor, "h b x d"], k: Float[Tensor, "h b y d"], v: Float[Tensor, "h b y e"], mask: Bool[Tensor, "p b x y"]
) -> tuple[Float[Tensor, "h b x e"], Float[Tensor, "h b x"]]:
    """Softmax attention of x queries over y keys in each of b blocks, where `mask` is True (p is 1 or h).

    Returns the output (zero for a query without a key) and the logsumexp of its scores (−inf there). Keys and values may be
    overlapping views. Cost: h·b·x·y·(d + e); the plain form holds h·b·x·y scores, the kernel only the mask.
    """
    return kernel_blocks(q, k, v, mask) if kernel_allowed(q, k, v) else plain_blocks(q, k, v, mask)


def attend_whole(sequence: Sequence) -> Float[Tensor, "h n e"]:
    """Exact attention of a whole sequence: by torch's kernel where it may be used, else streamed (`streaming_attention`).

    Cost: h·n²·(d + e) multiply-adds, half of them under a causal mask. Torch's kernel holds no scores.
    """
    q, k, v = sequence.q, sequence.k, sequence.v
    if sequence.padding is None and kernel_allowed(q, k, v):
        # A batch axis of one: without it torch takes a path on the CPU that holds n × n scores.
        return functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=sequence.causal)[0]
    return streaming_attention(sequence)


def kernel_allowed(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether torch's CPU kernel may be used: float32 on the CPU, no gradient, values as wide as keys."""
    gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return q.device.type == "cpu" and q.dtype == torch.float32 and q.shape[-1] == v.shape[-1] and not gradients


def plain_blocks(
    q: Float[Tensor, "h b x d"], k: Float[Tensor, "h b y d"], v: Float[Tensor, "h b y e"], mask: Bool[Tensor, "p b x y"]
) -> tuple[Float[Tensor, "h b x e"], Float[Tensor, "h b x"]]:
    """`attend_blocks` written out: any device, any dtype, with gradients."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    weights, lse = softmax_and_lse(scores, mask.expand_as(scores))
    return weights @ v, lse


def kernel_blocks(
    q: Float[Tensor, "h b x d"], k: Float[Tensor, "h b y d"], v: Float[Tensor, "h b y e"], mask: Bool[Tensor, "p b x y"]
) -> tuple[Float[Tensor, "h b x e"], Float[Tensor, "h b x"]]:
    """`attend_blocks` by torch's CPU flash kernel; only where `kernel_allowed`."""
    bias = torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, -math.inf).expand(q.shape[0], -1, -1, -1)
    output, lse = flash_blocks(q, k, v, bias)
    # The kernel reports a logsumexp of 0 for a row without keys; a merge would take this for a key of score 0.
    return output, lse.masked_fill(~mask.any(-1), -math.inf)


def flash_blocks(
    q: Float[Tensor, "h b x d"],
    k: Float[Tensor, "h b y d"],
    v: Float[Tensor, "h b y e"],
    bias: Float[Tensor, "h b x y"] | None,
    *,
    scale: float | None = None,
) -> tuple[Float[Tensor, "h b x e"], Float[Tensor, "h b x"]]:
    """Output and logsumexps by the kernel itself, only where `kernel_allowed`; `bias` may be an expanded view.

    `scale` is 1/√d unless given. Where the bias of a query is −∞ for all keys, its output is 0 and its logsumexp undefined.
    """
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, False, attn_mask=bias, scale=1 / math.sqrt(q.shape[-1]) if scale is None else scale
    )
    return output, lse
