"""One query's way through a router: its logits and shares, what each path reads for it, and their mixture."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.routed import Routed
from longattn_core.mechanisms.routed.router_map import RouterMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import query_place
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting
from longattn_core.studies.routed.path_outputs import mixed_run


class Route(MechanismStudy[Routed]):
    """One query's way: its logits and shares, what each path reads for it, their mixture, and exact attention.

    Arrays: `logits`, `shares` `[p]`; `rows [p, n]`, each path's weights, NaN where it never looks; `mixture`, `exact` `[n]`.
    """

    key: ClassVar[str] = "routed.route"
    reads: ClassVar[type[Routed]] = Routed
    setting: Setting = Setting(key="routed")
    query: int | None = Field(None, ge=0, le=65535)

    def _runs(self) -> MechanismRun:
        return mixed_run(self.source, self.mechanism().with_dials(variant="router"))

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, head = run.sequence, run.attended_as(RouterMap), self.head_in(run.sequence)
        trace, query = attended.trace, query_place(sequence, self.query)
        exact = exact_rows(sequence, query, head)[0, 0].double()
        arrays = {
            "logits": (sequence.q[head, query].double() @ trace.router[head].double()).numpy(),
            "shares": trace.probabilities[head, query].double().numpy(),
            "rows": torch.stack([_row(path, head, query) for path in trace.attended]).numpy(),
            "mixture": _row(attended, head, query).numpy(),
            "exact": torch.where(sequence.allowed(query)[0], exact, torch.nan).numpy(),
            "query": np.array(query),
            "before": np.array(query < trace.start),
        }
        return Parts(arrays=arrays, words={"paths": "\n".join(trace.paths)})


def _row(attended: Attended, head: int, query: int) -> Float[Tensor, "n"]:
    row, seen = (view[0, 0] for view in attended.rows_and_kept(query, head))
    return torch.where(seen, row.double(), torch.nan)
