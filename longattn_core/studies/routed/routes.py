"""Which path each token takes, how evenly the paths are used, and what that is worth.

Source: ours. Errors are of outputs on a sample of queries, ‖Ô − O‖_F/‖O‖_F, beside each path alone, the best path in
hindsight for every query, the best path with all the keys that the mixture reads, and the mean of the visible values.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.routed import Routed
from longattn_core.mechanisms.routed.router_map import RouterMap
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun, kept_run, sinks_of
from longattn_core.studies.base.study import Progress, Setting
from longattn_core.studies.routed.kinds import token_kinds
from longattn_core.studies.routed.path_outputs import PathOutputs, mixed_run, top_shares

FITTED, RANDOM = "router, fitted", "router, random"
HINDSIGHT = "best path in hindsight"
CONTROL = "mean of the visible values"
FOUND_UNITS = {
    "recall": "share of exact mass",
    "recall without sinks": "share of exact mass outside sinks",
    "share": "share of pairs",
}


class Routes(MechanismStudy[Routed]):
    """The router's shares for every token, the load of each path, and the errors beside each path alone.

    Arrays: `shares`, `fitted`, `random` `[n, p]`, the shares of the setting itself and of the dense fitted and random router;
    `choice [n]`, the path of the largest share (−1 for padding); `error`, of the setting's own output; `errors [s, p]`, each
    path's relative error on the sampled queries `sample`; `balance [3]`, of the three routers, 1 when even. Table `paths`: a
    row a path, its loads, how often it serves a query best, its error, recall and share of pairs. Table `errors`: a row a
    way of choosing. Table `flow`: token kind → path. Table `hits`: how often the largest share is the path that serves best.
    """

    key: ClassVar[str] = "routed.routes"
    reads: ClassVar[type[Routed]] = Routed
    setting: Setting = Setting(key="routed")

    def _runs(self) -> MechanismRun:
        return mixed_run(self.source, self._router())

    def _router(self) -> Routed:
        return self.mechanism().with_dials(variant="router")

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        own, sequence, head = self._router(), run.sequence, self.head_in(run.sequence)
        runs: dict[str, RouterMap] = {}
        settings = {name: own.with_dials(weights=name, top_k=0) for name in ("fitted", "random")} | {"own": own}
        for index, (name, setting) in enumerate(settings.items()):
            progress(index / 4, setting.label)
            runs[name] = mixed_run(self.source, setting).attended_as(RouterMap)
        shares = {name: router.trace.probabilities[head].double() for name, router in runs.items()}
        choice = torch.where(sequence.real, shares["own"].argmax(-1), -1)
        progress(0.8, "errors")
        paths: tuple[str, ...] = runs["own"].trace.paths
        sinks = sinks_of(self.source)[head]

        def measure() -> tuple[PathOutputs, pd.DataFrame, pd.DataFrame]:
            outputs = PathOutputs.of(sequence, runs["own"], head, sinks)
            tables = _errors(outputs, shares, paths, _wide(self, own, outputs, head), head)
            return outputs.without_rows(), *tables

        paths_alone = own.with_dials(weights="fitted", top_k=0)
        name = f"{paths_alone.model_dump_json()} {self.source.model_dump_json()} {head}"
        outputs, errors, hits = _measured.get(name, measure)
        kinds, kind = token_kinds(sequence)
        tables = {
            "paths": _paths(paths, runs, shares, outputs, head),
            "errors": errors,
            "hits": hits,
            "flow": _flow(kinds, kind, shares["own"], paths, sequence),
        }
        arrays = {
            "shares": shares["own"].numpy(),
            "fitted": shares["fitted"].numpy(),
            "random": shares["random"].numpy(),
            "choice": choice.numpy(),
            "errors": outputs.each.numpy(),
            "sample": np.array(outputs.queries),
            "error": np.array(outputs.error(runs["own"].output[head, list(outputs.queries)].double())),
            "balance": np.array([float(runs[name].trace.balance[head]) for name in ("own", "fitted", "random")]),
            "start": np.array(runs["fitted"].trace.start),
        }
        words = {"paths": "\n".join(paths), "calibration": runs["fitted"].trace.calibration, "sample": outputs.said}
        return Parts(arrays=arrays, tables=tables, words=words)


_measured: SingleFlightCache[tuple[PathOutputs, pd.DataFrame, pd.DataFrame]] = SingleFlightCache(size=2)
"""What the paths alone and the dense routers give, with the tables of errors and hits: the top k changes nothing in it."""


def _wide(study: Routes, own: Routed, measured: PathOutputs, head: int) -> tuple[str, Attended] | None:
    """The best single path with as many keys as all paths together, where it takes keys by number."""
    taken = [path for path in own.paths if path != "exact"]
    if len(own.paths) < 2 or len(taken) < len(own.paths):
        return None
    best = own.paths[int(torch.stack([(x - measured.exact).norm() for x in measured.outputs]).argmin())]
    width = min(65536, own.width * len(own.paths))
    one = kept_run(study.source, own.with_dials(paths=(best,), width=width, weights="random", top_k=0))
    return None if one.attended is None else (best, one.attended)


def _errors(
    measured: PathOutputs, shares: dict[str, Tensor], paths: tuple[str, ...], wide: tuple[str, Attended] | None, head: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    queries = list(measured.queries)
    rows: list[dict[str, object]] = []
    hits: list[dict[str, object]] = []

    def add(name: str, group: str, output: Tensor, seen: Tensor | None) -> None:
        rows.append({"way": name, "group": group, "error": measured.error(output), **measured.found(seen)})

    for name, source in ((FITTED, "fitted"), (RANDOM, "random")):
        dense = shares[source][queries]
        for top in [0, *range(1, min(3, len(paths)))]:
            weights = top_shares(dense, top)
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
    paths: tuple[str, ...], runs: dict[str, RouterMap], shares: dict[str, Tensor], measured: PathOutputs, head: int
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
