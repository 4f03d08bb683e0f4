"""How widely a map spreads its weight: entropy, effective tokens, sinks, effective rank, weight by distance.

Source: effective rank after Roy and Vetterli 2007 (EUSIPCO); sinks after Xiao et al. 2023, arXiv:2309.17453, by a rule of ours
that requires a short value vector instead of the first position. Entropies are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence as Collection
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.sampling import QuerySample, Unavailable, blocks, map_rows, sample_queries

__all__ = [
    "LARGEST_RANKED",
    "Ranks",
    "Sinks",
    "Spread",
    "effective_rank",
    "effective_tokens",
    "energy_rank",
    "entropy",
    "find_sinks",
    "keys_for_mass",
    "mass_by_distance",
    "mass_within",
    "ranks",
    "sink_mask",
    "spread",
]

SINK_DISTANCE = 32
SINK_WEIGHT = 0.02
SINK_VALUE = 0.5
LARGEST_RANKED = 4096
"""The most tokens for which singular values are computed: they cost n³."""
NEGATIVE = -1e-6
"""A weight below this is negative; one above it may be rounding."""

Sinks = tuple[tuple[int, ...], ...]
"""The sinks of each head, by their place in the sequence."""


def entropy(rows: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """H = −Σ w ln w of each row, in nats; at most ln n. Each row must be non-negative and sum to 1; 0·ln 0 is 0."""
    negative: Float[Tensor, "*b"] = torch.special.xlogy(rows, rows).sum(-1)
    return -negative


def effective_tokens(rows: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """e^H, 1 … n: how many equally weighted tokens would have this entropy."""
    return entropy(rows).exp()


def keys_for_mass(rows: Float[Tensor, "*b n"], share: float = 0.9) -> Int[Tensor, "*b"]:
    """The smallest number of keys that hold at least `share` of each row's weight; 0 for a row of zeros."""
    sums = rows.sort(dim=-1, descending=True).values.cumsum(-1)
    # Relative to the row's sum, with room for rounding: a single key with all the weight must suffice.
    return ((sums < (share - 1e-9) * sums[..., -1:]).sum(-1) + (sums[..., -1] > 0)).to(torch.int64)


def find_sinks(sequence: Sequence, sample: QuerySample | None = None) -> Sinks:
    """The keys with a short value to which the (sampled) queries at least 32 tokens later give ≥ 2% of their weight on average.

    A value is short if its norm is at most half the median over the head's real values. The position is not used. A sequence of
    fewer than 33 tokens has no sinks. Below about 100 tokens the rule is unreliable: uniform attention gives nearly 2% there.
    Cost: exact rows of the sampled queries.
    """
    sample = sample or sample_queries(sequence)
    weight = torch.zeros(sequence.h, sequence.n, dtype=torch.float64, device=sequence.q.device)
    count = torch.zeros(sequence.n, dtype=torch.float64, device=sequence.q.device)
    places = torch.arange(sequence.n, device=sequence.q.device)
    for queries in blocks(sequence, sample):
        later = queries[:, None] - places >= SINK_DISTANCE
        weight += (map_rows(sequence, queries) * later).sum(1)
        count += later.sum(0)
    norms = sequence.v.double().norm(dim=-1)
    median = norms[:, sequence.real].quantile(0.5, dim=-1, keepdim=True)
    found = (count > 0) & (weight / count.clamp_min(1) >= SINK_WEIGHT) & (norms <= SINK_VALUE * median) & sequence.real
    return tuple(tuple(head.nonzero().squeeze(-1).tolist()) for head in found)


def sink_mask(sinks: Sinks, n: int) -> Bool[Tensor, "h n"]:
    """True where a key is a sink of the head."""
    mask = torch.zeros(len(sinks), n, dtype=torch.bool)
    for head, keys in enumerate(sinks):
        mask[head, list(keys)] = True
    return mask


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """How widely each sampled row spreads, `[h r]`; `bound [r]` is ln of the number of visible keys.

    Where sinks are left out, the rest of the row is divided by its sum first. A row without a rest has entropy 0 and no keys.
    """

    sample: QuerySample
    entropy: Float[Tensor, "h r"]
    effective: Float[Tensor, "h r"]
    keys: Int[Tensor, "h r"]
    bound: Float[Tensor, "r"]


