"""Which path each token takes, how evenly the paths are used, and what that is worth.

Source: ours. Errors are of outputs on a sample of queries, ‖Ô − O‖_F/‖O‖_F, beside each path alone, the best path in
hindsight for every query, the best path with all the keys that the mixture reads, and the mean of the visible values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.fidelity import mean_of_visible
from longattn_core.measures.sampling import sample_queries
from longattn_core.mechanisms.routed import Routed
from longattn_core.mechanisms.routed.router import RouterMap, with_top
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import SAMPLE, MechanismRun, kept_run, sinks_of
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.routed.kinds import token_kinds

FITTED, RANDOM = "router, fitted", "router, random"
HINDSIGHT = "best path in hindsight"
CONTROL = "mean of the visible values"
FOUND_UNITS = {
    "recall": "share of exact mass",
    "recall without sinks": "share of exact mass outside sinks",
    "share": "share of pairs",
}
TIE = 1e-6
"""Errors of two paths that differ by less, relatively, are one: both serve the query best."""


class Routes(HeadStudy):
    """The router's shares for every token, the load of each path, and the errors beside each path alone.

    Arrays: `shares`, `fitted`, `random` `[n, p]`, the shares of the setting itself and of the dense fitted and random router;
    `choice [n]`, the path of the largest share (−1 for padding); `error`, of the setting's own output; `errors [s, p]`, each
    path's relative error on the sampled queries `sample`; `balance [3]`, of the three routers, 1 when even. Table `paths`: a
    row a path, its loads, how often it serves a query best, its error, recall and share of pairs. Table `errors`: a row a
    way of choosing. Table `flow`: token kind → path. Table `hits`: how often the largest share is the path that serves best.
    """

    key: ClassVar[str] = "routed.routes"
    setting: Setting = Setting(key="routed")

    def _run(self, progress: Progress) -> Result:
        mechanism = self.setting.build()
        assert isinstance(mechanism, Routed)
        own = mechanism.with_dials(variant="router")
        sequence = self.sequence()
        head = self.head_in(sequence)
        runs: dict[str, RouterMap] = {}
        settings = {name: own.with_dials(weights=name, top_k=0) for name in ("fitted", "random")} | {"own": own}
        for index, (name, setting) in enumerate(settings.items()):
            progress(index / 4, setting.label)
            one = mixed_reading(self.source, setting)
            if one.attended is None:
                return Result(study=self, words={"refusal": one.refusal or ""})
            assert isinstance(one.attended, RouterMap)
            runs[name] = one.attended
        shares = {name: run.trace.probabilities[head].double() for name, run in runs.items()}
        choice = torch.where(sequence.real, shares["own"].argmax(-1), -1)
        progress(0.8, "errors")
        paths: tuple[str, ...] = runs["own"].trace.paths
        sinks = sinks_of(self.source)[head]

        def measure() -> tuple[_Measured, pd.DataFrame, pd.DataFrame]:
            found = _Measured.of(sequence, runs["own"], head, sinks)
            tables = _errors(found, shares, paths, _wide(self, own, found, head), head)
            return found.without_rows(), *tables

        paths_alone = own.with_dials(weights="fitted", top_k=0)
        name = f"{paths_alone.model_dump_json()} {self.source.model_dump_json()} {head}"
        measured, errors, hits = _measured.get(name, measure)
        kinds, kind = token_kinds(sequence)
        tables = {
            "paths": _paths(paths, runs, shares, measured, head),
            "errors": errors,
            "hits": hits,
            "flow": _flow(kinds, kind, shares["own"], paths, sequence),
        }
        arrays = {
            "shares": shares["own"].numpy(),
            "fitted": shares["fitted"].numpy(),
            "random": shares["random"].numpy(),
            "choice": choice.numpy(),
            "errors": measured.each.numpy(),
            "sample": np.array(measured.queries),
            "error": np.array(measured.error(runs["own"].output[head, list(measured.queries)].double())),
            "balance": np.array([float(runs[name].trace.balance[head]) for name in ("own", "fitted", "random")]),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
            "start": np.array(runs["fitted"].trace.start),
        }
        words = {
            "paths": "\n".join(paths),
            "calibration": runs["fitted"].trace.calibration,
            "sample": measured.said,
            "label": own.label,
            "origin": sequence.origin,
        }
        return Result(study=self, arrays=arrays, tables=tables, words=words)


class _Measured:
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
    def of(cls, sequence: Sequence, attended: RouterMap, head: int, sinks: tuple[int, ...]) -> _Measured:
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

    def without_rows(self) -> _Measured:
        """What is kept between moves of a dial: all but the rows of n keys, of each path `recalls` in their place."""
        out = _Measured()
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


_measured: SingleFlightCache[tuple[_Measured, pd.DataFrame, pd.DataFrame]] = SingleFlightCache(size=2)
"""What the paths alone and the dense routers give, with the tables of errors and hits: the top k changes nothing in it."""


def mixed_reading(source: Source, own: Routed) -> MechanismRun:
    """A router's run: with a top k, on the paths and the router of the run without one, which is kept."""
    dense = kept_run(source, own.with_dials(top_k=0))
    if not own.top_k or dense.attended is None:
        return dense
    assert isinstance(dense.attended, RouterMap)
    return replace(dense, mechanism=own, attended=with_top(dense.attended, own, own.top_k))


