"""Exact weight against estimated weight, pair by pair, and how close the output comes to the exact one.

Source: Choromanski et al. 2020, arXiv:2009.14794, section 2.2. The pairs are those of up to 64 queries with all keys that
the mask lets them see. Of more than 32,768 pairs that many are drawn at random; the strongest are listed besides.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from longattn_core.measures.fidelity import Fidelity, Views, fidelity
from longattn_core.measures.sampling import QuerySample, Unavailable, sample_queries, spread_draw
from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.map import FavorMap
from longattn_core.numerics.draws import generator
from longattn_core.numerics.softmax import exact_cost
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import MechanismRun, sinks_of
from longattn_core.studies.base.study import Progress, Setting
from longattn_core.studies.favor.sampled import QUERIES, log_rows, norms, query_count

SHOWN_QUERIES = 64
SHOWN_PAIRS = 32_768
STRONGEST = 120
HELD_CELLS = 1 << 22
"""Weights of all heads up to which the sampled rows are computed once and held: 16 MB."""

UNITS = {
    "multiply_adds": "operations",
    "exact_multiply_adds": "operations",
    "error": "relative",
    "control": "relative",
    "overlap": "share",
    "negative_denominators": "share of queries",
}


class Pairs(MechanismStudy[Favor]):
    """What exact attention and the estimate give to the pairs of some queries.

    Arrays, one entry a pair: `query`, `key`, `visible` (how many keys the query may see), `log_exact` and `log_kernel`
    (exact attention's weight and e^{q·k/√d}), `log_estimate` and `log_estimated_kernel` with their `sign` and
    `kernel_sign`, `sum_norm` ‖x + y‖², `difference_norm` ‖x − y‖², `sink` (whether the key is one); logarithms are natural,
    and −∞ for 0; and `tokens [n]`. Table `strongest`: the pairs with the largest exact weights of those queries. Table
    `output`: error and control, whole and without sinks, and counted operations, in one row. Cost: one run, and the exact
    and estimated rows of up to 256 queries.
    """

    key: ClassVar[str] = "favor.pairs"
    reads: ClassVar[type[Favor]] = Favor
    setting: Setting = Setting(key="favor")
    seed: int = Field(0, ge=0, le=2**31 - 1)

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        attended, sequence, head = run.attended_as(FavorMap), run.sequence, self.head_in(run.sequence)
        sinks = sinks_of(self.source)
        progress(0.3, "pairs")
        sample = sample_queries(sequence, query_count(QUERIES, sequence.n))
        views = _views(attended, sample)
        queries = torch.tensor(_shown(sample, query_count(SHOWN_QUERIES, sequence.n), self.seed), device=sequence.q.device)
        estimated = attended.rows(queries, heads=head)[0] if views is None else views(queries)[0][head]
        pairs = _all_pairs(attended, head, queries, estimated.double())
        count = len(pairs["query"])
        chosen = torch.arange(count)
        if count > SHOWN_PAIRS:
            chosen = torch.randperm(count, generator=generator(self.seed, "favor pairs"))[:SHOWN_PAIRS].sort()[0]
        arrays = {name: values[chosen].numpy() for name, values in pairs.items()}
        arrays["sink"] = np.isin(arrays["key"], np.array(sinks[head], dtype=np.int64))
        progress(0.6, "the output's error")
        measured = fidelity(attended, queries=query_count(QUERIES, sequence.n), sinks=sinks, views=views)
        output = pd.DataFrame.from_records([_record(self.mechanism().features, attended, head, measured, count)])
        output.attrs["units"] = UNITS
        tables = {"output": output, "strongest": _strongest(pairs, sinks[head], tokens_of(sequence))}
        return Parts(arrays=arrays, tables=tables, words={"sample": measured.sample.text})


def _record(m: int, attended: FavorMap, head: int, measured: Fidelity, all_pairs: int) -> dict[str, float]:
    """Counts, errors, controls and counted operations of one head."""
    sequence = attended.sequence
    real = int(sequence.real.sum())
    exact = exact_cost(heads=1, n=real, d=sequence.d, e=sequence.e, causal=sequence.causal)
    record = {
        "m": m,
        "columns": attended.feature_map.columns,
        "n": sequence.n,
        "sinks": len(measured.sinks[head]),
        "queries": len(measured.sample.queries),
        "all_pairs": all_pairs,
        "multiply_adds": attended.cost.multiply_adds / sequence.h,
        "exact_multiply_adds": exact.multiply_adds,
        "negative_denominators": float(attended.trace.negative[head][sequence.real].double().mean()),
    }
    for suffix, agreement in (("", measured.whole), (" without sinks", measured.without_sinks)):
        record["error" + suffix] = float(agreement.error[head])
        record["control" + suffix] = float(agreement.control[head])
    overlap = measured.whole.overlap
    record["overlap"] = math.nan if isinstance(overlap, Unavailable) else float(overlap[head])
    return record


def _shown(sample: QuerySample, count: int, seed: int) -> tuple[int, ...]:
    """`count` of the sampled queries, spread evenly: their rows are needed for the error anyway."""
    if count >= len(sample.queries):
        return sample.queries
    return tuple(sample.queries[i] for i in spread_draw(len(sample.queries), count, generator(seed, "queries")))


def _views(attended: FavorMap, sample: QuerySample) -> Views | None:
    """The sampled queries' estimated rows, computed once, because a row costs n·m multiply-adds; None above `HELD_CELLS`."""
    sequence = attended.sequence
    if sequence.h * len(sample.queries) * sequence.n > HELD_CELLS:
        return None
    queries = torch.tensor(sample.queries, device=sequence.q.device)
    rows, kept = attended.rows_and_kept(queries)

    def of_queries(chosen: Int[Tensor, "r"]) -> tuple[Float[Tensor, "h r n"], Bool[Tensor, "h r n"]]:
        places = torch.searchsorted(queries, chosen)
        return rows[:, places], kept[:, places]

    return of_queries


def _all_pairs(attended: FavorMap, head: int, queries: Int[Tensor, "r"], estimated: Float[Tensor, "r n"]) -> dict[str, Tensor]:
    """Every visible pair of some queries, whose estimated weights are known. Cost: their exact rows."""
    sequence = attended.sequence
    log_exact, log_kernel, allowed = log_rows(sequence, head, queries)
    normaliser = attended.trace.log_normaliser[head, queries].double()[:, None]
    normaliser_sign = 1 - 2 * attended.trace.negative[head, queries].double()[:, None]
    together, apart = norms(sequence, head, queries)
    row, key = allowed.nonzero(as_tuple=True)

    def of_pairs(x: Float[Tensor, "r n"]) -> Float[Tensor, "p"]:
        return x[row, key].float()

    log_estimate = estimated.abs().log()
    return {
        "query": queries[row],
        "key": key,
        "visible": allowed.sum(-1)[row],
        "log_exact": of_pairs(log_exact),
        "log_kernel": of_pairs(log_kernel),
        "log_estimate": of_pairs(log_estimate),
        "sign": of_pairs(estimated.sign()),
        # A weight is an estimate over the sum of the estimates: times that sum it is the estimate again.
        "log_estimated_kernel": of_pairs(log_estimate + normaliser),
        "kernel_sign": of_pairs(estimated.sign() * normaliser_sign),
        "sum_norm": of_pairs(together),
        "difference_norm": of_pairs(apart),
    }


def _strongest(pairs: dict[str, Tensor], sinks: tuple[int, ...], tokens: list[str]) -> pd.DataFrame:
    """The pairs with the largest exact weights, the largest first."""
    order = pairs["log_exact"].argsort(descending=True, stable=True)[:STRONGEST]
    query, key = (pairs[name][order].tolist() for name in ("query", "key"))
    table = pd.DataFrame(
        {
            "query": query,
            "query token": [tokens[i] for i in query],
            "key": key,
            "key token": [tokens[j] for j in key],
            "sink": [j in sinks for j in key],
            **{
                name: pairs[name][order].double().numpy()
                for name in ("log_exact", "log_estimate", "sign", "log_kernel", "log_estimated_kernel", "kernel_sign", "sum_norm")
            },
        }
    )
    table.attrs["units"] = {"query": "position", "key": "position", "log_exact": "ln share", "log_estimate": "ln share"}
    return table
