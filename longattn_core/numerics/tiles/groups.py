"""Groups of consecutive tokens that are read as one item: their mean query and key, and a value pooled from their tokens.

Source: Yang et al. 2016, HAN (NAACL, section 2.2), where a group's value is an attention over its members. Our deviation:
nothing is learned, so the group's mean query takes the place of HAN's context vector, or the value is the plain mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """One level of G groups: the tokens of each group, and its query, key and value.

    `of [n]` is the group of each token; `first, last [G]` are a group's first and last token, padding included; `size [G]` is the
    number of its real tokens. `q, k [h G d]` are the means of their queries and keys. `v [h G e]` is the pooled value
    Σ_j share_j·v_j; `share [h n]` adds up to 1 over the real tokens of a group, and is 0 for padding.
    """

    of: Int[Tensor, "n"]
    first: Int[Tensor, "G"]
    last: Int[Tensor, "G"]
    size: Int[Tensor, "G"]
    q: Float[Tensor, "h G d"]
    k: Float[Tensor, "h G d"]
    v: Float[Tensor, "h G e"]
    share: Float[Tensor, "h n"]

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(self.size)


def numbered(groups: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """The same non-decreasing groups, numbered 0, 1, 2, … without gaps."""
    return torch.cat([groups.new_zeros(1), (groups.diff() != 0).long().cumsum(0)])


def mean_groups(sequence: Sequence, of: Int[Tensor, "n"]) -> Groups:
    """Groups whose value is the mean of their real tokens' values; `of` is numbered without gaps. Cost: n·(2d + e) a head."""
    numbers = torch.arange(int(of[-1]) + 1, device=of.device)
    size = torch.zeros_like(numbers).index_add(0, of, sequence.real.long())
    equal = sequence.real.to(sequence.q.dtype) / size.clamp_min(1).to(sequence.q.dtype)[of]
    return Groups(
        of=of,
        first=torch.searchsorted(of, numbers),
        last=torch.searchsorted(of, numbers, right=True) - 1,
        size=size,
        q=_sums(sequence.q * equal[:, None], of, len(size)),
        k=_sums(sequence.k * equal[:, None], of, len(size)),
        v=_sums(sequence.v * equal[:, None], of, len(size)),
        share=equal.expand(sequence.h, -1),
    )


def pooled_groups(sequence: Sequence, of: Int[Tensor, "n"], below: Groups | None, by_size: bool) -> Groups:
    """Groups whose value is an attention of their own mean query over their members.

    The members are the tokens, or the groups of the level `below`. With `by_size` ln(size) is added to the score of a member
    group, so that it counts as all its tokens. Cost: n·(3d + 2e) a head. Source: HAN, section 2.2.
    """
    means = mean_groups(sequence, of)
    root = math.sqrt(sequence.d)
    if below is None:
        scores = (means.q[:, of] * sequence.k).sum(-1) / root
        share = softmax_within(scores, of, sequence.real, means.count)
    else:
        parent = of[below.first]
        scores = (means.q[:, parent] * below.k).sum(-1) / root
        if by_size:
            scores = scores + below.size.clamp_min(1).to(scores.dtype).log()
        share = softmax_within(scores, parent, below.size > 0, means.count)[:, below.of] * below.share
    return replace(means, v=_sums(sequence.v * share[..., None], of, means.count), share=share)


def softmax_within(
    scores: Float[Tensor, "h m"], of: Int[Tensor, "m"], alive: Bool[Tensor, "m"], count: int
) -> Float[Tensor, "h m"]:
    """Softmax over the members of each of `count` groups; a member that is not `alive` gets 0. Cost: h·m."""
    heads = scores.shape[0]
    hidden = scores.detach().masked_fill(~alive, -math.inf)
    top = torch.full((heads, count), -math.inf, dtype=scores.dtype, device=scores.device)
    top = top.scatter_reduce(1, of.expand(heads, -1), hidden, "amax").nan_to_num(neginf=0.0)
    # Masked before the exponential, so that a member that is left out gives neither nan nor gradient.
    mass = torch.where(alive, torch.where(alive, scores - top[:, of], 0.0).exp(), 0.0)
    total = torch.zeros(heads, count, dtype=scores.dtype, device=scores.device).index_add(1, of, mass)
    return mass / torch.where(total > 0, total, 1.0)[:, of]


def _sums(x: Float[Tensor, "h n c"], of: Int[Tensor, "n"], count: int) -> Float[Tensor, "h G c"]:
    return torch.zeros(x.shape[0], count, x.shape[2], dtype=x.dtype, device=x.device).index_add(1, of, x)