def kept(shares: Float[Tensor, "*b p"], top: int) -> Float[Tensor, "*b p"]:
    """The `top` largest shares of each row (the first of equal ones), made shares again: the softmax of those logits."""
    if not 0 < top < shares.shape[-1]:
        return shares
    order = shares.argsort(dim=-1, descending=True, stable=True)[..., top:]
    left = shares.scatter(-1, order, 0.0)
    return left / left.sum(-1, keepdim=True).clamp_min(1e-300)


def _wide(study: Routes, own: Routed, measured: _Measured, head: int) -> tuple[str, Attended] | None:
    """The best single path with as many keys as all paths together, where it takes keys by number."""
    taken = [path for path in own.paths if path != "exact"]
    if len(own.paths) < 2 or len(taken) < len(own.paths):
        return None
    best = own.paths[int(torch.stack([(x - measured.exact).norm() for x in measured.outputs]).argmin())]
    width = min(65536, own.width * len(own.paths))
    one = kept_run(study.source, own.with_dials(paths=(best,), width=width, weights="random", top_k=0))
    return None if one.attended is None else (best, one.attended)


def _errors(
    measured: _Measured, shares: dict[str, Tensor], paths: tuple[str, ...], wide: tuple[str, Attended] | None, head: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    queries = list(measured.queries)
    rows: list[dict[str, object]] = []
    hits: list[dict[str, object]] = []

    def add(name: str, group: str, output: Tensor, seen: Tensor | None) -> None:
        rows.append({"way": name, "group": group, "error": measured.error(output), **measured.found(seen)})

    for name, source in ((FITTED, "fitted"), (RANDOM, "random")):
        dense = shares[source][queries]
        for top in [0, *range(1, min(3, len(paths)))]:
            weights = kept(dense, top)
            mixed = (weights.T[..., None] * measured.outputs).sum(0)
            seen = (measured.seen & (weights.T > 0)[..., None]).any(0)
            add(name if top == 0 else f"{name}, top {top}", "router", mixed, seen)
        right = measured.best.gather(-1, dense.argmax(-1, keepdim=True)).double().mean()
        hits.append({"way": name, "right": float(right)})
    for index, path in enumerate(paths):
        add(f"{path} alone", "path", measured.outputs[index], measured.seen[index])
        hits.append({"way": f"always {path}", "right": float(measured.best[:, index].double().mean())})
    if wide is not None:
        attended = wide[1]
        seen = attended.kept(queries, None, head)[0] & measured.visible
        add(f"{wide[0]}, all the keys", "wide", attended.output[head, queries].double(), seen)
    first = measured.best.double().argmax(-1)
    hindsight = measured.outputs[first, torch.arange(len(queries))]
    add(HINDSIGHT, "hindsight", hindsight, measured.seen[first, torch.arange(len(queries))])
    add(CONTROL, "control", measured.control, None)
    table, found = pd.DataFrame.from_records(rows), pd.DataFrame.from_records(hits)
    table.attrs["units"] = {"error": "relative", **FOUND_UNITS}
    found.attrs["units"] = {"right": "share of the sampled queries"}
    return table, found


def _paths(
    paths: tuple[str, ...], runs: dict[str, RouterMap], shares: dict[str, Tensor], measured: _Measured, head: int
) -> pd.DataFrame:
    best = measured.best.double()
    best = (best / best.sum(-1, keepdim=True)).mean(0)
    rows = []
    for index, path in enumerate(paths):
        loads = {name: float(run.trace.load[head, index]) for name, run in runs.items()}
        rows.append(
            {
                "path": path,
                "load": loads["own"],
                "fitted": loads["fitted"],
                "random": loads["random"],
                "chosen": float(runs["own"].trace.chosen[head, index]),
                "best": float(best[index]),
                "error": measured.error(measured.outputs[index]),
                **measured.recalls[index],
            }
        )
    table = pd.DataFrame.from_records(rows)
    table.attrs["units"] = {
        **dict.fromkeys(("load", "fitted", "random"), "mean share of the tokens"),
        "chosen": "share of the tokens",
        "best": "share of the sampled queries",
        "error": "relative",
        **FOUND_UNITS,
    }
    return table


def _flow(
    kinds: tuple[str, ...], kind: list[int], shares: Float[Tensor, "n p"], paths: tuple[str, ...], sequence: Sequence
) -> pd.DataFrame:
    of = torch.tensor(kind)
    rows = []
    for number, name in enumerate(kinds):
        here = (of == number) & sequence.real
        for index, path in enumerate(paths):
            if bool(here.any()):
                mass = float(shares[here, index].sum())
                rows.append({"kind": name, "path": path, "tokens": mass, "of": int(here.sum())})
    table = pd.DataFrame.from_records(rows, columns=["kind", "path", "tokens", "of"])
    table["share"] = table["tokens"] / table["of"]
    table.attrs["units"] = {"tokens": "tokens, by share", "of": "tokens of the kind", "share": "share of the kind"}
    return table


class Route(HeadStudy):
    """One query's way: its logits and shares, what each path reads for it, their mixture, and exact attention.

    Arrays: `logits`, `shares` `[p]`; `rows [p, n]`, each path's weights, NaN where it never looks; `mixture`, `exact` `[n]`.
    """

    key: ClassVar[str] = "routed.route"
    setting: Setting = Setting(key="routed")
    query: int | None = Field(None, ge=0, le=65535)

    def _run(self, progress: Progress) -> Result:
        mechanism = self.setting.build()
        assert isinstance(mechanism, Routed)
        sequence = self.sequence()
        head = self.head_in(sequence)
        last = int(sequence.real.nonzero().max())
        query = last if self.query is None or self.query >= sequence.n else self.query
        one = mixed_reading(self.source, mechanism.with_dials(variant="router"))
        if one.attended is None:
            return Result(study=self, words={"refusal": one.refusal or ""})
        attended = one.attended
        assert isinstance(attended, RouterMap)
        trace = attended.trace
        exact = exact_rows(sequence, query, head)[0, 0].double()
        visible = sequence.allowed(query)[0]
        rows = [_row(path, head, query) for path in trace.attended]
        arrays = {
            "logits": (sequence.q[head, query].double() @ trace.router[head].double()).numpy(),
            "shares": trace.probabilities[head, query].double().numpy(),
            "rows": torch.stack(rows).numpy(),
            "mixture": _row(attended, head, query).numpy(),
            "exact": torch.where(visible, exact, torch.nan).numpy(),
            "query": np.array(query),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
            "before": np.array(query < trace.start),
        }
        return Result(study=self, arrays=arrays, words={"paths": "\n".join(trace.paths), "label": attended.mechanism.label})


def _row(attended: Attended, head: int, query: int) -> Float[Tensor, "n"]:
    row, seen = (view[0, 0] for view in attended.rows_and_kept(query, head))
    return torch.where(seen, row.double(), torch.nan)
