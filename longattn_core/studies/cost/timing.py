"""Milliseconds on this machine: the same settings measured at lengths that double, within a bounded time.

The machine's own limits, a large matrix product and a large copy, are measured first: the time of an algorithm's
multiplications and copies at these rates is the least that it could take. The rows depend on the machine and not on a text,
so all visitors share them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from statistics import median
from time import perf_counter, thread_time
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.mechanism import Cost
from longattn_core.contracts.sequence import Sequence
from longattn_core.sequences.sources import SyntheticSource
from longattn_core.sequences.synthetic import synthetic
from longattn_core.studies.base.sweep import Point, Row, Sweep, known_row
from longattn_core.studies.cost.break_even import crossing_between
from longattn_core.studies.cost.curves import LENGTHS, Shape, counted, showcased

WIDTH = 64
"""Channels of the one head that is measured, as in the language model."""
RUNS, MOST_RUNS = 3, 9
"""Runs whose median is kept: at least three, so that the slow first one is rarely the median; more while they are short."""
SHORT = 0.05
"""Runs are repeated until they took this many seconds together, or `MOST_RUNS` are done."""
LONGEST_RUN = 0.5
"""Where one run would take longer than this many seconds, it is not measured."""
ALL_RUNS = 40.0
"""Once the runs of a sweep took this many seconds together, no more are measured."""
PRODUCT, COPY = 1024, 1 << 24
"""The matrix product's side, and the numbers that are copied: 64 MB, more than a cache holds."""


class TimePoint(Point):
    """One mechanism at one length; the machine's own limits where `label` is empty."""

    label: str
    keys: int
    n: int
    causal: bool


def gaussian(causal: bool = True) -> SyntheticSource:
    """The source of a time sweep: unit Gaussian heads, which no mechanism finds easy or hard."""
    return SyntheticSource(settings=synthetic("gaussian", n=LENGTHS[0], d=WIDTH, causal=causal))


