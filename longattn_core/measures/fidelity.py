"""How near a mechanism comes to exact attention: its output's error, and how far the two maps agree.

Source: ours; total variation and the Kullback–Leibler divergence as in any textbook. Each is given for the whole
map and without the head's sinks, because a sink takes much weight and adds next to nothing.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.sampling import QuerySample, Unavailable, blocks, sample_queries
from longattn_core.measures.spread import NEGATIVE, Sinks, find_sinks, sink_mask

__all__ = ["Agreement", "Fidelity", "Unavailable", "fidelity", "mean_of_visible", "relative_error"]

PerHead = Float[Tensor, "h"]
Views: TypeAlias = Callable[[Int[Tensor, "r"]], tuple[Float[Tensor, "h r n"], Bool[Tensor, "h r n"]]]


def relative_error(output: Float[Tensor, "h r e"], reference: Float[Tensor, "h r e"]) -> Float[Tensor, "h"]:
    """‖Ô − O‖_F/‖O‖_F of each head, in float64. 0 where both are zero, infinite where only the reference is."""
    return _ratio((output.double() - reference.double()).square().sum((1, 2)), reference.double().square().sum((1, 2)))


def mean_of_visible(sequence: Sequence) -> Float[Tensor, "h n e"]:
    """The control: each query's plain mean of the values that the mask lets it see; zero for a padded query. Cost h·n·e."""
    real = sequence.real[:, None]
    values = sequence.v.double() * real
    if sequence.causal:
        mean = values.cumsum(1) / real.double().cumsum(0).clamp_min(1)
    else:
        mean = (values.sum(1, keepdim=True) / real.sum()).expand_as(values)
    return (mean * real).to(sequence.v.dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """One mechanism against exact attention, per head `[h]`, over the sampled queries.

    - `error`: ‖Ô − O‖_F/‖O‖_F; `control`: the same for the mean of the visible values.
    - `recall`: the part of exact attention's mass that lies on pairs the mechanism looked at; `share`: the part of the
      allowed pairs that it looked at. Recall at or below the share is chance.
    - `overlap`: Σ_j min(exact, mechanism) = 1 − `variation`, a row's total variation ½ Σ_j |exact − mechanism|;
      `divergence`: KL(mechanism ‖ exact) in nats. Means over rows; `Unavailable`, with the reason, where rows are no shares.

    Without sinks the sinks' columns are left out. The outputs are then what the other keys add; recall is of the mass
    outside the sinks; overlap, variation and divergence compare what is left of the rows, made shares again, each
    row counting with the mass that exact attention leaves outside the sinks. Where the mechanism leaves
    nothing there, the variation is 1, and the row is left out of the divergence.
    """

    error: PerHead
    control: PerHead
    recall: PerHead
    share: PerHead
    overlap: PerHead | Unavailable
    variation: PerHead | Unavailable
    divergence: PerHead | Unavailable


@dataclass(frozen=True, kw_only=True, eq=False)
class Fidelity:
    """Agreement over the whole map and without the sinks; `sample` says on which queries, `sinks` which keys they are."""

    sample: QuerySample
    sinks: Sinks
    whole: Agreement
    without_sinks: Agreement


def fidelity(
    attended: Attended, *, queries: int | None = None, seed: int = 0, sinks: Sinks | None = None, views: Views | None = None
) -> Fidelity:
    """Measure what a mechanism gave back against exact attention on the same sequence.

    `queries` looks at so many of them only (see `sample_queries`); sinks are found by their rule if none are given;
    `views` takes the place of the mechanism's own `rows_and_kept`, where the sample's rows are at hand already.
    Cost: exact rows and the mechanism's rows of the sampled queries, n·(2d + 2e) a row and head for the former, which
    are kept for the next mechanism where they are few; memory about 100 MB whatever n. Raises: ValueError for a sample below 1.
    """
    sequence = attended.sequence
    whole, rest = _Tally(), _Tally()
    negative: int | None = None
    exact = _exact(sequence, queries, seed, sinks)
    for block in exact.blocks:
        weights, seen = (views or attended.rows_and_kept)(block.queries)
        # A copy, for its sinks are taken out of it in place.
        given, seen = weights.to(torch.float64, copy=True), seen & block.allowed
        output = attended.output[:, block.queries].double()
        if negative is None and float(given.min()) < NEGATIVE:
            negative = int(block.queries[(given < NEGATIVE).any(-1).any(0)][0])
        logs = torch.special.xlogy(given, given)
        whole.add(block.whole, given, logs, seen, output)
        if block.rest is not None:
            given, logs, output = _without(exact.sinks, given, logs, output, exact.values)
            rest.add(block.rest, given, logs, seen, output)
    reason = attended.mechanism.not_stochastic
    if reason is None and negative is not None:
        reason = f"The row of query {negative} holds a negative weight, so rows are no shares."
    agreement = whole.agreement(reason)
    without = rest.agreement(reason) if any(exact.sinks) else agreement
    return Fidelity(sample=exact.sample, sinks=exact.sinks, whole=agreement, without_sinks=without)


def _without(
    sinks: Sinks,
    given: Float[Tensor, "h r n"],
    logs: Float[Tensor, "h r n"],
    output: Float[Tensor, "h r e"],
    values: Float[Tensor, "h n e"],
) -> tuple[Float[Tensor, "h r n"], Float[Tensor, "h r n"], Float[Tensor, "h r e"]]:
    """A mechanism's rows, their w·ln w, and its output without what the sinks add. The rows are changed in place."""
    output = output.clone()
    for head, keys in enumerate(sinks):
        columns = list(keys)
        output[head] -= given[head][:, columns] @ values[head, columns]
        given[head][:, columns] = 0.0
        logs[head][:, columns] = 0.0
    return given, logs, output


LEAST = -1e250
"""Stands for a logarithm of −∞: a product with any weight that is not 0 stays far below every sum of logarithms."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """Exact attention's part of a comparison for some queries, in float64: over all keys, or without the sinks.

    `share` are its rows over the open pairs, made shares again, and `log_share` their logarithm: the logarithm itself,
    because a weight that underflows to 0 would make the divergence infinite. Where a pair is not open it is `2·LEAST` in
    place of −∞, because 0·(−∞) is no number.
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
    ) -> _Side:
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
class _Block:
    """Some sampled queries of a sequence: what they may look at, and exact attention with and without the sinks."""

    queries: Int[Tensor, "r"]
    allowed: Bool[Tensor, "r n"]
    whole: _Side
    rest: _Side | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Exact:
    """The exact side of every comparison on one sequence and sample."""

    sample: QuerySample
    sinks: Sinks
    values: Float[Tensor, "h n e"]
    blocks: Iterable[_Block]