def spread(
    of: Sequence | Attended, sample: QuerySample | None = None, *, sinks: Sinks | None = None, share: float = 0.9
) -> Spread | Unavailable:
    """Entropy, effective tokens and keys for `share` of the weight, of exact attention or of a mechanism's map.

    `sinks` are left out of the rows. Cost: the rows of the sampled queries, each sorted. Unavailable, with the reason, where the
    rows of the mechanism are not shares.
    """
    sequence, reason = _sequence(of)
    if reason is not None:
        return Unavailable(reason=reason)
    sample = sample or sample_queries(sequence)
    hidden = None if sinks is None else sink_mask(sinks, sequence.n).to(sequence.q.device)[:, None]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for queries in blocks(sequence, sample):
        rows = map_rows(of, queries)
        if float(rows.min()) < NEGATIVE:
            return Unavailable(reason="Some weights are negative, so the rows are no shares.")
        rows = rows.clamp_min(0)
        if hidden is not None:
            rows = rows.masked_fill(hidden, 0.0)
        total = rows.sum(-1, keepdim=True)
        rows = torch.where(total > 0, rows / total, torch.zeros_like(rows))
        visible = sequence.allowed(queries).sum(-1)
        parts.append((entropy(rows), keys_for_mass(rows, share), visible.double().log()))
    entropies, keys = torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts], 1)
    bound = torch.cat([part[2] for part in parts])
    return Spread(sample=sample, entropy=entropies, effective=entropies.exp(), keys=keys, bound=bound)


def mass_by_distance(of: Sequence | Attended, sample: QuerySample | None = None) -> Float[Tensor, "h n"]:
    """The mean over the (sampled) rows of the weight at each distance |i − j|, 0 … n − 1. It sums to 1 where rows do."""
    sequence = _sequence(of)[0]
    sample = sample or sample_queries(sequence)
    mass = torch.zeros(sequence.h, sequence.n, dtype=torch.float64, device=sequence.q.device)
    places = torch.arange(sequence.n, device=sequence.q.device)
    for queries in blocks(sequence, sample):
        rows = map_rows(of, queries)
        distance = (queries[:, None] - places).abs()
        mass.scatter_add_(1, distance.flatten().expand(sequence.h, -1), rows.flatten(1))
    return mass / len(sample.queries)


def mass_within(mass: Float[Tensor, "h n"], distance: int) -> Float[Tensor, "h"]:
    """The sum of `mass_by_distance` over distances below `distance`, which includes the query's own token."""
    within: Float[Tensor, "h"] = mass[:, :distance].sum(-1)
    return within


def effective_rank(singular_values: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """e^H of the singular values divided by their sum: 1 for a map of rank one, n for the identity, 0 for zeros."""
    total = singular_values.sum(-1, keepdim=True)
    shares = torch.where(total > 0, singular_values / total, torch.zeros_like(singular_values))
    return torch.where(total.squeeze(-1) > 0, effective_tokens(shares), torch.zeros_like(total.squeeze(-1)))


def energy_rank(singular_values: Float[Tensor, "*b n"], share: float = 0.99) -> Int[Tensor, "*b"]:
    """The smallest k such that the largest k singular values hold `share` of Σ σ²; 0 for zeros."""
    return keys_for_mass(singular_values**2, share)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranks:
    """Singular values of each head's map in descending order, `[h n]`: of the whole map, and with its sinks' columns set to 0."""

    sinks: Sinks
    values: Float[Tensor, "h n"]
    without_sinks: Float[Tensor, "h n"]


def ranks(of: Sequence | Attended, sinks: Sinks | None = None) -> Ranks | Unavailable:
    """Singular values with and without the sinks (by the rule of `find_sinks` unless given). Cost: at most 2·h·n³.

    Unavailable beyond `LARGEST_RANKED` tokens. Rows and columns of padding are zeros and add nothing.
    """
    sequence = _sequence(of)[0]
    if sequence.n > LARGEST_RANKED:
        return Unavailable(reason=f"Singular values cost n³: they are computed up to {LARGEST_RANKED:,} tokens.")
    sinks = find_sinks(sequence) if sinks is None else sinks
    mask = sink_mask(sinks, sequence.n).to(sequence.q.device)
    queries = torch.arange(sequence.n, device=sequence.q.device)
    whole, without = [], []
    for head in range(sequence.h):
        weights = _one_head(of, head, queries)
        whole.append(torch.linalg.svdvals(weights))
        # A head without sinks has the same values twice: they are computed once.
        rest = whole[-1] if not sinks[head] else torch.linalg.svdvals(weights.masked_fill(mask[head], 0.0))
        without.append(rest)
    return Ranks(sinks=sinks, values=torch.stack(whole), without_sinks=torch.stack(without))


def _one_head(of: Sequence | Attended, head: int, queries: Collection[int] | Tensor) -> Float[Tensor, "r n"]:
    if isinstance(of, Sequence):
        return map_rows(of.select_heads(head), torch.as_tensor(queries))[0]
    return of.rows(queries, None, head)[0].double()


def _sequence(of: Sequence | Attended) -> tuple[Sequence, str | None]:
    """The sequence of a map, and the reason why its rows are not shares (None: they are)."""
    return (of, None) if isinstance(of, Sequence) else (of.sequence, of.mechanism.not_stochastic)
