"""How far the estimate of the kernel itself deviates, against the number of directions, beside the paper's closed forms.

Source: Choromanski et al. 2020, arXiv:2009.14794, lemma 2 and theorem 2. Measured over pairs of the sequence with
‖x + y‖² ≤ 2, where a measurement can agree with the closed form. Beyond, directions so rare that no run of this length
draws them contribute most of the mean.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.theory import features as law
from longattn_core.mechanisms.favor.features import FeatureMap, Kind, draw_projection
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.intervals import interval
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.favor.sampled import sampled_head

KINDS: tuple[Kind, ...] = ("positive", "hyperbolic", "trigonometric")
COUNTS = (4, 16, 64, 256, 1024)
DRAWS = 48
PAIRS = 256
"""Pairs that the squared error is averaged over, evenly spaced among those that qualify."""


class KernelPoint(Point):
    """One kind of feature at one number of directions, over `DRAWS` draws."""

    source: Source
    head: int
    kind: Literal["positive", "hyperbolic", "trigonometric"]
    orthogonal: bool
    rows: int


class KernelErrors(HeadStudy, Sweep[KernelPoint]):
    """Root mean square of (estimate − kernel)/kernel over draws and pairs, against m or against columns.

    Table `points`: a row a setting, with the 95 % interval over draws and `theory`, the root of the mean closed form over the
    same pairs (NaN for orthogonal directions beyond m = d, where there is none). Table `curves`: both, as curves. Where no pair
    qualifies (see `pairs_near`) the errors are NaN.
    """

    key: ClassVar[str] = "favor.kernel_errors"
    equal: Literal["m", "width"] = "m"
    counts: tuple[int, ...] = Field(COUNTS, min_length=1, max_length=12)

    def points(self) -> tuple[KernelPoint, ...]:
        """Few features first."""
        return tuple(
            KernelPoint(
                source=self.source,
                head=self.head,
                kind=kind,
                orthogonal=orthogonal,
                rows=max(1, count // 2) if self.equal == "width" and kind != "positive" else count,
            )
            for count in self.counts
            for orthogonal in (True, False)
            for kind in KINDS
        )

    def measure(self, point: KernelPoint) -> Row:
        """Estimate the same pairs from many draws. Cost: draws·m·(d + pairs) and as many exponentials."""
        sequence = sampled_head(point.source, point.head).sequence
        x, y = near_pairs(sequence)
        squares = [_mean_square(point, x, y, seed) for seed in range(DRAWS)] if len(x) else []
        mean, low, high = interval(squares)
        directions = "orthogonal" if point.orthogonal else "independent"
        return {
            "family": point.kind,
            "directions": directions,
            "m": point.rows,
            "columns": point.rows * (1 if point.kind == "positive" else 2),
            "error": _root(mean),
            "low": _root(low),
            "high": _root(high),
            "theory": _root(expected_square(point.kind, directions, x, y, point.rows)),
            "pairs": len(x),
        }

    @property
    def units(self) -> dict[str, str]:
        """Relative to the kernel."""
        return dict.fromkeys(("error", "low", "high", "theory"), "of the kernel") | {"m": "directions"}

    def name_of(self, point: KernelPoint) -> str:
        """What is being measured."""
        return f"{point.kind}, {point.rows:,} directions"

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        sized = rows.assign(size=rows["m"] if self.equal == "m" else rows["columns"])
        keep = ["family", "directions", "size", "error", "low", "high"]
        measured = sized[keep].assign(source="measured")
        closed = sized.assign(error=sized["theory"], low=sized["theory"], high=sized["theory"])[keep]
        curves = pd.concat([measured, closed.assign(source="closed form")], ignore_index=True)
        curves = curves[np.isfinite(curves["error"])].reset_index(drop=True)
        curves.attrs["units"] = self.units
        return {"curves": curves}


def pairs_near(source: Source, head: int) -> int:
    """How many visible pairs of some queries have ‖x + y‖² ≤ 2 (at most `PAIRS` are counted)."""
    return len(near_pairs(sampled_head(source, head).sequence)[0])


def near_pairs(sequence: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """x and y `[p d]` of visible pairs of up to 64 evenly spaced queries whose ‖x + y‖² can be confirmed."""
    real = sequence.real.nonzero().squeeze(-1)
    queries = real[torch.linspace(0, len(real) - 1, min(64, len(real))).long()]
    scale = sequence.d**-0.25
    x, y = sequence.q[0, queries].double() * scale, sequence.k[0].double() * scale
    near = (torch.cdist(x, -y).square() <= law.CONFIRMABLE) & sequence.allowed(queries)
    row, key = near.nonzero(as_tuple=True)
    chosen = torch.linspace(0, max(0, len(row) - 1), min(PAIRS, len(row))).long()
    return x[row[chosen]].numpy(), y[key[chosen]].numpy()


def _mean_square(point: KernelPoint, x: np.ndarray, y: np.ndarray, seed: int) -> float:
    """Mean over the pairs of (estimate/kernel − 1)² from one draw."""
    like = torch.zeros(1, dtype=torch.float64)
    d = x.shape[1]
    projection = draw_projection(seed=seed, m=point.rows, d=d, orthogonal=point.orthogonal, regularised=False, like=like)
    feature_map = FeatureMap(kind=point.kind, kernel="softmax", epsilon=1e-3, projection=projection)
    # `of` scales its input by d^(−1/4), as x and y already are.
    query, key = (feature_map.of(torch.from_numpy(part) * d**0.25, head=0, keys=side) for part, side in ((x, False), (y, True)))
    estimate = (query.shifted(like) * key.shifted(like)).sum(-1)
    return float((estimate * torch.from_numpy(np.exp(-(x * y).sum(-1))) - 1).square().mean())


def expected_square(kind: str, directions: str, x: np.ndarray, y: np.ndarray, m: int) -> float:
    """Mean over the pairs of the closed form of E[(estimate/kernel − 1)²]; NaN where there is none."""
    if len(x) == 0 or (directions == "orthogonal" and (kind == "trigonometric" or m > x.shape[1])):
        return math.nan
    forms = {"positive": law.mse_positive, "hyperbolic": law.mse_hyperbolic, "trigonometric": law.mse_trigonometric}
    square = forms[kind](x, y, m)
    if directions == "orthogonal":
        square = square - law.orthogonal_gain(x, y, m)
    return float(np.mean(square / law.kernel(x, y) ** 2))


def _root(square: float) -> float:
    return math.sqrt(max(0.0, square)) if math.isfinite(square) else math.nan