class CostTimes(Sweep[TimePoint]):
    """Seconds of every showcased mechanism at one budget: one head of width 64, unit Gaussian queries, keys and values.

    Processor time where the process has one thread, as the server has, else wall time. Table `times`: `seconds` (NaN
    where it was not measured) and `estimate`, which goes on from the last measured length by the mechanism's own formula,
    `dashed` where it does; `floor`, the least that the machine's rates allow, and `share` = floor ÷ seconds. `crossings` as in
    `CostCurves`; `machine` holds the rates. The shortest lengths come first.
    """

    key: ClassVar[str] = "cost.times"
    source: SyntheticSource = Field(default_factory=gaussian)
    keys: int = Field(64, ge=1, le=65536)
    causal: bool = True
    longest: int = Field(LENGTHS[-1], ge=LENGTHS[0], le=LENGTHS[-1])

    def points(self) -> tuple[TimePoint, ...]:
        """The machine, then length by length every mechanism that can read unit Gaussians; oracles of n³ are left out."""
        shape = Shape(d=WIDTH, e=WIDTH, causal=self.causal)
        readable = [
            label
            for label, shown in showcased().items()
            if shown.approximates and not shown.cubic and isinstance(counted(shown, self.keys, LENGTHS[0], shape).cost, Cost)
        ]
        lengths = [n for n in LENGTHS if n <= self.longest]
        return (self._point("", 0), *(self._point(label, n) for n in lengths for label in readable))

    def measure(self, point: TimePoint) -> Row:
        """The median of a few runs; where they would take too long, an estimate from the rate measured before."""
        if not point.label:
            return _machine()
        shown = showcased()[point.label]
        row: Row = {
            "key": shown.key,
            "label": point.label,
            "approximates": True,
            "n": point.n,
            "seconds": np.nan,
            "estimate": np.nan,
            "spent": 0.0,
        }
        cost = self._cost(point)
        if cost is None:
            return row
        expected = self._expected(point, cost)
        # The best rate decides: one run that was slow because of another process must not end the curve.
        if expected and (min(expected) > LONGEST_RUN or self._spent() > ALL_RUNS):
            return row | {"estimate": expected[-1]}
        mechanism, sequence = shown.with_budget(min(point.keys, point.n), point.n), _heads(point.n, point.causal)
        started = perf_counter()
        times: list[float] = []
        while len(times) < RUNS or (len(times) < MOST_RUNS and perf_counter() - started < SHORT):
            times.append(_timed(lambda: mechanism.attend(sequence)))
        seconds = median(times)
        machine = known_row(self, self._point("", 0)) or _machine()
        floor = max(cost.multiply_adds / machine["products"], cost.bytes_moved / machine["bandwidth"])
        return row | {
            "seconds": seconds,
            "estimate": seconds,
            "floor": floor,
            "share": floor / seconds,
            "spent": perf_counter() - started,
        }

    def name_of(self, point: TimePoint) -> str:
        """What is being measured."""
        return f"{point.label}, {point.n:,} tokens" if point.label else "this machine's own rates"

    @property
    def units(self) -> dict[str, str]:
        """Seconds throughout."""
        return {"n": "tokens", "seconds": "s", "estimate": "s", "spent": "s", "floor": "s", "share": "of the limit"}

    def _point(self, label: str, n: int) -> TimePoint:
        return TimePoint(label=label, keys=self.keys if label else 0, n=n, causal=self.causal if label else True)

    def _cost(self, point: TimePoint) -> Cost | None:
        shape = Shape(d=WIDTH, e=WIDTH, causal=point.causal)
        cost = counted(showcased()[point.label], point.keys, point.n, shape).cost
        return cost if isinstance(cost, Cost) else None

    def _expected(self, point: TimePoint, cost: Cost) -> list[float]:
        """Seconds by the formula at the rate of each shorter length that was measured; the rate of the longest comes last."""
        seconds = []
        for n in (n for n in LENGTHS if n < point.n):
            shorter = point.model_copy(update={"n": n})
            row, shorter_cost = known_row(self, shorter), self._cost(shorter)
            if row is not None and shorter_cost is not None and np.isfinite(row["seconds"]):
                seconds.append(float(row["seconds"]) * cost.multiply_adds / shorter_cost.multiply_adds)
        return seconds

    def _spent(self) -> float:
        return float(sum(row.get("spent", 0.0) for p in self.points() if (row := known_row(self, p)) is not None))

    def _tables(self, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        machine = rows[rows["label"] == ""] if "label" in rows else rows
        times = rows[rows["label"] != ""]
        tables = {"machine": machine[["products", "bandwidth"]].reset_index(drop=True)}
        tables["machine"].attrs["units"] = {"products": "multiply-adds per second", "bandwidth": "bytes per second"}
        if times.empty:
            return tables
        columns = ["key", "label", "approximates", "n", "seconds", "estimate"]
        measured = times.reindex(columns=[*columns, "floor", "share"]).reset_index(drop=True)
        measured["dashed"] = measured["seconds"].isna()
        measured.attrs["units"] = self.units
        exact = measured[measured["key"] == "exact"]
        crossings = pd.DataFrame.from_records(
            [
                {"key": own["key"].iloc[0], "label": label, "quantity": "estimate", "n": crossing_between(own, exact, "estimate")}
                for label, own in measured[measured["key"] != "exact"].groupby("label", sort=False)
            ],
            columns=["key", "label", "quantity", "n"],
        )
        crossings.attrs["units"] = {"n": "tokens"}
        return tables | {"times": measured, "crossings": crossings}


@lru_cache(maxsize=1)
def _heads(n: int, causal: bool) -> Sequence:
    draw = torch.Generator().manual_seed(n)
    q, k, v = (torch.randn(1, n, WIDTH, generator=draw) for _ in range(3))
    return Sequence(q=q, k=k, v=v, causal=causal, origin="unit Gaussian")


def _machine() -> Row:
    """What this machine multiplies and moves at best, with as many threads as the process uses."""
    square, numbers = torch.ones(PRODUCT, PRODUCT), torch.ones(COPY)
    out, copied = torch.empty_like(square), torch.empty_like(numbers)
    product = min(_timed(lambda: torch.mm(square, square, out=out)) for _ in range(RUNS))
    copying = min(_timed(lambda: copied.copy_(numbers)) for _ in range(RUNS))
    return {"label": "", "products": PRODUCT**3 / product, "bandwidth": 8.0 * COPY / copying, "spent": 0.0}


def _timed(act: Callable[[], object]) -> float:
    """Seconds of processor time where one thread does all the work, so that other processes do not count; else wall time."""
    clock = thread_time if torch.get_num_threads() == 1 else perf_counter
    started = clock()
    act()
    return clock() - started
