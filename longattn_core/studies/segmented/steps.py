"""One query's row, step by step: as exact attention has it, cut, summarised, and joined in one softmax."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.mechanisms.segmented.map import SegmentedMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import query_place
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting

Step = Literal["exact", "cut", "overlap", "summarise", "integrate", "join"]

STEPS: dict[str, tuple[Step, ...]] = {
    "none": ("exact", "cut", "join"),
    "shifted": ("exact", "cut", "join"),
    "overlap": ("exact", "cut", "overlap", "join"),
    "summaries": ("exact", "cut", "summarise", "join"),
    "second": ("exact", "cut", "summarise", "integrate", "join"),
}
"""The steps of each integration, in order."""


class SegmentSteps(MechanismStudy[Segmented]):
    """The steps of one query's row.

    Array `weights [steps n]`, NaN where nothing is read: `exact` the exact row; `cut` what of it lies in the own
    segment; `overlap` also what lies in the overlap; `summarise` the exact mass of each other segment, spread evenly over its
    tokens, the best that a mean could tell; `integrate` the same mass by the second attention's shares; `join` the
    mechanism's row, one softmax over what is left. Table `frames`: `frame`, `held` (sum of the row), `agrees`
    (Σ min with the exact row), `read` (keys). Table `segments`: `segment`, `start`, `stop`, `exact` and `given` mass.
    """

    key: ClassVar[str] = "segmented.steps"
    reads: ClassVar[type[Segmented]] = Segmented
    setting: Setting = Setting(key="segmented")
    query: int | None = Field(None, ge=0, le=131072)

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, mechanism = run.sequence, run.attended_as(SegmentedMap), self.mechanism()
        head, query = self.head_in(sequence), query_place(sequence, self.query)
        trace = attended.trace
        exact = exact_rows(sequence, query, head)[0, 0].double()
        given = attended.rows(query, None, head)[0, 0].double()
        own = trace.segment == trace.segment[query]
        visible = sequence.allowed(query)[0]
        kept = attended.kept(query, None, head)[0, 0]
        rows = {
            "exact": torch.where(visible, exact, torch.nan),
            "cut": torch.where(own & visible, exact, torch.nan),
            "overlap": torch.where(kept, exact, torch.nan),
            "summarise": torch.where(own & visible, exact, _evenly(exact, visible & ~own, trace.segment)),
            "integrate": torch.where(own & visible, exact, _integrated(exact, given, visible & ~own)),
            "join": torch.where(kept, given, torch.nan),
        }
        steps = STEPS[mechanism.variant]
        weights = torch.stack([rows[name] for name in steps]).float().cpu().numpy()
        whole = exact.float().cpu().numpy()
        frames = pd.DataFrame(
            {
                "frame": steps,
                "held": np.nansum(weights, axis=1),
                "agrees": np.nansum(np.minimum(weights, whole), axis=1),
                "read": (~np.isnan(weights)).sum(axis=1),
            }
        )
        frames.attrs["units"] = {"held": "share", "agrees": "share", "read": "keys"}
        segments = _segments(trace.boundaries, exact, given)
        arrays = {
            "weights": weights,
            "query": np.array(query),
            "segment": trace.segment.cpu().numpy(),
            "boundaries": trace.boundaries.cpu().numpy(),
        }
        read = attended.read_count(head, query)
        tables = {"frames": frames, "segments": segments}
        return Parts(arrays=arrays, tables=tables, words={"looked": f"{read.count:,} {read.unit}"})


def _evenly(exact: Float[Tensor, "n"], others: Tensor, segment: Tensor) -> Float[Tensor, "n"]:
    """The exact mass of each other segment, spread evenly over its tokens."""
    count = int(segment.max()) + 1
    mass = exact.new_zeros(count).index_add(0, segment[others], exact[others])
    size = exact.new_zeros(count).index_add(0, segment[others], torch.ones_like(exact[others]))
    return torch.where(others, (mass / size.clamp_min(1))[segment], torch.nan)


def _integrated(exact: Float[Tensor, "n"], given: Float[Tensor, "n"], others: Tensor) -> Float[Tensor, "n"]:
    """The exact mass outside the own segment, by the shares that the integrated summary has of each token."""
    total = given[others].sum()
    shares = given / total if float(total) > 0 else torch.zeros_like(given)
    return torch.where(others, shares * exact[others].sum(), torch.nan)


def _segments(boundaries: Tensor, exact: Float[Tensor, "n"], given: Float[Tensor, "n"]) -> pd.DataFrame:
    edges = boundaries.cpu().numpy()
    sums = [np.add.reduceat(row.cpu().numpy(), edges[:-1]) for row in (exact, given)]
    table = pd.DataFrame(
        {"segment": np.arange(len(edges) - 1), "start": edges[:-1], "stop": edges[1:], "exact": sums[0], "given": sums[1]}
    )
    table.attrs["units"] = {"start": "token", "stop": "token", "exact": "share", "given": "share"}
    return table
