"""Exact weight against estimated weight, pair by pair, and how near the output comes.

Source: Choromanski et al. 2020, arXiv:2009.14794, section 2.2. The pairs are those of up to 64 queries with all keys that
the mask lets them see; of more than 32,768 so many are drawn, and the strongest are listed besides.
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

from longattn_core.measures.fidelity import Views, fidelity
from longattn_core.measures.sampling import QuerySample, Unavailable, sample_queries, spread_draw
from longattn_core.mechanisms.favor.deviation import relative_deviation
from longattn_core.mechanisms.favor.features import UNBIASED
from longattn_core.mechanisms.favor.map import FavorMap
from longattn_core.numerics.draws import generator
from longattn_core.numerics.softmax import exact_cost
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import kept_run, sinks_of
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.favor.common import QUERIES, favor_of, few, log_rows, norms

SHOWN_QUERIES = 64
SHOWN_PAIRS = 32_768
STRONGEST = 120


class Pairs(HeadStudy):
    """What exact attention and the estimate give to the pairs of some queries.

    Arrays, one entry a pair: `query`, `key`, `visible` (keys that the query may see), `log_exact` and `log_kernel`
    (exact attention's weight and e^{q·k/√d}), `log_estimate` and `log_estimated_kernel` with their `sign` and
    `kernel_sign`, `sum_norm` ‖x + y‖², `difference_norm` ‖x − y‖², `sink` (the key is one); logarithms are natural, and
    −∞ for 0. Table `strongest`: the pairs with the largest exact weights of those queries. Table `output`: error and
    control, whole and without sinks, and counted operations, in one row.
    """

    key: ClassVar[str] = "favor.pairs"
    setting: Setting = Setting(key="favor")
    seed: int = Field(0, ge=0, le=2**31 - 1)

    def _run(self, progress: Progress) -> Result:
        favor = favor_of(self.setting)
        one = kept_run(self.source, favor)
        if one.attended is None:
            raise ValueError(one.refusal or "These features cannot read this sequence.")
        attended, sequence = one.attended, one.sequence
        assert isinstance(attended, FavorMap)
        head = self.head_in(sequence)
        sinks = sinks_of(self.source)
        progress(0.3, "pairs")
        sample = sample_queries(sequence, few(QUERIES, sequence.n))
        views = _views(attended, sample)
        shown = _shown(sample, few(SHOWN_QUERIES, sequence.n), self.seed)
        queries = torch.tensor(shown, device=sequence.q.device)
        given = attended.rows(queries, heads=head)[0] if views is None else views(queries)[0][head]
        every = _all_pairs(attended, head, queries, given.double())
        chosen = torch.arange(len(every["query"]))
        if len(chosen) > SHOWN_PAIRS:
            chosen = torch.randperm(len(chosen), generator=generator(self.seed, "favor pairs"))[:SHOWN_PAIRS].sort()[0]
        arrays = {name: values[chosen].numpy() for name, values in every.items()}
        arrays["sink"] = np.isin(arrays["key"], np.array(sinks[head], dtype=np.int64))
        progress(0.6, "the output's error")
        measured = fidelity(attended, queries=few(QUERIES, sequence.n), sinks=sinks, views=views)
        record = {
            "m": favor.features,
            "columns": attended.feature_map.columns,
            "n": sequence.n,
            "sinks": len(sinks[head]),
            "queries": len(measured.sample.queries),
            "all_pairs": len(every["query"]),
            "multiply_adds": attended.cost.multiply_adds / sequence.h,
            "exact_multiply_adds": exact_cost(
                heads=1, n=int(sequence.real.sum()), d=sequence.d, e=sequence.e, causal=sequence.causal
            ).multiply_adds,
            "negative_denominators": float(attended.trace.negative[head][sequence.real].double().mean()),
        }
        for suffix, agreement in (("", measured.whole), (" without sinks", measured.without_sinks)):
            record["error" + suffix] = float(agreement.error[head])
            record["control" + suffix] = float(agreement.control[head])
        overlap = measured.whole.overlap
        record["overlap"] = math.nan if isinstance(overlap, Unavailable) else float(overlap[head])
        output = pd.DataFrame.from_records([record])
        output.attrs["units"] = {
            "multiply_adds": "operations",
            "exact_multiply_adds": "operations",
            "error": "relative",
            "control": "relative",
            "overlap": "share",
            "negative_denominators": "share of queries",
        }
        strongest = _strongest(every, sinks[head], tokens_of(sequence))
        words = {"origin": sequence.origin, "label": favor.label, "sample": measured.sample.text}
        return Result(study=self, arrays=arrays, tables={"output": output, "strongest": strongest}, words=words)


def _shown(sample: QuerySample, count: int, seed: int) -> tuple[int, ...]:
    """Some of the sampled queries, spread as the sample is over all: their rows are needed for the error too."""
    if count >= len(sample.queries):
        return sample.queries
    return tuple(sample.queries[i] for i in spread_draw(len(sample.queries), count, generator(seed, "queries")))


HELD_CELLS = 1 << 22
"""Weights of all heads that are held while one setting is looked at: 16 MB."""


def _views(attended: FavorMap, sample: QuerySample) -> Views | None:
    """The sampled queries' rows where they are few, estimated once: one costs as much as n·m multiply-adds."""
    sequence = attended.sequence
    if sequence.h * len(sample.queries) * sequence.n > HELD_CELLS:
        return None
    queries = torch.tensor(sample.queries, device=sequence.q.device)
    rows, seen = attended.rows_and_kept(queries)

    def some(chosen: Int[Tensor, "r"]) -> tuple[Float[Tensor, "h r n"], Bool[Tensor, "h r n"]]:
        places = torch.searchsorted(queries, chosen)
        return rows[:, places], seen[:, places]

    return some


def _all_pairs(attended: FavorMap, head: int, queries: Int[Tensor, "r"], given: Float[Tensor, "r n"]) -> dict[str, Tensor]:
    """Every visible pair of the queries shown, whose estimated rows are given. Cost: their exact rows."""
    sequence = attended.sequence
    log_exact, log_kernel, allowed = log_rows(sequence, head, queries)
    normaliser = attended.trace.log_normaliser[head, queries].double()[:, None]
    flip = 1 - 2 * attended.trace.negative[head, queries].double()[:, None]
    together, apart = norms(sequence, head, queries)
    row, key = allowed.nonzero(as_tuple=True)

    def picked(x: Float[Tensor, "r n"]) -> Float[Tensor, "p"]:
        return x[row, key].float()

    size = given.abs().log()
    return {
        "query": queries[row],
        "key": key,
        "visible": allowed.sum(-1)[row],
        "log_exact": picked(log_exact),
        "log_kernel": picked(log_kernel),
        "log_estimate": picked(size),
        "sign": picked(given.sign()),
        # A weight is an estimate over the sum of the estimates: times that sum it is the estimate again.
        "log_estimated_kernel": picked(size + normaliser),
        "kernel_sign": picked(given.sign() * flip),
        "sum_norm": picked(together),
        "difference_norm": picked(apart),
    }


def _strongest(every: dict[str, Tensor], sinks: tuple[int, ...], tokens: list[str]) -> pd.DataFrame:
    order = every["log_exact"].argsort(descending=True, stable=True)[:STRONGEST]
    query, key = (every[name][order].tolist() for name in ("query", "key"))
    table = pd.DataFrame(
        {
            "query": query,
            "query token": [tokens[i] for i in query],
            "key": key,
            "key token": [tokens[j] for j in key],
            "sink": [j in sinks for j in key],
            **{
                name: every[name][order].double().numpy()
                for name in ("log_exact", "log_estimate", "sign", "log_kernel", "log_estimated_kernel", "kernel_sign", "sum_norm")
            },
        }
    )
    table.attrs["units"] = {"query": "position", "key": "position", "log_exact": "ln share", "log_estimate": "ln share"}
    return table


BINS = 24


def deviations(result: Result) -> pd.DataFrame:
    """How far an estimate of the kernel strays, relative to it, in bins of the norm that rules it, beside the law.

    By ‖x + y‖², or by ‖x − y‖² for sines and cosines. One row a bin and `curve`: "half of the pairs stray less" (the median,
    with the 10 % and 90 % of the pairs as `low` and `high`), "measured" (root mean square), "expected" (the closed form for
    independent directions at the bin's middle). Empty for features that estimate another kernel.
    """
    study = result.study
    assert isinstance(study, Pairs)
    favor = favor_of(study.setting)
    columns = ["norm", "deviation", "low", "high", "curve", "count"]
    if favor.variant not in UNBIASED or favor.kernel != "softmax":
        return pd.DataFrame(columns=columns)
    norm = result.arrays["difference_norm" if favor.variant == "trigonometric" else "sum_norm"].astype(np.float64)
    with np.errstate(over="ignore"):
        ratio = np.exp(result.arrays["log_estimated_kernel"].astype(np.float64) - result.arrays["log_kernel"].astype(np.float64))
    stray = np.abs(result.arrays["kernel_sign"] * ratio - 1)
    keep = np.isfinite(stray) & (norm > 0)
    norm, stray = norm[keep], stray[keep]
    if len(norm) == 0:
        return pd.DataFrame(columns=columns)
    edges = np.unique(np.quantile(norm, np.linspace(0, 1, BINS + 1)))
    place = np.clip(np.searchsorted(edges, norm, side="right") - 1, 0, max(0, len(edges) - 2))
    rows = []
    for index in np.unique(place):
        own, at = stray[place == index], float(np.median(norm[place == index]))
        low, middle, high = np.quantile(own, (0.1, 0.5, 0.9))
        expected = relative_deviation(
            favor.variant,
            m=favor.features,
            d=result.study.sequence().d,
            sum_norm=at,
            difference_norm=at,
            regularised=favor.regularised,
        )
        for curve, value, ends in (
            ("half of the pairs stray less", middle, (low, high)),
            ("measured", float(np.sqrt(np.mean(own**2))), (math.nan, math.nan)),
            ("expected", expected, (math.nan, math.nan)),
        ):
            rows.append((at, value, *ends, curve, len(own)))
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["units"] = {"norm": "‖q±k‖²/√d", "deviation": "of the kernel"}
    return table