KEPT_CELLS = 1 << 20
"""Sampled pairs up to which the exact side is kept: a page compares a dozen mechanisms on one sequence."""
_kept: list[tuple[weakref.ref[Sequence], tuple[int | None, int, Sinks | None], _Exact]] = []
_guard = threading.Lock()


def _exact(sequence: Sequence, queries: int | None, seed: int, sinks: Sinks | None) -> _Exact:
    """The exact side; the last three, each of a sequence, a sample and sinks, are kept where they are small."""
    settings = (queries, seed, sinks)
    with _guard:
        _kept[:] = [one for one in _kept if one[0]() is not None]
        for kept, its_settings, made in _kept:
            if kept() is sequence and its_settings == settings:
                return made
    sample = sample_queries(sequence, queries, seed)
    found = find_sinks(sequence, sample) if sinks is None else sinks
    made = _Exact(sample=sample, sinks=found, values=sequence.v.double(), blocks=_blocks(sequence, sample, found))
    if sequence.h * len(sample.queries) * sequence.n <= KEPT_CELLS:
        made = replace(made, blocks=tuple(made.blocks))
        with _guard:
            _kept[:] = [*_kept[-2:], (weakref.ref(sequence), settings, made)]
    return made


def _blocks(sequence: Sequence, sample: QuerySample, sinks: Sinks) -> Iterator[_Block]:
    control, values = mean_of_visible(sequence), sequence.v.double()
    hidden = sink_mask(sinks, sequence.n).to(sequence.q.device)[:, None]
    for queries in blocks(sequence, sample):
        scores = sequence.q[:, queries] @ sequence.k.mT / math.sqrt(sequence.d)
        allowed = sequence.allowed(queries)
        log_exact = scores.double().masked_fill(~allowed, -math.inf).log_softmax(-1)
        plain = control[:, queries].double()
        whole, rest = _Side.of(log_exact, allowed[None], values, plain), None
        if any(sinks):
            sunk = (allowed & hidden).double() / allowed.sum(-1, keepdim=True) @ values
            rest = _Side.of(log_exact.masked_fill(hidden, -math.inf), allowed[None] & ~hidden, values, plain - sunk)
        yield _Block(queries=queries, allowed=allowed, whole=whole, rest=rest)


