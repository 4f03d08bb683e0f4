"""The outputs of a router's paths on a sample of queries beside exact attention's, and how runs of a router share their paths."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.fidelity import mean_of_visible
from longattn_core.measures.sampling import sample_queries
from longattn_core.mechanisms.routed import Routed
from longattn_core.mechanisms.routed.router import with_top
from longattn_core.mechanisms.routed.router_map import RouterMap
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.run import SAMPLE, MechanismRun, kept_run

TIE = 1e-6
"""Errors of two paths that differ by less, relatively, are one: both serve the query best."""


def mixed_run(source: Source, own: Routed) -> MechanismRun:
    """A router's run: with a top k, on the paths and the router of the run without one, which is kept."""
    dense = kept_run(source, own.with_dials(top_k=0))
    if not own.top_k or dense.attended is None:
        return dense
    return replace(dense, mechanism=own, attended=with_top(dense.attended_as(RouterMap), own, own.top_k))


def top_shares(shares: Float[Tensor, "*b p"], top: int) -> Float[Tensor, "*b p"]:
    """The `top` largest shares of each row (the first of equal ones), made shares again: the softmax of those logits."""
    if not 0 < top < shares.shape[-1]:
        return shares
    order = shares.argsort(dim=-1, descending=True, stable=True)[..., top:]
    left = shares.scatter(-1, order, 0.0)
    return left / left.sum(-1, keepdim=True).clamp_min(1e-300)


class PathOutputs:
    """Exact and path outputs on the sampled queries of one head, in float64, and which pairs each path sees."""

    queries: tuple[int, ...]
    said: str
    exact: Float[Tensor, "s e"]
    rows: Float[Tensor, "s n"]
    control: Float[Tensor, "s e"]
    outputs: Float[Tensor, "p s e"]
    seen: Bool[Tensor, "p s n"]
    visible: Bool[Tensor, "s n"]
    plain: Float[Tensor, "s n"]
    recalls: tuple[dict[str, float], ...]

    @classmethod
    def of(cls, sequence: Sequence, attended: RouterMap, head: int, sinks: tuple[int, ...]) -> PathOutputs:
        """Measure at most `SAMPLE` queries; `plain` are the exact rows without the sinks. Cost: their exact rows."""
        out, alone = cls(), sequence.select_heads(head)
        sample = sample_queries(alone, SAMPLE)
        queries = list(sample.queries)
        out.queries, out.said = sample.queries, sample.text
        out.rows = exact_rows(alone, queries)[0].double()
        out.plain = out.rows.clone()
        out.plain[:, list(sinks)] = 0.0
        out.exact = out.rows @ alone.v[0].double()
        out.control = mean_of_visible(alone)[0, queries].double()
        out.outputs = torch.stack([one.output[head, queries].double() for one in attended.trace.attended])
        out.visible = alone.allowed(queries)
        out.seen = torch.stack([one.kept(queries, None, head)[0] & out.visible for one in attended.trace.attended])
        out.recalls = tuple(out.found(seen) for seen in out.seen)
        return out

    def without_rows(self) -> PathOutputs:
        """What is kept between moves of a dial: all but the rows of n keys, of each path `recalls` in their place."""
        out = PathOutputs()
        for name in ("queries", "said", "exact", "control", "outputs", "recalls"):
            setattr(out, name, getattr(self, name))
        return out

    @property
    def each(self) -> Float[Tensor, "s p"]:
        """Each path's relative error, query by query."""
        length = self.exact.norm(dim=-1).clamp_min(1e-12)
        errors: Tensor = (self.outputs - self.exact).norm(dim=-1) / length
        return errors.T

    def error(self, output: Float[Tensor, "s e"]) -> float:
        """‖Ô − O‖_F/‖O‖_F over the sample."""
        return float((output - self.exact).norm() / self.exact.norm().clamp_min(1e-300))

    def found(self, seen: Bool[Tensor, "s n"] | None) -> dict[str, float]:
        """Recall of exact attention's mass, with and without the sinks, and the share of the allowed pairs looked at."""
        if seen is None:
            return dict.fromkeys(("recall", "recall without sinks", "share"), float("nan"))
        whole, plain = (float((rows * seen).sum() / rows.sum().clamp_min(1e-300)) for rows in (self.rows, self.plain))
        return {"recall": whole, "recall without sinks": plain, "share": float(seen.sum()) / max(1, int(self.visible.sum()))}

    @property
    def best(self) -> Bool[Tensor, "s p"]:
        """Which paths serve each query best, ties all together."""
        each = self.each
        best: Tensor = each <= each.amin(-1, keepdim=True) * (1 + TIE) + 1e-12
        return best
