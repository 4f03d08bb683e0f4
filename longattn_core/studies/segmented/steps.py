"""One query's row, frame by frame: as exact attention has it, cut, summarised, and joined in one softmax."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import exact_rows
from longattn_core.mechanisms.segmented.map import SegmentedMap
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result, Setting

Frame = Literal["exact", "cut", "overlap", "summarise", "integrate", "join"]

ORDER: dict[str, tuple[Frame, ...]] = {
    "none": ("exact", "cut", "join"),
    "shifted": ("exact", "cut", "join"),
    "overlap": ("exact", "cut", "overlap", "join"),
    "summaries": ("exact", "cut", "summarise", "join"),
    "second": ("exact", "cut", "summarise", "integrate", "join"),
}
"""The frames of each integration, in order."""


class SegmentSteps(HeadStudy):
    """The frames of one query's row.

    Array `weights [frames, n]`, NaN where nothing is read: `exact` the exact row; `cut` what of it lies in the own
    segment; `overlap` also what lies in the overlap; `summarise` the others' exact mass spread evenly over each segment,
    the best that a mean could tell; `integrate` the same mass by the second attention's shares; `join` the
    mechanism's row, one softmax over what is left. Table `frames`: `frame`, `held` (sum of the row), `agrees`
    (Σ min with the exact row). Table `segments`: `segment`, `start`, `stop`, `exact` and `given` mass.
    """

    key: ClassVar[str] = "segmented.steps"
    setting: Setting = Setting(key="segmented")
    query: int | None = Field(None, ge=0, le=131072)

    def _run(self, progress: Progress) -> Result:
        one = kept_run(self.source, self.setting.build())
        sequence, attended = one.sequence, one.attended
        arrays = {"tokens": np.array(tokens_of(sequence), dtype=np.str_)}
        if attended is None:
            return Result(study=self, arrays=arrays, words={"refusal": one.refusal or ""})
        assert isinstance(attended, SegmentedMap)
        head, query = self.head_in(sequence), self.place(sequence.real)
        trace = attended.trace
        exact = exact_rows(sequence, query, head)[0, 0].double()
        given = attended.rows(query, None, head)[0, 0].double()
        own = trace.segment == trace.segment[query]
        visible = sequence.allowed(query)[0]
        seen = attended.kept(query, None, head)[0, 0]
        variant = str(one.mechanism.variant)  # type: ignore[attr-defined]
        made = {
            "exact": torch.where(visible, exact, torch.nan),
            "cut": torch.where(own & visible, exact, torch.nan),
            "overlap": torch.where(seen, exact, torch.nan),
            "summarise": torch.where(own & visible, exact, _evenly(exact, visible & ~own, trace.segment)),
            "integrate": torch.where(own & visible, exact, _integrated(exact, given, visible & ~own)),
            "join": torch.where(seen, given, torch.nan),
        }
        names = ORDER[variant]
        weights = torch.stack([made[name] for name in names]).float().cpu().numpy()
        whole = exact.float().cpu().numpy()
        frames = pd.DataFrame(
            {
                "frame": names,
                "held": np.nansum(weights, axis=1),
                "agrees": np.nansum(np.minimum(weights, whole), axis=1),
                "read": (~np.isnan(weights)).sum(axis=1),
            }
        )
        frames.attrs["units"] = {"held": "share", "agrees": "share", "read": "keys"}
        segments = _segments(trace.boundaries, exact, given)
        arrays |= {
            "weights": weights,
            "query": np.array(query),
            "segment": trace.segment.cpu().numpy(),
            "boundaries": trace.boundaries.cpu().numpy(),
        }
        looked = attended.read_count(head, query)
        return Result(
            study=self,
            arrays=arrays,
            tables={"frames": frames, "segments": segments},
            words={"label": one.mechanism.label, "looked": f"{looked.count:,} {looked.unit}"},
        )

    def place(self, real: Tensor) -> int:
        """The query: the one asked for, or the last real token."""
        return int(real.nonzero().max()) if self.query is None or self.query >= len(real) else self.query


def _evenly(exact: Float[Tensor, "n"], others: Tensor, segment: Tensor) -> Float[Tensor, "n"]:
    """The exact mass of each other segment, an even part of it for each of its tokens."""
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
