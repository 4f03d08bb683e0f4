"""Segment by segment: which tokens the memory holds, and how much of exact attention falls on them. Source: ours."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pandas as pd

from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.sampling import QuerySample, sample_queries
from longattn_core.mechanisms.memory import Memory
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.agreement import AGREEMENT_UNITS, agreement_record, cost_columns
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.cumulated_rows import CumulatedRows
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.run import MechanismRun, sinks_of
from longattn_core.studies.base.study import Progress, Setting
from longattn_core.studies.memory.held import STATUSES, Held

SAMPLE = 512
"""Queries whose exact rows make the shares of the whole text, at most."""
STOPS = 24
"""Segments at which the timeline can stand still, at most, evenly spread."""
SEGMENT_QUERIES = 64
"""Queries of a segment whose rows are averaged, at most."""

SHARE_UNITS = {name + end: "share" for name in STATUSES for end in ("", " without sinks")}


class MemoryTimeline(MechanismStudy[Memory]):
    """The memory at each segment, over the exact attention of that segment's queries.

    Arrays: `spans [t 4]`, as in `Held`; `stops [k]` the segments to stand at; `mass [k n]` the mean exact row of such a
    segment's queries; `query_of [k]` its last query; `sinks`; `life`, a state's in tokens. Table `segments`: `segment`,
    `start`, `stop`, and the share of its queries' exact attention on keys of each status, also `… without sinks`. Table
    `whole`, one row: the same over all (sampled) queries (of a state by each query's own distance), cost, and the agreement
    with exact attention.
    """

    key: ClassVar[str] = "memory.timeline"
    reads: ClassVar[type[Memory]] = Memory
    setting: Setting = Setting(key="memory")

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, mechanism = run.sequence, run.attended_or_raise(), self.mechanism()
        head = self.head_in(sequence)
        held = Held.of(run, head)
        progress(0.2, mechanism.label)
        sample = sample_queries(sequence, SAMPLE)
        sinks = sinks_of(self.source)[head]
        rows = _rows_of(self.source, sequence, sample, head, sinks)
        spans = held.spans.cpu().numpy()
        stops = np.unique(np.linspace(0, len(spans) - 1, min(STOPS, len(spans))).round().astype(np.int64))
        records = []
        mass, last = np.zeros((len(stops), sequence.n), dtype=np.float32), np.zeros(len(stops), np.int64)
        for place, segment in enumerate(stops.tolist()):
            progress(0.3 + 0.6 * place / len(stops), mechanism.label)
            start, stop = int(spans[segment, 2]), int(spans[segment, 3])
            queries = _queries_of(sequence, start, stop)
            own = rows.among(queries) if sample.whole else CumulatedRows.of(sequence, queries, head, sinks)
            record = {"segment": segment, "start": start, "stop": stop}
            if len(queries):
                mass[place] = own.exact.mean(0).float().cpu().numpy()
                last[place] = queries[-1]
                record |= held.shares(own, held.of_queries(own.queries))
            records.append(record)
        segments = pd.DataFrame.from_records(records)
        segments.attrs["units"] = {"start": "token", "stop": "token", **SHARE_UNITS}
        shares = held.shares(rows, held.of_each(rows.queries))
        whole = pd.DataFrame([shares | cost_columns(attended) | agreement_record(attended, head)])
        whole.attrs["units"] = SHARE_UNITS | {"cost": "operations", "exact cost": "operations"} | AGREEMENT_UNITS
        arrays = {
            "spans": spans,
            "stops": stops,
            "mass": mass,
            "query_of": last,
            "sinks": np.array(sinks, dtype=np.int64),
            "life": np.array(held.life),
        }
        words = {"variant": mechanism.variant, "sample": sample.text}
        return Parts(arrays=arrays, tables={"segments": segments, "whole": whole}, words=words)


_whole: SingleFlightCache[CumulatedRows] = SingleFlightCache(size=4)
"""The rows of all queries of a short sequence: 6 MB at `SAMPLE` tokens. No dial of the mechanism changes them."""


def _rows_of(source: Source, sequence: Sequence, sample: QuerySample, head: int, sinks: tuple[int, ...]) -> CumulatedRows:
    def make() -> CumulatedRows:
        return CumulatedRows.of(sequence, sample.queries, head, sinks)

    short = sample.whole and len(sample.queries) * sequence.n <= SAMPLE**2
    return _whole.get(f"{source.model_dump_json()} {head}", make) if short else make()


def _queries_of(sequence: Sequence, start: int, stop: int) -> tuple[int, ...]:
    """Real queries of one segment, at most `SEGMENT_QUERIES` of them, evenly spaced with the last among them."""
    real = (sequence.real[start:stop].nonzero().squeeze(-1) + start).tolist()
    step = max(1, math.ceil(len(real) / SEGMENT_QUERIES))
    return tuple(real[::-1][::step][::-1])
