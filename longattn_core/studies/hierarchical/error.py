"""What the ways of joining levels cost and how far they miss, and the error against the number and size of the groups.

Source: ours. Errors stand beside the control, the mean of the visible values.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.mechanism import Refused
from longattn_core.measures.fidelity import fidelity
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import Sinks
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.map import HierarchicalMap
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.agreement import cost_columns
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.run import SAMPLE, run_mechanism, sinks_of
from longattn_core.studies.base.study import Progress, Result, Setting, sequence_of
from longattn_core.studies.base.sweep import Point, Row, Sweep
from longattn_core.studies.hierarchical.counts import BLOCKS, QUERIES, THREE, TWO, mean_read

OWN = "sentences and paragraphs"
"""The label of the text's own groups among equal ones."""
UNITS = {
    "error": "relative",
    "control": "relative",
    "error without sinks": "relative",
    "control without sinks": "relative",
    "overlap": "share",
    "looked": "keys and groups a query",
    "share": "share of the visible keys",
    "cost": "of exact attention's operations",
    "bytes_peak": "bytes",
    "size": "tokens",
}


def error_record(attended: HierarchicalMap, sinks: Sinks) -> Row:
    """Error, control, overlap, what a query reads, and the cost beside exact attention's, of the first head."""
    sequence = attended.sequence
    agreement = fidelity(attended, queries=SAMPLE, sinks=sinks)
    costs = cost_columns(attended)
    queries = torch.tensor(sample_queries(sequence, QUERIES).queries)
    read = mean_read(attended, queries)
    visible = float(sequence.allowed(queries).sum(-1).double().mean())
    overlap = agreement.whole.overlap
    return {
        "error": float(agreement.whole.error[0]),
        "control": float(agreement.whole.control[0]),
        "error without sinks": float(agreement.without_sinks.error[0]),
        "control without sinks": float(agreement.without_sinks.control[0]),
        "overlap": float(overlap[0]) if isinstance(overlap, torch.Tensor) else math.nan,
        "looked": read,
        "share": read / visible,
        "cost": costs["cost"] / costs["exact cost"],
        "bytes_peak": attended.cost.bytes_peak,
    }


class Variants(HeadStudy):
    """Every way of joining levels at the dials of `setting`: cost, what a query reads, error, control.

    Table `variants`: a row a variant, `refusal` where it cannot read the sequence.
    """

    key: ClassVar[str] = "hierarchical.variants"
    setting: Setting = Setting(key="hierarchical")

    def _run(self, progress: Progress) -> Result:
        chosen = self.setting.build_as(Hierarchical)
        sequence = self.sequence()
        head = self.head_in(sequence)
        alone, sinks = sequence.select_heads(head), (sinks_of(self.source)[head],)
        records: list[Row] = []
        variants = [chosen.with_dials(variant=variant.variant) for variant in Hierarchical.variants()]
        for index, mechanism in enumerate(variants):
            progress(index / len(variants), mechanism.label)
            row: Row = {"variant": mechanism.variant, "label": mechanism.label, "parameters": mechanism.parameters, "refusal": ""}
            try:
                row |= error_record(run_mechanism(mechanism, alone).attended_as(HierarchicalMap), sinks)
            except Refused as refused:
                row |= {"refusal": str(refused), **dict.fromkeys((name for name in UNITS if name != "size"), math.nan)}
            records.append(row)
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = {name: unit for name, unit in UNITS.items() if name in table.columns}
        return Result(study=self, arrays={"n": np.array(sequence.n)}, tables={"variants": table})


class GroupPoint(Point):
    """One setting on one head of one source."""

    source: Source
    head: int
    label: str
    size: int
    setting: Setting


class GroupError(HeadStudy, Sweep[GroupPoint]):
    """The output's error against the size of the groups, for two levels, three, and near fine, far coarse.

    The text's own sentences and paragraphs are one more setting (`size` 0). Groups count as `counts` says.
    """

    key: ClassVar[str] = "hierarchical.group_error"
    joined: str = Field("product", pattern="^(product|mean|gate)$")
    counts: str = Field("tokens", pattern="^(one|tokens)$")

    def points(self) -> tuple[GroupPoint, ...]:
        """Own groups first, then sizes that double."""
        n = sequence_of(self.source).n
        dials = {"variant": self.joined, "counts": self.counts}
        settings: list[tuple[str, int, dict[str, object]]] = [(OWN, 0, {**dials, "groups": "text"})]
        for power in range(1, 13):
            size = 1 << power
            if size < n:
                settings.append((TWO, size, {**dials, "groups": "fanout", "levels": 2, "fanout": size}))
            if size**2 < n:
                settings.append((THREE, size, {**dials, "groups": "fanout", "levels": 3, "fanout": size}))
            if 2 * size < n:
                settings.append((BLOCKS, size, {"variant": "near_far", "block": size}))
        return tuple(
            GroupPoint(source=self.source, head=self.head, label=label, size=size, setting=Setting(key="hierarchical", dials=own))
            for label, size, own in settings
        )

    def measure(self, point: GroupPoint) -> Row:
        """One setting. Cost: its own, and `SAMPLE` rows of exact attention."""
        sequence = sequence_of(point.source)
        head = self.head_in(sequence)
        attended = run_mechanism(point.setting.build(), sequence.select_heads(head)).attended_as(HierarchicalMap)
        return {"label": point.label, "size": point.size} | error_record(attended, (sinks_of(point.source)[head],))

    @property
    def units(self) -> dict[str, str]:
        """The units of the columns."""
        return UNITS

    def name_of(self, point: GroupPoint) -> str:
        """The setting in words."""
        return point.label if point.size == 0 else f"{point.label}, groups of {point.size}"
