"""The exact side of every comparison on a sequence: exact attention's rows and outputs for the sampled queries.

It is computed once for a sequence and a sample and kept, because a page compares a dozen mechanisms on one sequence.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.sampling import QuerySample, blocks, sample_queries
from longattn_core.measures.spread import Sinks, find_sinks, sink_mask

__all__ = ["LEAST", "Reference", "ReferenceBlock", "ReferenceRows", "mean_of_visible", "reference"]

LEAST = -1e250
"""Stands for a logarithm of −∞: times any weight that is not 0 it stays far below every sum of logarithms."""

KEPT_CELLS = 1 << 20
"""The most sampled pairs for which a reference is kept."""


def mean_of_visible(sequence: Sequence) -> Float[Tensor, "h n e"]:
    """The output of uniform attention: the mean of the values that each query may see; 0 for a padded query. Cost h·n·e."""
    real = sequence.real[:, None]
    values = sequence.v.double() * real
    if sequence.causal:
        mean = values.cumsum(1) / real.double().cumsum(0).clamp_min(1)
    else:
        mean = (values.sum(1, keepdim=True) / real.sum()).expand_as(values)
    return (mean * real).to(sequence.v.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceRows:
    """Exact attention's rows of some queries in float64, over all keys or over all but the sinks.

    `open_pairs` are the pairs that are compared. On these, `exact` are the weights, `mass` their sums, `share` the weights
    divided by `mass`, and `reference` the outputs. `control` is the squared error of uniform attention.

    `log_share` is the logarithm of `share`, computed as a logarithm: a weight that underflows to 0 would make the divergence
    infinite. For a pair that is not open it is `2·LEAST` in place of −∞, because 0·(−∞) is no number.
    """

    exact: Float[Tensor, "h r n"]
    log_share: Float[Tensor, "h r n"]
    share: Float[Tensor, "h r n"]
    mass: Float[Tensor, "h r"]
    reference: Float[Tensor, "h r e"]
    control: Float[Tensor, "h r"]
    open_pairs: Bool[Tensor, "#h r n"]

    @classmethod
    def of(
        cls,
        log_exact: Float[Tensor, "h r n"],
        open_pairs: Bool[Tensor, "#h r n"],
        values: Float[Tensor, "h n e"],
        control: Float[Tensor, "h r e"],
    ) -> ReferenceRows:
        """From the logarithms of the exact weights (−∞ where a pair is not open) and the outputs of uniform attention."""
        exact = log_exact.exp()
        mass, reference = exact.sum(-1), exact @ values
        log_share = log_exact - mass.log()[..., None]
        return cls(
            exact=exact,
            log_share=log_share.clamp_min(2 * LEAST),
            share=log_share.exp(),
            mass=mass,
            reference=reference,
            control=(control - reference).square().sum(-1),
            open_pairs=open_pairs,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceBlock:
    """Some of the sampled queries: the pairs that the mask allows, and their exact rows with and without the sinks."""

    queries: Int[Tensor, "r"]
    allowed: Bool[Tensor, "r n"]
    whole: ReferenceRows
    rest: ReferenceRows | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """The exact side of every comparison on one sequence and sample."""

    sample: QuerySample
    sinks: Sinks
    values: Float[Tensor, "h n e"]
    blocks: Iterable[ReferenceBlock]


_kept: list[tuple[weakref.ref[Sequence], tuple[int | None, int, Sinks | None], Reference]] = []
_guard = threading.Lock()


def reference(sequence: Sequence, queries: int | None, seed: int, sinks: Sinks | None) -> Reference:
    """The exact side for a sample of queries; sinks are found by their rule unless given.

    The last three references, each of a sequence, a sample and sinks, are kept if they are small (`KEPT_CELLS`).
    Cost: exact rows of the sampled queries, n·(2d + 2e) multiply-adds a row and head.
    """
    settings = (queries, seed, sinks)
    with _guard:
        _kept[:] = [entry for entry in _kept if entry[0]() is not None]
        for kept, its_settings, made in _kept:
            if kept() is sequence and its_settings == settings:
                return made
    sample = sample_queries(sequence, queries, seed)
    found = find_sinks(sequence, sample) if sinks is None else sinks
    made = Reference(sample=sample, sinks=found, values=sequence.v.double(), blocks=_blocks(sequence, sample, found))
    if sequence.h * len(sample.queries) * sequence.n <= KEPT_CELLS:
        made = replace(made, blocks=tuple(made.blocks))
        with _guard:
            _kept[:] = [*_kept[-2:], (weakref.ref(sequence), settings, made)]
    return made


def _blocks(sequence: Sequence, sample: QuerySample, sinks: Sinks) -> Iterator[ReferenceBlock]:
    control, values = mean_of_visible(sequence), sequence.v.double()
    is_sink = sink_mask(sinks, sequence.n).to(sequence.q.device)[:, None]
    for queries in blocks(sequence, sample):
        scores = sequence.q[:, queries] @ sequence.k.mT / math.sqrt(sequence.d)
        allowed = sequence.allowed(queries)
        log_exact = scores.double().masked_fill(~allowed, -math.inf).log_softmax(-1)
        mean = control[:, queries].double()
        whole, rest = ReferenceRows.of(log_exact, allowed[None], values, mean), None
        if any(sinks):
            sinks_part = (allowed & is_sink).double() / allowed.sum(-1, keepdim=True) @ values
            without_sinks = log_exact.masked_fill(is_sink, -math.inf)
            rest = ReferenceRows.of(without_sinks, allowed[None] & ~is_sink, values, mean - sinks_part)
        yield ReferenceBlock(queries=queries, allowed=allowed, whole=whole, rest=rest)
