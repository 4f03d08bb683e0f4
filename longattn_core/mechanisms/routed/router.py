"""A router gives each query its own mixture of a few ways to attend.

Source: gating by a softmax as in Shazeer et al. 2017 (sparsely gated mixture of experts), arXiv:1701.06538, section 2, with
its load; over attention paths in place of feed-forward experts. Our deviations: W_r is fitted in closed steps to the path
that serves each query best, on tokens whose future it may know; choosing the top k is each query's own matter (choosing
the top k queries of a path would look into the future).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Mechanism, Reduce
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.mechanisms.routed.fitting import Ground, evenly, ground_of, logistic_regression
from longattn_core.numerics.draws import normal
from longattn_core.numerics.entries import Entries
from longattn_core.numerics.maps.listed import SparseMap

SAMPLE = 256
"""The router is fitted on at most this many queries, so that the fit stays linear in n."""


class RouterReason(StrEnum):
    """Which of a router's paths carry a pair."""

    CARRIED = "carried"
    NOT_TAKEN = "path not taken"
    """A path sees the pair, but the query does not take that path."""
    NO_PATH = "no path"


@dataclass(frozen=True, kw_only=True, eq=False)
class RouterTrace:
    """Every step: p paths.

    `router [h d p]` is W_r, float64; `probabilities [h n p]`, the share of each path in each query, zero for padding and for
    paths outside the top k; `paths` their names; `attended` what each gave; `load [h p]`, the mean share of a path;
    `chosen [h p]`, the share of queries in which it is the largest; `balance [h]`, p·Σ load·chosen, 1 when even; `sample [s]`,
    the queries that W_r was fitted on, and `errors [h s p]`, each path's relative error there (None when drawn);
    `calibration`, what was fitted on; `start`, the first query that uses W_r: those before take all paths alike.
    """

    router: Float[Tensor, "h d p"]
    probabilities: Float[Tensor, "h n p"]
    paths: tuple[str, ...]
    attended: tuple[Attended, ...]
    load: Float[Tensor, "h p"]
    chosen: Float[Tensor, "h p"]
    balance: Float[Tensor, "h"]
    sample: Int[Tensor, "s"] | None
    errors: Float[Tensor, "h s p"] | None
    calibration: str
    start: int

    @property
    def centroids(self) -> Float[Tensor, "h c d"] | None:
        """Those of the clusters path; None when it is not among the paths."""
        found: Tensor | None = next((a.trace.centroids for a in self.attended if hasattr(a.trace, "centroids")), None)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class RouterMap(Attended):
    """The paths' maps, each row mixed by its query's shares."""

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        return self._mixed(queries, heads, [a._rows(queries, heads) for a in self.trace.attended])

    def _kept(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        return self._taken(queries, heads, [a._kept(queries, heads) for a in self.trace.attended])

    def _rows_and_kept(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r n"], Bool[Tensor, "g r n"]]:
        rows, seen = zip(*(a._rows_and_kept(queries, heads) for a in self.trace.attended), strict=True)
        return self._mixed(queries, heads, list(rows)), self._taken(queries, heads, list(seen))

    def _mixed(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"], parts: list[Float[Tensor, "g r n"]]
    ) -> Float[Tensor, "g r n"]:
        shares = self.trace.probabilities[heads][:, queries]
        return torch.stack([part * shares[..., p, None] for p, part in enumerate(parts)]).sum(0)

    def _taken(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"], parts: list[Bool[Tensor, "g r n"]]
    ) -> Bool[Tensor, "g r n"]:
        taken = self.trace.probabilities[heads][:, queries] > 0
        return torch.stack([part & taken[..., p, None] for p, part in enumerate(parts)]).any(0)

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        trace = self.trace
        facts: dict[str, float | int | str | bool] = {"start": trace.start}
        carrying: list[str] = []
        idle: list[str] = []
        for p, (name, attended) in enumerate(zip(trace.paths, trace.attended, strict=True)):
            share = float(trace.probabilities[head, query, p])
            sees = bool(attended.kept(query, key, head))
            facts |= {f"{name}_share": share, f"{name}_sees": sees}
            facts[f"{name}_weight"] = share * float(attended.rows(query, key, head)) if sees else 0.0
            if sees:
                (carrying if share > 0 else idle).append(name)
        if carrying:
            said = ", ".join(f"{name} ({facts[f'{name}_share']:.0%} of this query)" for name in carrying)
            reason, text = (RouterReason.CARRIED, f"Carried by {'the path' if len(carrying) == 1 else 'the paths'} {said}.")
        elif idle:
            reason = RouterReason.NOT_TAKEN
            text = f"The key could be seen by {' and '.join(idle)}, but the router does not send this query there."
        else:
            reason = RouterReason.NO_PATH
            text = f"None of the paths ({', '.join(trace.paths)}) sees this key from this query."
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseRouterMap(RouterMap, SparseMap):
    """The same when every path lists its keys: so does the mixture."""

    @property
    def _slots(self) -> int:
        return sum(a._slots for a in self._sparse())

    def _sparse(self) -> tuple[SparseMap, ...]:
        return tuple(a for a in self.trace.attended if isinstance(a, SparseMap))

    def _entries(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Entries:
        shares = self.trace.probabilities[heads][:, queries]
        keys, weights = [], []
        for p, attended in enumerate(self._sparse()):
            entries = attended._entries(queries, heads)
            keys.append(torch.where(shares[..., p, None] > 0, entries.keys, -1))
            weights.append(entries.weights * shares[..., p, None])
        return _joined(torch.cat(keys, dim=-1), torch.cat(weights, dim=-1))

    def _cells(
        self,
        rows: list[int],
        columns: list[int],
        reduce: Reduce,
        heads: Int[Tensor, "g"],
        shares: Float[Tensor, "g n"] | None = None,
    ) -> Float[Tensor, "g H W"]:
        """Sums path by path; the largest needs the pairs that several paths carry joined first."""
        if reduce == "max":
            return super()._cells(rows, columns, reduce, heads, shares)
        mine = self.trace.probabilities[heads].to(self.output.dtype)
        mine = mine if shares is None else mine * shares[..., None]
        parts = [a._cells(rows, columns, reduce, heads, mine[..., p]) for p, a in enumerate(self._sparse())]
        return torch.stack(parts).sum(0)


def _joined(keys: Int[Tensor, "g r c"], weights: Float[Tensor, "g r c"]) -> Entries:
    """Each key once, its weights summed into its first slot."""
    keys, by_key = keys.sort(dim=-1, stable=True)
    fresh = torch.ones_like(keys, dtype=torch.bool)
    fresh[..., 1:] = keys[..., 1:] != keys[..., :-1]
    group = fresh.cumsum(-1) - 1
    summed = torch.zeros_like(weights).scatter_add(-1, group, weights.gather(-1, by_key))
    first = torch.full_like(keys, -1).scatter(-1, group, keys)
    return Entries(keys=first, weights=torch.where(first >= 0, summed, torch.zeros_like(summed)))


def attend_router(mechanism: Mechanism, sequence: Sequence, *, paths: dict[str, Mechanism], top_k: int, fitted: bool) -> Attended:
    """Every path over the whole sequence, then their mixture. Cost: the paths', the fit's (linear in n), and n·p·(d + e)."""
    attended = tuple(path.attend(sequence) for path in paths.values())
    h, d, p = sequence.h, sequence.d, len(paths)
    sample = errors = None
    cost = Cost(multiply_adds=0, bytes_moved=0, bytes_peak=0)
    if fitted:
        ground = ground_of(sequence)
        outputs = attended if ground.sequence is sequence else tuple(path.attend(ground.sequence) for path in paths.values())
        sample, errors = path_errors(ground.sequence, outputs)
        weights = _fit(ground.sequence.q[:, sample], errors)
        for other in () if ground.sequence is sequence else outputs:
            cost += other.cost
        cost += _fit_cost(ground.sequence, len(sample), p)
    else:
        drawn = normal(mechanism.seed, "router", d, p, like=torch.zeros(0, dtype=torch.float64)) / math.sqrt(d)
        weights = drawn.expand(h, d, p)
        ground = Ground(sequence=sequence, start=0, name="drawn at random")
    cost = sum((one.cost for one in attended), start=cost)
    cost += _mixing(sequence, p, max(one.cost.bytes_peak for one in attended))
    found = RouterTrace(
        router=weights,
        paths=tuple(paths),
        attended=attended,
        sample=sample,
        errors=errors,
        calibration=ground.name,
        start=ground.start,
        **_mixture(sequence, weights, ground.start, top_k),
    )
    return _mixed(mechanism, sequence, found, cost)


def with_top(attended: RouterMap, mechanism: Mechanism, top_k: int) -> RouterMap:
    """What the same mechanism gives with another top k: its paths and its router stay. Cost n·p·(d + e) a head."""
    trace, sequence = attended.trace, attended.sequence
    return _mixed(mechanism, sequence, replace(trace, **_mixture(sequence, trace.router, trace.start, top_k)), attended.cost)


def _mixture(sequence: Sequence, router: Float[Tensor, "h d p"], start: int, top_k: int) -> dict[str, Float[Tensor, "..."]]:
    """The fields of a trace that the choice of the top k changes."""
    shares = _shares(sequence, router.to(sequence.q), start, top_k)
    p = shares.shape[-1]
    counted = shares.detach()[:, sequence.real]
    load = counted.mean(1)
    chosen = torch.nn.functional.one_hot(counted.argmax(-1), p).to(load.dtype).mean(1)
    return {"probabilities": shares, "load": load, "chosen": chosen, "balance": p * (load * chosen).sum(-1)}


def _mixed(mechanism: Mechanism, sequence: Sequence, trace: RouterTrace, cost: Cost) -> RouterMap:
    """The paths' outputs in their shares."""
    output = torch.zeros_like(sequence.v)
    for path, one in enumerate(trace.attended):
        output = output + one.output * trace.probabilities[..., path, None]
    kind = SparseRouterMap if all(isinstance(one, SparseMap) for one in trace.attended) else RouterMap
    return kind(mechanism=mechanism, sequence=sequence, output=output, trace=trace, cost=cost)


def counted_router(sequence: Sequence, *, paths: dict[str, Mechanism], fitted: bool) -> Cost:
    """The cost of `attend_router`, each path's by its own formula."""
    found = [path.estimated_cost(sequence) for path in paths.values()]
    cost = _mixing(sequence, len(paths), max(one.bytes_peak for one in found))
    if fitted:
        ground = ground_of(sequence).sequence
        found += [] if ground is sequence else [path.estimated_cost(ground) for path in paths.values()]
        cost += _fit_cost(ground, min(SAMPLE, int(ground.real.sum())), len(paths))
    return sum(found, start=cost)


def _mixing(sequence: Sequence, p: int, peak: int) -> Cost:
    """The router's logits and the mixture of p outputs; `peak` bytes are held by the path that holds most."""
    h, n, d, e, size = sequence.h, sequence.n, sequence.d, sequence.e, sequence.q.element_size()
    return Cost(
        multiply_adds=h * n * p * (d + e),
        bytes_moved=size * h * n * (d + p * (2 + 2 * e)),
        bytes_peak=size * h * n * p * (e + 4) + peak,
    )


def _shares(sequence: Sequence, weights: Float[Tensor, "h d p"], start: int, top_k: int) -> Float[Tensor, "h n p"]:
    """softmax(W_r q) over the k largest; a query before `start` has equal logits."""
    logits = sequence.q @ weights
    index = torch.arange(sequence.n, device=logits.device)
    logits = torch.where(index[:, None] < start, torch.zeros_like(logits), logits)
    if 0 < top_k < logits.shape[-1]:
        # A stable sort, so that equal logits keep the first paths on every device.
        dropped = logits.detach().argsort(dim=-1, descending=True, stable=True)[..., top_k:]
        logits = logits.scatter(-1, dropped, -math.inf)
    return torch.where(sequence.real[:, None], logits.softmax(-1), torch.zeros_like(logits))


def path_errors(sequence: Sequence, attended: tuple[Attended, ...]) -> tuple[Int[Tensor, "s"], Float[Tensor, "h s p"]]:
    """Up to 256 evenly spaced queries, and each path's relative error there. Cost 256·n·(d + e) a head; memory 256·n."""
    sample = evenly(sequence.real.nonzero().squeeze(-1), SAMPLE)
    errors = []
    with torch.no_grad():
        for head in range(sequence.h):
            exact = (exact_rows(sequence, sample, head) @ sequence.v[head])[0]
            length = exact.norm(dim=-1).clamp_min(1e-12)
            errors.append(torch.stack([(one.output[head, sample] - exact).norm(dim=-1) / length for one in attended], dim=-1))
    return sample, torch.stack(errors)


def _fit(queries: Float[Tensor, "h s d"], errors: Float[Tensor, "h s p"]) -> Float[Tensor, "h d p"]:
    """W_r for each head: a logistic regression to the path of the least error; paths that tie share the query."""
    errors = errors.detach().to("cpu", torch.float64)
    best = errors <= errors.amin(-1, keepdim=True) * (1 + 1e-6) + 1e-9
    shares = best / best.sum(-1, keepdim=True)
    x = queries.detach().to("cpu", torch.float64)
    return torch.stack([logistic_regression(x[head], shares[head].to(x.dtype)) for head in range(len(x))])


def _fit_cost(sequence: Sequence, samples: int, p: int) -> Cost:
    h, n, d, e, size = sequence.h, sequence.n, sequence.d, sequence.e, sequence.q.element_size()
    newton = 8 * samples * (d * p) ** 2
    return Cost(
        multiply_adds=h * (samples * n * (d + e) + newton),
        bytes_moved=h * size * (3 * samples * n + n * (d + e)),
        bytes_peak=6 * size * samples * n + 8 * (2 * (d * p) ** 2 + samples * d * p),
    )
