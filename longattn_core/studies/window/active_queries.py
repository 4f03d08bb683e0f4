"""Which queries ProbSparse lets attend: the measure of every query, sampled as the method does and exact beside it.

Source: Zhou et al. 2021, Informer, arXiv:2012.07436, section 3.1 and figure 2.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from longattn_core.measures.fidelity import fidelity
from longattn_core.measures.sampling import Unavailable
from longattn_core.mechanisms.probsparse import ProbSparse
from longattn_core.mechanisms.probsparse.map import ProbSparseMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.run import MechanismRun, kept_run
from longattn_core.studies.base.study import Progress, Setting

BOTH, ONLY_EXACT, ONLY_SAMPLED, NEITHER = "active, rightly", "missed", "active, needlessly", "lazy, rightly"


class ActiveQueries(MechanismStudy[ProbSparse]):
    """The measure M(q) of every query, largest less mean score, on a sample of keys and on all of them.

    Table `queries`: one row a real query: `position`, `token`, `sampled`, `exact`, `active` (by the sample), `rightful`
    (by the exact measure), `verdict`. Arrays: `measure [n]` (exact, NaN for padding), `active [n]`. Table `agreement`: error,
    control and overlap of ProbSparse by its sampled and by its exact measure. Cost: n² for the exact measure.
    """

    key: ClassVar[str] = "window.active_queries"
    reads: ClassVar[type[ProbSparse]] = ProbSparse
    setting: Setting = Setting(key="probsparse")

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, head = run.sequence, self.head_in(run.sequence)
        chosen: dict[str, ProbSparseMap] = {}
        for place, measure in enumerate(("sampled", "exact")):
            progress(place / 2, measure)
            chosen[measure] = kept_run(self.source, self.mechanism().with_dials(measure=measure)).attended_as(ProbSparseMap)
        real = sequence.real.nonzero().squeeze(-1).numpy()
        measures = {name: of.trace.measure[head].double().numpy() for name, of in chosen.items()}
        active = {name: of.trace.active[head].numpy() for name, of in chosen.items()}
        table = pd.DataFrame(
            {
                "position": real,
                "token": token_array(sequence)[real],
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
        arrays = {"measure": everywhere, "active": active["sampled"]}
        return Parts(arrays=arrays, tables={"queries": table, "agreement": _agreement(chosen, head)})


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
