"""A router gives each query its own mixture of a few ways to attend.

Source: gating by a softmax as in Shazeer et al. 2017 (sparsely gated mixture of experts), arXiv:1701.06538, section 2, with
its load; over attention paths in place of feed-forward experts. Our deviations: W_r is fitted by Newton's method to the path
with the least error for each query, on tokens that causal queries may use. Each query chooses its own top k paths, because
choosing the top k queries of a path would depend on later queries.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, Cost, Mechanism
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.mechanisms.routed.fitting import FitData, evenly, fit_data, logistic_regression
from longattn_core.mechanisms.routed.router_map import RouterMap, RouterTrace, SparseRouterMap
from longattn_core.numerics.draws import normal
from longattn_core.numerics.maps.listed import SparseMap

SAMPLE = 256
"""The router is fitted on at most this many queries, so that the cost of the fit is linear in n."""


def attend_router(mechanism: Mechanism, sequence: Sequence, *, paths: dict[str, Mechanism], top_k: int, fitted: bool) -> Attended:
    """Every path over the whole sequence, then their mixture. Cost: that of the paths and of the fit, and n·p·(d + e)."""
    attended = tuple(path.attend(sequence) for path in paths.values())
    h, d, p = sequence.h, sequence.d, len(paths)
    sample = errors = None
    cost = Cost(multiply_adds=0, bytes_moved=0, bytes_peak=0)
    if fitted:
        data = fit_data(sequence)
        outputs = attended if data.sequence is sequence else tuple(path.attend(data.sequence) for path in paths.values())
        sample, errors = path_errors(data.sequence, outputs)
        weights = _fit(data.sequence.q[:, sample], errors)
        if data.sequence is not sequence:
            cost = sum((path.cost for path in outputs), start=cost)
        cost += _fit_cost(data.sequence, len(sample), p)
    else:
        drawn = normal(mechanism.seed, "router", d, p, like=torch.zeros(0, dtype=torch.float64)) / math.sqrt(d)
        weights = drawn.expand(h, d, p)
        data = FitData(sequence=sequence, start=0, name="drawn at random")
    cost = sum((path.cost for path in attended), start=cost)
    cost += _mixing_cost(sequence, p, max(path.cost.bytes_peak for path in attended))
    trace = RouterTrace(
        router=weights,
        paths=tuple(paths),
        attended=attended,
        sample=sample,
        errors=errors,
        calibration=data.name,
        start=data.start,
        **_mixture(sequence, weights, data.start, top_k),
    )
    return _mixed(mechanism, sequence, trace, cost)


def with_top(attended: RouterMap, mechanism: Mechanism, top_k: int) -> RouterMap:
    """The result of the same mechanism with another top k, from the same paths and router. Cost n·p·(d + e) a head."""
    trace, sequence = attended.trace, attended.sequence
    return _mixed(mechanism, sequence, replace(trace, **_mixture(sequence, trace.router, trace.start, top_k)), attended.cost)


def _mixture(sequence: Sequence, router: Float[Tensor, "h d p"], start: int, top_k: int) -> dict[str, Float[Tensor, "..."]]:
    """The fields of a trace that depend on the top k."""
    shares = _shares(sequence, router.to(sequence.q), start, top_k)
    p = shares.shape[-1]
    of_real = shares.detach()[:, sequence.real]
    load = of_real.mean(1)
    chosen = torch.nn.functional.one_hot(of_real.argmax(-1), p).to(load.dtype).mean(1)
    return {"probabilities": shares, "load": load, "chosen": chosen, "balance": p * (load * chosen).sum(-1)}


def _mixed(mechanism: Mechanism, sequence: Sequence, trace: RouterTrace, cost: Cost) -> RouterMap:
    """The sum of the paths' outputs times their shares."""
    output = torch.zeros_like(sequence.v)
    for p, path in enumerate(trace.attended):
        output = output + path.output * trace.probabilities[..., p, None]
    kind = SparseRouterMap if all(isinstance(path, SparseMap) for path in trace.attended) else RouterMap
    return kind(mechanism=mechanism, sequence=sequence, output=output, trace=trace, cost=cost)


def estimated_router_cost(sequence: Sequence, *, paths: dict[str, Mechanism], fitted: bool) -> Cost:
    """The cost of `attend_router`, with each path's own formula."""
    costs = [path.estimated_cost(sequence) for path in paths.values()]
    total = _mixing_cost(sequence, len(paths), max(cost.bytes_peak for cost in costs))
    if fitted:
        fitted_on = fit_data(sequence).sequence
        costs += [] if fitted_on is sequence else [path.estimated_cost(fitted_on) for path in paths.values()]
        total += _fit_cost(fitted_on, min(SAMPLE, int(fitted_on.real.sum())), len(paths))
    return sum(costs, start=total)


def _mixing_cost(sequence: Sequence, p: int, peak: int) -> Cost:
    """The router's logits and the mixture of p outputs; `peak` is the largest number of bytes that one path holds."""
    h, n, d, e, size = sequence.h, sequence.n, sequence.d, sequence.e, sequence.q.element_size()
    return Cost(
        multiply_adds=h * n * p * (d + e),
        bytes_moved=size * h * n * (d + p * (2 + 2 * e)),
        bytes_peak=size * h * n * p * (e + 4) + peak,
    )


def _shares(sequence: Sequence, weights: Float[Tensor, "h d p"], start: int, top_k: int) -> Float[Tensor, "h n p"]:
    """softmax(W_r q) over the k largest; queries before `start` have equal logits."""
    logits = sequence.q @ weights
    index = torch.arange(sequence.n, device=logits.device)
    logits = torch.where(index[:, None] < start, torch.zeros_like(logits), logits)
    if 0 < top_k < logits.shape[-1]:
        # A stable sort, so that of equal logits the first paths are kept on every device.
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
            errors.append(torch.stack([(path.output[head, sample] - exact).norm(dim=-1) / length for path in attended], dim=-1))
    return sample, torch.stack(errors)


def _fit(queries: Float[Tensor, "h s d"], errors: Float[Tensor, "h s p"]) -> Float[Tensor, "h d p"]:
    """W_r for each head: a logistic regression to the path with the least error; tied paths share the query."""
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
