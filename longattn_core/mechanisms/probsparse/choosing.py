"""Which queries are active: the sample of keys, the measure on it, and the rank of each query.

Source: Zhou et al. 2021, Informer, arXiv:2012.07436, section 3.1 and algorithm 1; our deviations stand in `mechanism`.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.draws import generator


def times_log(factor: float, visible: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """`factor`·ln of the number of visible keys, in float64."""
    return factor * visible.clamp_min(1).to(torch.float64).log()


def draw_sample(wanted: Int[Tensor, "n"], visible: Int[Tensor, "n"], real: Bool[Tensor, "n"], seed: int) -> Int[Tensor, "n s"]:
    """For each query `wanted` keys drawn evenly, with repetition, from those it may see; −1 in the columns beyond.

    Each column is a draw of its own, so that a query's keys do not depend on how many tokens follow it.
    """
    tokens = real.nonzero().squeeze(-1)
    columns = []
    for column in range(int(wanted.max())):
        source = generator(seed, f"sampled keys {column}")
        chance = torch.rand(len(real), generator=source, dtype=torch.float64).to(real.device)
        nth = (chance * visible).floor().to(torch.int64)
        columns.append(torch.where((column < wanted) & real, tokens[nth.clamp_max(len(tokens) - 1)], -1))
    return torch.stack(columns, dim=-1)


def sampled_measure(sequence: Sequence, sample: Int[Tensor, "n s"]) -> Float[Tensor, "h n"]:
    """The largest minus the mean score of each query over its sampled keys. Cost n·s·d per head."""
    parts = []
    for rows in row_chunks(sequence.n, sequence.h * sample.shape[1] * sequence.d):
        keys = sequence.k[:, sample[rows].clamp_min(0)]
        scores = (keys @ sequence.q[:, rows, :, None]).squeeze(-1) / math.sqrt(sequence.d)
        parts.append(_spread(scores, sample[rows] >= 0))
    return torch.cat(parts, dim=1)


def exact_measure(sequence: Sequence) -> Float[Tensor, "h n"]:
    """The largest minus the mean score of each query over all visible keys. Cost n²·d per head; memory 4 M scores."""
    parts = []
    for rows in row_chunks(sequence.n, sequence.h * sequence.n):
        scores = sequence.q[:, rows] @ sequence.k.mT / math.sqrt(sequence.d)
        parts.append(_spread(scores, sequence.allowed(torch.arange(rows.start, rows.stop, device=scores.device))))
    return torch.cat(parts, dim=1)


def _spread(scores: Float[Tensor, "h r c"], mask: Bool[Tensor, "r c"]) -> Float[Tensor, "h r"]:
    mean = scores.masked_fill(~mask, 0).sum(-1) / mask.sum(-1).clamp_min(1)
    return scores.masked_fill(~mask, -math.inf).amax(-1) - mean


def ranks(measure: Float[Tensor, "h n"], causal: bool) -> Int[Tensor, "h n"]:
    """The rank of each query's measure, 1 for the largest: among all queries, or among those up to it."""
    return 1 + (_earlier_at_least(measure) if causal else _larger(measure))


def _larger(measure: Float[Tensor, "h n"]) -> Int[Tensor, "h n"]:
    """How many queries have a larger measure than each; of two equal ones the earlier counts as larger."""
    order = measure.sort(dim=-1, descending=True, stable=True).indices
    return order.argsort(dim=-1)


def _earlier_at_least(measure: Float[Tensor, "h n"]) -> Int[Tensor, "h n"]:
    """How many earlier queries have at least each one's measure, by merging sorted halves. Cost n·ln² n per head."""
    heads, n = measure.shape
    size = 1 << (n - 1).bit_length()
    padded = torch.nn.functional.pad(measure, (0, size - n), value=-math.inf)
    count = torch.zeros(heads, size, dtype=torch.int64, device=measure.device)
    half = 1
    while half < size:
        pairs = padded.view(heads, -1, 2, half)
        left = pairs[:, :, 0].sort(dim=-1).values
        smaller = torch.searchsorted(left, pairs[:, :, 1].contiguous())
        count.view(heads, -1, 2, half)[:, :, 1] += half - smaller
        half *= 2
    return count[:, :n]
