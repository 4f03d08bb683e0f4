"""Where sines and cosines break: the sum of the estimated weights that every output is divided by.

Source: Choromanski et al. 2020, arXiv:2009.14794, section 2.3. Where kernel values are small, about half of the
trigonometric estimates are negative. Their sum then comes near 0 or below, and the division explodes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch

from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.sampling import sample_queries
from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.map import FavorMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun, kept_run
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.favor.sampled import QUERIES, log_rows, query_count

KINDS = ("positive", "hyperbolic", "trigonometric")
SMALL = 0.1
"""A sum below this share of the exact one is near 0."""


class Denominators(MechanismStudy[Favor]):
    """The estimated sum of weights over the exact one, for up to 256 queries and each unbiased kind of feature.

    The draw, m, orthogonality and length of the directions are those of `setting`. Table `sums`: a row for each query and kind,
    with `ratio` (1 is exact, below 0 the sign is wrong) and `largest`, the row's largest |weight| (1 at most for shares).
    Table `kinds`: for each kind the share of sums below 0 and of those under a tenth of the exact one, and the
    output's error. Cost: one run and the exact and estimated rows of the queries, for each kind.
    """

    key: ClassVar[str] = "favor.denominators"
    reads: ClassVar[type[Favor]] = Favor
    setting: Setting = Setting(key="favor")

    def _run_of(self, kind: str) -> MechanismRun:
        favor = self.mechanism()
        dials = favor.model_dump(include={"features", "seed", "orthogonal", "regularised"})
        return kept_run(self.source, Favor.model_validate({**dials, "variant": kind}))

    def _runs(self) -> MechanismRun:
        """The first kind's run: the setting's own kind is none of the three where it is not unbiased."""
        return self._run_of(KINDS[0])

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        head, sums, kinds = self.head_in(run.sequence), [], []
        for index, kind in enumerate(KINDS):
            progress(index / len(KINDS), kind)
            table, record = _sums_of(self._run_of(kind).attended_as(FavorMap), head, kind)
            sums.append(table)
            kinds.append(record)
        rows = pd.concat(sums, ignore_index=True)
        rows.attrs["units"] = {"query": "position", "ratio": "of the exact sum", "largest": "weight"}
        summary = pd.DataFrame.from_records(kinds)
        summary.attrs["units"] = {"negative": "share of queries", "small": "share of queries", "error": "relative"}
        return Parts(tables={"sums": rows, "kinds": summary})


def _sums_of(attended: FavorMap, head: int, kind: str) -> tuple[pd.DataFrame, dict[str, float | str]]:
    sequence = attended.sequence
    queries = torch.tensor(sample_queries(sequence, query_count(QUERIES, sequence.n)).queries)
    exact = log_rows(sequence, head, queries)[1].logsumexp(-1)
    sign = 1 - 2 * attended.trace.negative[head, queries].double()
    ratio = (sign * (attended.trace.log_normaliser[head, queries].double() - exact).exp()).numpy()
    largest = attended.rows(queries, heads=head)[0].abs().amax(-1).double().numpy()
    reference = exact_rows(sequence, queries, head)[0].double() @ sequence.v[head].double()
    error = float((attended.output[head, queries].double() - reference).norm() / reference.norm().clamp_min(1e-300))
    table = pd.DataFrame({"features": kind, "query": queries.numpy(), "ratio": ratio, "largest": largest})
    record: dict[str, float | str] = {
        "features": kind,
        "negative": float(np.mean(ratio < 0)),
        "small": float(np.mean(ratio < SMALL)),
        "median": float(np.median(ratio)),
        "largest": float(largest.max()) if len(largest) else math.nan,
        "error": error,
    }
    return table, record


@dataclass(frozen=True, kw_only=True)
class DenominatorsFinding:
    """Whether sums of trigonometric weights fall below 0 (`breaks`), only near it (`near`), or stay clear (`holds`).

    Numbers are those of sines and cosines; those of positive features begin with `positive`.
    """

    kind: Literal["breaks", "near", "holds"]
    negative: float
    small: float
    largest: float
    error: float
    positive_small: float
    positive_error: float


def denominators_finding(result: Result) -> DenominatorsFinding:
    """Read a `Denominators` result."""
    rows = {str(row["features"]): row for row in result.tables["kinds"].to_dict("records")}
    sine, positive = rows["trigonometric"], rows["positive"]
    kind: Literal["breaks", "near", "holds"] = "near" if sine["small"] > 0 else "holds"
    return DenominatorsFinding(
        kind="breaks" if sine["negative"] > 0 else kind,
        negative=sine["negative"],
        small=sine["small"],
        largest=sine["largest"],
        error=sine["error"],
        positive_small=positive["small"],
        positive_error=positive["error"],
    )
