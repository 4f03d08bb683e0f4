"""Which queries ProbSparse lets attend: the measure of every query, sampled as the method does and exact beside it.

Source: Zhou et al. 2021, Informer, arXiv:2012.07436, section 3.1 and figure 2.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.measures.fidelity import fidelity
from longattn_core.measures.sampling import Unavailable
from longattn_core.mechanisms.probsparse.mechanism import ProbSparse, ProbSparseMap
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result, Setting

BOTH, ONLY_EXACT, ONLY_SAMPLED, NEITHER = "active, rightly", "missed", "active, needlessly", "lazy, rightly"


class ActiveQueries(HeadStudy):
    """The measure M(q) of every query, largest less mean score, on a sample of keys and on all of them.

    Table `queries`: one row a real query: `position`, `token`, `sampled`, `exact`, `active` (by the sample), `rightful`
    (by the exact measure), `verdict`. Arrays: `measure [n]` (exact, NaN for padding), `active [n]`. Table `agreement`: error,
    control and overlap of ProbSparse by its sampled and by its exact measure. Cost: n² for the exact measure.
    """

    key: ClassVar[str] = "window.active_queries"
    setting: Setting = Setting(key="probsparse")

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = self.head_in(sequence)
        chosen: dict[str, ProbSparseMap] = {}
        for place, measure in enumerate(("sampled", "exact")):
            progress(place / 2, measure)
            one = kept_run(self.source, self._measuring(measure))
            if one.attended is None:
                return Result(study=self, words={"refusal": one.refusal or ""})
            assert isinstance(one.attended, ProbSparseMap)
            chosen[measure] = one.attended
        real = sequence.real.nonzero().squeeze(-1).numpy()
        measures = {name: of.trace.measure[head].double().numpy() for name, of in chosen.items()}
        active = {name: of.trace.active[head].numpy() for name, of in chosen.items()}
        table = pd.DataFrame(
            {
                "position": real,
                "token": np.array(tokens_of(sequence), dtype=np.str_)[real],
                "sampled": measures["sampled"][real],
                "exact": measures["exact"][real],
                "active": active["sampled"][real],
                "rightful": active["exact"][real],
            }
        )
        table["verdict"] = np.select(
            [table["active"] & table["rightful"], table["rightful"], table["active"]], [BOTH, ONLY_EXACT, ONLY_SAMPLED], NEITHER
        )
        table.attrs["units"] = {"position": "token", "sampled": "score", "exact": "score"}
        everywhere = np.full(sequence.n, np.nan)
        everywhere[real] = measures["exact"][real]
        arrays = {"measure": everywhere, "active": active["sampled"], "tokens": np.array(tokens_of(sequence), dtype=np.str_)}
        return Result(study=self, arrays=arrays, tables={"queries": table, "agreement": _agreement(chosen, head)})

    def _measuring(self, measure: str) -> Mechanism:
        built = self.setting.build()
        if not isinstance(built, ProbSparse):
            raise ValueError(f"Active queries are ProbSparse's, not those of {built.title}.")
        return built.with_dials(measure=measure)


def _agreement(chosen: dict[str, ProbSparseMap], head: int) -> pd.DataFrame:
    records = []
    for name, attended in chosen.items():
        whole = fidelity(attended, queries=256).whole
        overlap = np.nan if isinstance(whole.overlap, Unavailable) else float(whole.overlap[head])
        records.append(
            {
                "measure": name,
                "error": float(whole.error[head]),
                "control": float(whole.control[head]),
                "overlap": overlap,
                "active": float(torch.as_tensor(attended.trace.active[head]).double().mean()),
            }
        )
    table = pd.DataFrame.from_records(records)
    table.attrs["units"] = {"error": "relative", "control": "relative", "overlap": "share", "active": "share of queries"}
    return table
