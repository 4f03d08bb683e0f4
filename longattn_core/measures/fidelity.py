"""How near a mechanism comes to exact attention: its output's error, and how far the two maps agree.

Source: ours; total variation and the Kullback–Leibler divergence as in any textbook. Each is given for the whole
map and without the head's sinks, because a sink takes much weight and adds next to nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts import Attended, Sequence
from longattn_core.measures.sampling import QuerySample, Unavailable, blocks, sample_queries
from longattn_core.measures.spread import NEGATIVE, Sinks, find_sinks, sink_mask

__all__ = ["Agreement", "Fidelity", "Unavailable", "fidelity", "mean_of_visible", "relative_error"]

PerHead = Float[Tensor, "h"]


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


def fidelity(attended: Attended, *, queries: int | None = None, seed: int = 0, sinks: Sinks | None = None) -> Fidelity:
    """Measure what a mechanism gave back against exact attention on the same sequence.

    `queries` looks at so many of them only (see `sample_queries`); sinks are found by their rule if none are given.
    Cost: exact rows and the mechanism's rows of the sampled queries, n·(2d + 2e) a row and head for the former;
    memory about 100 MB whatever n. Raises: ValueError for a sample below 1.
    """
    sequence = attended.sequence
    sample = sample_queries(sequence, queries, seed)
    sinks = find_sinks(sequence, sample) if sinks is None else sinks
    mask = sink_mask(sinks, sequence.n).to(sequence.q.device)
    control, values = mean_of_visible(sequence), sequence.v.double()
    whole, rest = _Tally(), _Tally()
    negative: int | None = None
    for block in blocks(sequence, sample):
        pair = _Rows.of(attended, block, control, values)
        if negative is None and float(pair.given.min()) < NEGATIVE:
            negative = int(block[(pair.given < NEGATIVE).any(-1).any(0)][0])
        whole.add(pair, None)
        if any(sinks):
            rest.add(pair, mask)
    reason = attended.mechanism.shares
    if reason is None and negative is not None:
        reason = f"The row of query {negative} holds a negative weight, so rows are no shares."
    agreement = whole.agreement(reason)
    without = rest.agreement(reason) if any(sinks) else agreement
    return Fidelity(sample=sample, sinks=sinks, whole=agreement, without_sinks=without)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """Both maps' rows of some queries, and what they put out, in float64."""

    log_exact: Float[Tensor, "h r n"]
    exact: Float[Tensor, "h r n"]
    given: Float[Tensor, "h r n"]
    seen: Bool[Tensor, "h r n"]
    allowed: Bool[Tensor, "r n"]
    values: Float[Tensor, "h n e"]
    output: Float[Tensor, "h r e"]
    control: Float[Tensor, "h r e"]

    @classmethod
    def of(
        cls,
        attended: Attended,
        queries: Int[Tensor, "r"],
        control: Float[Tensor, "h n e"],
        values: Float[Tensor, "h n e"],
    ) -> _Rows:
        sequence = attended.sequence
        scores = sequence.q[:, queries] @ sequence.k.mT / math.sqrt(sequence.d)
        allowed = sequence.allowed(queries)
        # The logarithm itself, because a weight that underflows to 0 would make the divergence infinite.
        log_exact = scores.double().masked_fill(~allowed, -math.inf).log_softmax(-1)
        return cls(
            log_exact=log_exact,
            exact=log_exact.exp(),
            given=attended.rows(queries).double(),
            seen=attended.seen(queries) & allowed,
            allowed=allowed,
            values=values,
            output=attended.output[:, queries].double(),
            control=control[:, queries].double(),
        )


class _Tally:
    """Sums over the rows seen so far, per head."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, rows: _Rows, sinks: Bool[Tensor, "h n"] | None) -> None:
        """Count some rows, without the sinks' columns if there are any to leave out."""
        exact, given, log_exact, open_pairs = rows.exact, rows.given, rows.log_exact, rows.allowed[None]
        output, control = rows.output, rows.control
        if sinks is not None:
            hidden = sinks[:, None]
            output = output - given.masked_fill(~hidden, 0.0) @ rows.values
            plain = (rows.allowed & hidden).double() / rows.allowed.sum(-1, keepdim=True)
            control = control - plain @ rows.values
            exact, given = exact.masked_fill(hidden, 0.0), given.masked_fill(hidden, 0.0)
            log_exact, open_pairs = log_exact.masked_fill(hidden, -math.inf), open_pairs & ~hidden
        reference, mass = exact @ rows.values, exact.sum(-1)
        self._sum("norm", reference.square().sum(-1))
        self._sum("error", (output - reference).square().sum(-1))
        self._sum("control", (control - reference).square().sum(-1))
        self._sum("mass", mass)
        self._sum("found", (exact * rows.seen).sum(-1))
        self._sum("pairs", open_pairs.sum(-1).double().expand_as(mass))
        self._sum("looked", (rows.seen & open_pairs).sum(-1).double())
        self._shares(log_exact, mass, given)

    def _shares(
        self, log_exact: Float[Tensor, "h r n"], mass: Float[Tensor, "h r"], given: Float[Tensor, "h r n"]
    ) -> None:
        log_exact = log_exact - mass.log()[..., None]
        total = given.sum(-1, keepdim=True)
        # The first query of a causal map may see nothing but a sink: it has no mass to compare, and counts with none.
        found = (total.squeeze(-1) > 0) & (mass > 0)
        given = torch.where(total > 0, given / total, torch.zeros_like(given))
        variation = torch.where(found, 0.5 * (log_exact.exp() - given).abs().sum(-1), torch.ones_like(mass))
        # 0·(−∞) where neither has weight is no number; it counts as 0, as a limit.
        crossed = torch.where(given > 0, given * log_exact, torch.zeros_like(given)).sum(-1)
        divergence = (torch.special.xlogy(given, given).sum(-1) - crossed).clamp_min(0)
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
