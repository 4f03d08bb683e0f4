"""Where sines and cosines break: the sum of the estimated weights that every output is divided by.

Source: Choromanski et al. 2020, arXiv:2009.14794, section 2.3: where kernel values are small, trigonometric estimates are
negative as often as not, their sum comes near 0 or below, and the division explodes.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.sampling import sample_queries
from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.map import FavorMap
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.favor.common import QUERIES, favor_of, few, log_rows

KINDS = ("positive", "hyperbolic", "trigonometric")
SMALL = 0.1
"""A sum below this share of the exact one is near 0."""


class Denominators(HeadStudy):
    """The estimated sum of weights over the exact one, for up to 256 queries and each unbiased kind of feature.

    The draw, m, orthogonality and length of the directions are those of `setting`. Table `sums`: a row a query and kind,
    with `ratio` (1 is exact, below 0 the sign is wrong) and `largest`, the row's largest |weight| (1 at most for shares).
    Table `kinds`: for each kind the share of sums below 0 and of those under a tenth of the exact one, and the
    output's error.
    """

    key: ClassVar[str] = "favor.denominators"
    setting: Setting = Setting(key="favor")

    def _run(self, progress: Progress) -> Result:
        favor, sums, kinds = favor_of(self.setting), [], []
        for index, kind in enumerate(KINDS):
            progress(index / len(KINDS), kind)
            one = kept_run(self.source, _of_kind(favor, kind))
            assert isinstance(one.attended, FavorMap)
            table, record = _measure(one.attended, self.head_in(one.sequence), kind)
            sums.append(table)
            kinds.append(record)
        rows = pd.concat(sums, ignore_index=True)
        rows.attrs["units"] = {"query": "position", "ratio": "of the exact sum", "largest": "weight"}
        summary = pd.DataFrame.from_records(kinds)
        summary.attrs["units"] = {"negative": "share of queries", "small": "share of queries", "error": "relative"}
        return Result(study=self, tables={"sums": rows, "kinds": summary})


def _of_kind(favor: Favor, kind: str) -> Favor:
    return Favor.model_validate(
        {
            "variant": kind,
            "features": favor.features,
            "seed": favor.seed,
            "orthogonal": favor.orthogonal,
            "regularised": favor.regularised,
        }
    )


def _measure(attended: FavorMap, head: int, kind: str) -> tuple[pd.DataFrame, dict[str, float | str]]:
    sequence = attended.sequence
    queries = torch.tensor(sample_queries(sequence, few(QUERIES, sequence.n)).queries)
    exact = log_rows(sequence, head, queries)[1].logsumexp(-1)
    sign = 1 - 2 * attended.trace.negative[head, queries].double()
    ratio = (sign * (attended.trace.log_normaliser[head, queries].double() - exact).exp()).numpy()
    largest = attended.rows(queries, heads=head)[0].abs().amax(-1).double().numpy()
    reference = exact_rows(sequence, queries, head)[0].double() @ sequence.v[head].double()
    wrong = float((attended.output[head, queries].double() - reference).norm() / reference.norm().clamp_min(1e-300))
    table = pd.DataFrame({"features": kind, "query": queries.numpy(), "ratio": ratio, "largest": largest})
    record: dict[str, float | str] = {
        "features": kind,
        "negative": float(np.mean(ratio < 0)),
        "small": float(np.mean(ratio < SMALL)),
        "median": float(np.median(ratio)),
        "largest": float(largest.max()) if len(largest) else math.nan,
        "error": wrong,
    }
    return table, record
