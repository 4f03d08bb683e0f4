"""How near a mechanism comes to exact attention: the error of its output, and the agreement of the two maps.

Source: ours; total variation and the Kullback–Leibler divergence as in any textbook. Each measure is given for the whole map
and without the head's sinks, because a sink takes much of the weight and adds next to nothing to the output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended
from longattn_core.measures.reference import LEAST, ReferenceRows, mean_of_visible, reference
from longattn_core.measures.sampling import QuerySample, Unavailable
from longattn_core.measures.spread import NEGATIVE, Sinks

__all__ = ["Agreement", "Fidelity", "Unavailable", "fidelity", "mean_of_visible", "relative_error"]

PerHead = Float[Tensor, "h"]
Views: TypeAlias = Callable[[Int[Tensor, "r"]], tuple[Float[Tensor, "h r n"], Bool[Tensor, "h r n"]]]


def relative_error(output: Float[Tensor, "h r e"], reference: Float[Tensor, "h r e"]) -> Float[Tensor, "h"]:
    """‖Ô − O‖_F/‖O‖_F of each head, in float64. 0 where both are zero, infinite where only the reference is."""
    return _ratio((output.double() - reference.double()).square().sum((1, 2)), reference.double().square().sum((1, 2)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """One mechanism compared with exact attention, per head `[h]`, over the sampled queries.

    - `error`: ‖Ô − O‖_F/‖O‖_F. `control`: the same for uniform attention.
    - `recall`: the share of exact attention's weight that lies on pairs the mechanism keeps. `share`: the share of the allowed
      pairs that it keeps. Random pairs have recall = share.
    - `overlap`: Σ_j min(exact, mechanism) = 1 − `variation`, where a row's total variation is ½ Σ_j |exact − mechanism|.
      `divergence`: KL(mechanism ‖ exact) in nats. Both are means over rows; `Unavailable`, with the reason, where the rows of
      the mechanism are not shares.

    Without sinks, the sinks' columns are left out. The outputs are then the contributions of the other keys, and recall is of the
    weight outside the sinks. Overlap, variation and divergence compare the rest of the rows, divided by its sum; each row
    counts with the weight that exact attention has outside the sinks. Where the mechanism has none there, the variation is 1,
    and the row is left out of the divergence.
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
    """Agreement over the whole map and without the sinks: `sample` are the queries, `sinks` the sinks of each head."""

    sample: QuerySample
    sinks: Sinks
    whole: Agreement
    without_sinks: Agreement


def fidelity(
    attended: Attended, *, queries: int | None = None, seed: int = 0, sinks: Sinks | None = None, views: Views | None = None
) -> Fidelity:
    """Compare the output and the map of a mechanism with exact attention on the same sequence.

    `queries` is the size of a sample of queries (see `sample_queries`); None takes all. Sinks are found by their rule unless
    given. `views` replaces the mechanism's `rows_and_kept` for a caller that already has the rows.
    Cost: the mechanism's rows of the sampled queries, and exact rows (see `reference`); memory about 100 MB for every n.
    Raises: ValueError for a sample of fewer than one query.
    """
    whole, rest = _Tally(), _Tally()
    negative: int | None = None
    exact = reference(attended.sequence, queries, seed, sinks)
    for block in exact.blocks:
        weights, kept = (views or attended.rows_and_kept)(block.queries)
        # A copy, because the sinks are removed from it in place.
        given, kept = weights.to(torch.float64, copy=True), kept & block.allowed
        output = attended.output[:, block.queries].double()
        if negative is None and float(given.min()) < NEGATIVE:
            negative = int(block.queries[(given < NEGATIVE).any(-1).any(0)][0])
        logs = torch.special.xlogy(given, given)
        whole.add(block.whole, given, logs, kept, output)
        if block.rest is not None:
            given, logs, output = _without(exact.sinks, given, logs, output, exact.values)
            rest.add(block.rest, given, logs, kept, output)
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
    """A mechanism's rows, their w·ln w and its output, without the sinks' part. Changes rows and logarithms in place."""
    output = output.clone()
    for head, keys in enumerate(sinks):
        columns = list(keys)
        output[head] -= given[head][:, columns] @ values[head, columns]
        given[head][:, columns] = 0.0
        logs[head][:, columns] = 0.0
    return given, logs, output


