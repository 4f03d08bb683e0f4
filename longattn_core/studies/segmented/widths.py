"""What is lost, and how wrong the output is, as segments grow: every integration, to the one segment that is exact."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from longattn_core.contracts.mechanism import Refused
from longattn_core.measures.reach import Integration
from longattn_core.measures.sampling import sample_queries
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.agreement import ALL_AGREEMENT_UNITS, agreement_record
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.lost_rows import LostRows
from longattn_core.studies.base.run import run_mechanism
from longattn_core.studies.base.study import sequence_of
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.segmented.reach import INTEGRATIONS

SAMPLE = 256
"""Queries of each run whose rows are read, at most."""
NARROWEST = 8
"""Tokens of the narrowest segments."""


class SegmentPoint(Point):
    """One width under one integration."""

    source: Source
    integration: Integration
    width: int
    boundaries: Literal["fixed", "sentences"]
    overlap: int
    counts: Literal["one", "tokens"]
    head: int


class SegmentWidths(HeadStudy, Sweep[SegmentPoint]):
    """Error, control and lost mass at widths that double up to n, for each integration.

    Rows: `integration`, `label`, `width`, `lost` and `lost without sinks` (exact mass that is not given any more),
    `cost` (operations, counted), and the agreement with exact attention; NaN where the setting refuses.
    """

    key: ClassVar[str] = "segmented.widths"
    boundaries: Literal["fixed", "sentences"] = "fixed"
    overlap: int = Field(16, ge=0, le=131072)
    counts: Literal["one", "tokens"] = "tokens"

    def points(self) -> tuple[SegmentPoint, ...]:
        """Widths from n down, so that the right ends of all curves come first, and the integrations in turn."""
        n = self.sequence().n
        widths = [n, *(1 << power for power in range(n.bit_length(), 2, -1) if NARROWEST <= 1 << power < n)]
        return tuple(
            SegmentPoint(
                source=self.source,
                integration=name,
                width=width,
                boundaries=self.boundaries,
                overlap=self.overlap,
                counts=self.counts,
                head=self.head,
            )
            for width in widths
            for name in INTEGRATIONS
        )

    def measure(self, point: SegmentPoint) -> Row:
        """One attention and its rows at `SAMPLE` queries."""
        mechanism = Segmented(
            variant=point.integration, width=point.width, boundaries=point.boundaries, overlap=point.overlap, counts=point.counts
        )
        sequence = sequence_of(point.source)
        row: Row = {"integration": point.integration, "label": INTEGRATIONS[point.integration], "width": point.width}
        try:
            attended = run_mechanism(mechanism, sequence).attended_or_raise()
        except Refused as refused:
            return row | {"lost": float("nan"), "refusal": str(refused)}
        head = self.head_in(sequence)
        rows = LostRows.of(attended, sample_queries(sequence, SAMPLE), head)
        return row | {
            "lost": rows.whole("attention"),
            "lost without sinks": rows.whole("without sinks"),
            "never": rows.whole("attention", never=True),
            "cost": attended.cost.multiply_adds,
            "refusal": "",
            **agreement_record(attended, head),
        }

    @property
    def units(self) -> dict[str, str]:
        """The unit of each column."""
        lost = dict.fromkeys(("lost", "lost without sinks", "never"), "share")
        return {"width": "tokens", "cost": "operations", **lost, **ALL_AGREEMENT_UNITS}

    def name_of(self, point: SegmentPoint) -> str:
        """The point in words."""
        return f"{INTEGRATIONS[point.integration]}, s = {point.width:,}"