class _Tally:
    """Sums over the rows seen so far, per head."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(
        self,
        side: _Side,
        given: Float[Tensor, "h r n"],
        logs: Float[Tensor, "h r n"],
        seen: Bool[Tensor, "h r n"],
        output: Float[Tensor, "h r e"],
    ) -> None:
        """Count some rows of a mechanism: its weights w, w·ln w, what it looked at, and what it put out."""
        self._sum("norm", side.reference.square().sum(-1))
        self._sum("error", (output - side.reference).square().sum(-1))
        self._sum("control", side.control)
        self._sum("mass", side.mass)
        pairs, looked = side.open_pairs.sum(-1), (seen & side.open_pairs).sum(-1)
        # A mechanism that looks at everything has found everything.
        everything = bool((looked == pairs).all())
        self._sum("found", side.mass if everything else (side.exact * seen).sum(-1))
        self._sum("pairs", pairs.double().expand_as(side.mass))
        self._sum("looked", looked.double())
        self._shares(side, given, logs)

    def _shares(self, side: _Side, given: Float[Tensor, "h r n"], logs: Float[Tensor, "h r n"]) -> None:
        mass, total = side.mass, given.sum(-1)
        # The first query of a causal map may see nothing but a sink: it has no mass to compare, and counts with none.
        found = (total > 0) & (mass > 0)
        scale = torch.where(total > 0, 1 / total, torch.zeros_like(total))
        # Both rows add up to one, so half the sum of their distances is what their smaller parts leave of one.
        overlap = torch.minimum(side.share, given * scale[..., None]).sum(-1)
        variation = torch.where(found, (1 - overlap).clamp_min(0), torch.ones_like(mass))
        # With w/T for weights of the sum T: Σ w/T·ln(w/T) = Σ w·ln w/T − ln T.
        crossed = torch.einsum("hrn,hrn->hr", given, side.log_share)
        crossed = torch.where(crossed < LEAST, -math.inf, crossed)
        divergence = (scale * (logs.sum(-1) - crossed) - total.log()).clamp_min(0)
        self._sum("variation", mass * variation)
        self._sum("divergence", torch.where(found, mass * divergence, torch.zeros_like(mass)))
        self._sum("compared", torch.where(found, mass, torch.zeros_like(mass)))

    def _sum(self, name: str, rows: Float[Tensor, "h r"]) -> None:
        so_far = self.sums.get(name)
        self.sums[name] = rows.sum(-1) if so_far is None else so_far + rows.sum(-1)

    def agreement(self, reason: str | None) -> Agreement:
        """The measures of all rows counted; those of shares give way to the reason why there are none."""
        s = self.sums
        missing = None if reason is None else Unavailable(reason=reason)
        variation = s["variation"] / s["mass"]
        return Agreement(
            error=_ratio(s["error"], s["norm"]),
            control=_ratio(s["control"], s["norm"]),
            recall=s["found"] / s["mass"],
            share=s["looked"] / s["pairs"],
            overlap=missing or 1 - variation,
            variation=missing or variation,
            divergence=missing or s["divergence"] / s["compared"],
        )


def _ratio(squares: Float[Tensor, "h"], norms: Float[Tensor, "h"]) -> Float[Tensor, "h"]:
    """√(squares/norms), 0 for 0/0."""
    return torch.where(squares > 0, (squares / norms).sqrt(), torch.zeros_like(squares))