class _Tally:
    """Sums over the rows that have been added, per head."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(
        self,
        side: ReferenceRows,
        given: Float[Tensor, "h r n"],
        logs: Float[Tensor, "h r n"],
        kept: Bool[Tensor, "h r n"],
        output: Float[Tensor, "h r e"],
    ) -> None:
        """Add some rows of a mechanism: its weights w, w·ln w, the pairs that it keeps, and its outputs."""
        self._sum("norm", side.reference.square().sum(-1))
        self._sum("error", (output - side.reference).square().sum(-1))
        self._sum("control", side.control)
        self._sum("mass", side.mass)
        pairs, kept_pairs = side.open_pairs.sum(-1), (kept & side.open_pairs).sum(-1)
        # A mechanism that keeps all pairs keeps all the weight.
        keeps_all = bool((kept_pairs == pairs).all())
        self._sum("kept mass", side.mass if keeps_all else (side.exact * kept).sum(-1))
        self._sum("pairs", pairs.double().expand_as(side.mass))
        self._sum("kept pairs", kept_pairs.double())
        self._shares(side, given, logs)

    def _shares(self, side: ReferenceRows, given: Float[Tensor, "h r n"], logs: Float[Tensor, "h r n"]) -> None:
        mass, total = side.mass, given.sum(-1)
        # The first query of a causal map may see only a sink: it has no weight to compare, and counts with none.
        comparable = (total > 0) & (mass > 0)
        scale = torch.where(total > 0, 1 / total, torch.zeros_like(total))
        # Both rows add up to 1, so ½ Σ |a − b| = 1 − Σ min(a, b).
        overlap = torch.minimum(side.share, given * scale[..., None]).sum(-1)
        variation = torch.where(comparable, (1 - overlap).clamp_min(0), torch.ones_like(mass))
        # For weights w with the sum T: Σ w/T·ln(w/T) = (Σ w·ln w)/T − ln T.
        crossed = torch.einsum("hrn,hrn->hr", given, side.log_share)
        crossed = torch.where(crossed < LEAST, -math.inf, crossed)
        divergence = (scale * (logs.sum(-1) - crossed) - total.log()).clamp_min(0)
        self._sum("variation", mass * variation)
        self._sum("divergence", torch.where(comparable, mass * divergence, torch.zeros_like(mass)))
        self._sum("compared", torch.where(comparable, mass, torch.zeros_like(mass)))

    def _sum(self, name: str, rows: Float[Tensor, "h r"]) -> None:
        so_far = self.sums.get(name)
        self.sums[name] = rows.sum(-1) if so_far is None else so_far + rows.sum(-1)

    def agreement(self, reason: str | None) -> Agreement:
        """The measures over all rows; with a `reason` those of shares are unavailable."""
        s = self.sums
        missing = None if reason is None else Unavailable(reason=reason)
        variation = s["variation"] / s["mass"]
        return Agreement(
            error=_ratio(s["error"], s["norm"]),
            control=_ratio(s["control"], s["norm"]),
            recall=s["kept mass"] / s["mass"],
            share=s["kept pairs"] / s["pairs"],
            overlap=missing or 1 - variation,
            variation=missing or variation,
            divergence=missing or s["divergence"] / s["compared"],
        )


def _ratio(squares: Float[Tensor, "h"], norms: Float[Tensor, "h"]) -> Float[Tensor, "h"]:
    """√(squares/norms), 0 for 0/0."""
    return torch.where(squares > 0, (squares / norms).sqrt(), torch.zeros_like(squares))
