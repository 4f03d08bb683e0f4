"""Segment by segment: which tokens the memory holds, and how much of exact attention falls on them.

Source: ours. Every key is, for one segment of queries, in one of five states: it stands in the segment itself, is cached as
it was, is held only in a blend (summaries, slots, a running state), is gone, or has not been read yet (no mask).
A running state has no segments; for it the text is shown in equal pieces, and a key counts as gone when less than half
of what was written of it is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import edges
from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.sampling import QuerySample, sample_queries
from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.cache import CacheTrace
from longattn_core.mechanisms.memory.delta import DeltaMap
from longattn_core.mechanisms.memory.fading import FadingMap
from longattn_core.mechanisms.memory.slots import SlotTrace
from longattn_core.numerics.softmax import exact_cost
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.agreement import AGREEMENT_UNITS, agreement_record
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import kept_run, sinks_of
from longattn_core.studies.base.study import Progress, Result, Setting
from longattn_core.studies.segmented.cuts import verdict

SAMPLE = 512
STOPS = 24
"""Segments at which the timeline can stand still, at most, evenly spread."""
PIECE = 64
"""Tokens of a piece in which the text is shown for a running state."""
A_SEGMENT = 64
"""Queries of a segment whose rows are averaged, at most."""

Status = Literal["current", "cached", "blended", "gone", "later"]
STATUSES: tuple[Status, ...] = ("current", "cached", "blended", "gone", "later")

HALF = 0.5


class MemoryTimeline(HeadStudy):
    """The memory at each segment, over the exact attention of that segment's queries.

    Arrays: `spans [t, 4]`, each segment's first blended, first cached and first own token and one past its last (tokens
    before the first blended are gone); `stops [k]` the segments to stand at; `mass [k, n]` the mean exact row of such a
    segment's queries; `query_of [k]` its last query. Table `segments`: `segment`, `start`, `stop`, and the share of its
    queries' exact attention on keys of each status, also `… without sinks`. Table `whole`, one row: the same over all
    (sampled) queries (of a state by each query's own distance), and the agreement with exact attention.
    """

    key: ClassVar[str] = "memory.timeline"
    setting: Setting = Setting(key="memory")

    def _run(self, progress: Progress) -> Result:
        one = kept_run(self.source, self.setting.build())
        sequence, attended = one.sequence, one.attended
        arrays: dict[str, np.ndarray] = {"tokens": np.array(tokens_of(sequence), dtype=np.str_)}
        words = {"label": one.mechanism.label, "origin": sequence.origin}
        if attended is None:
            return Result(study=self, arrays=arrays, words=words | {"refusal": one.refusal or ""})
        assert isinstance(one.mechanism, Memory)
        head = self.head_in(sequence)
        layout = Held.of(attended, head)
        progress(0.2, words["label"])
        sample = sample_queries(sequence, SAMPLE)
        sinks = sinks_of(self.source)[head]
        rows = _rows_of(self.source, sequence, sample, head, sinks)
        whole = rows.shares(layout, layout.of_each(rows.queries))
        spans = layout.spans.cpu().numpy()
        count = len(spans)
        stops = np.unique(np.linspace(0, count - 1, min(STOPS, count)).round().astype(np.int64))
        records, mass, last = [], np.zeros((len(stops), sequence.n), dtype=np.float32), np.zeros(len(stops), np.int64)
        for place, segment in enumerate(stops.tolist()):
            progress(0.3 + 0.6 * place / len(stops), words["label"])
            queries = _asked(sequence, int(spans[segment, 2]), int(spans[segment, 3]))
            here = rows.among(queries) if sample.whole else _Rows.of(sequence, queries, head, sinks)
            record = {"segment": segment, "start": int(spans[segment, 2]), "stop": int(spans[segment, 3])}
            if len(here.queries):
                mass[place] = here.exact.mean(0).float().cpu().numpy()
                last[place] = int(here.queries[-1])
                record |= here.shares(layout, layout.of_queries(here.queries))
            records.append(record)
        table = pd.DataFrame.from_records(records)
        shares = {name + end: "share" for name in STATUSES for end in ("", " without sinks")}
        table.attrs["units"] = {"start": "token", "stop": "token", **shares}
        full = exact_cost(heads=sequence.h, n=sequence.n, d=sequence.d, e=sequence.e, causal=sequence.causal)
        costs = {"cost": attended.cost.multiply_adds, "exact cost": full.multiply_adds}
        total = pd.DataFrame([whole | costs | agreement_record(attended, head)])
        total.attrs["units"] = shares | {"cost": "operations", "exact cost": "operations"} | AGREEMENT_UNITS
        arrays |= {
            "spans": spans,
            "stops": stops,
            "mass": mass,
            "query_of": last,
            "sinks": np.array(sinks, dtype=np.int64),
            "life": np.array(layout.life),
        }
        words |= {"variant": one.mechanism.variant, "sample": sample.text}
        return Result(study=self, arrays=arrays, tables={"segments": table, "whole": total}, words=words)


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Which keys a memory holds for each segment: `spans [t, 4]` as in `MemoryTimeline`; `life` in tokens of a state.

    `both_ways`: a state without a mask holds what comes later too. `segmented`: not a state that is shown in pieces.
    """

    spans: Int[Tensor, "t four"]
    life: float
    both_ways: bool
    segmented: bool = True

    @classmethod
    def of(cls, attended: Attended, head: int) -> Held:
        """Read the trace; a state's life is measured on its own writes (see `life_of`)."""
        trace, sequence = attended.trace, attended.sequence
        if isinstance(trace, CacheTrace):
            blended, cached = trace.compressed[:, 0], trace.cached[:, 0]
            spans = torch.stack([blended, cached, trace.segments[:, 0], trace.segments[:, 1]], dim=1)
            return cls(spans=spans, life=math.inf, both_ways=False)
        if isinstance(trace, SlotTrace):
            start, stop = trace.segments.unbind(1)
            first = torch.where(trace.written.cpu(), torch.zeros_like(start), start)
            return cls(spans=torch.stack([first, start, start, stop], dim=1), life=math.inf, both_ways=False)
        assert isinstance(attended, (FadingMap, DeltaMap))
        pieces = torch.tensor(edges(0, sequence.n, math.ceil(sequence.n / PIECE)))
        start, stop = pieces[:-1], pieces[1:]
        life = math.inf if not sequence.causal else life_of(attended, head)
        first = (start - min(life, sequence.n)).ceil().long().clamp_min(0)
        spans = torch.stack([first, start, start, stop], dim=1)
        return cls(spans=spans, life=life, both_ways=not sequence.causal, segmented=False)

    def of_queries(self, queries: Int[Tensor, "r"]) -> Int[Tensor, "r four"]:
        """The spans of the segment that each query stands in."""
        spans = self.spans.to(queries.device)
        return spans[torch.searchsorted(spans[:, 2].contiguous(), queries, right=True) - 1]

    def of_each(self, queries: Int[Tensor, "r"]) -> Int[Tensor, "r four"]:
        """The same for segments; a state knows no pieces: its half is counted from each query itself."""
        if self.segmented:
            return self.of_queries(queries)
        first = (queries - min(self.life, float(self.spans[-1, 3]))).ceil().long().clamp_min(0)
        return torch.stack([first, queries, queries, queries + 1], dim=1)


def life_of(attended: FadingMap | DeltaMap, head: int) -> float:
    """After how many tokens half of a write is left, read between lags that double; infinite where more is left.

    Cost: see `survival`.
    """
    lags = [1 << power for power in range(max(1, (attended.sequence.n - 1).bit_length()))]
    left = attended.survival(torch.tensor(lags))[head].double().cpu().numpy()
    before = (0.0, 1.0)
    for lag, share in zip(lags, left, strict=True):
        if not np.isfinite(share):
            break
        if share < HALF:
            lag_0, share_0 = before
            return float(lag_0 + (lag - lag_0) * (share_0 - HALF) / (share_0 - share))
        before = (float(lag), float(share))
    return math.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """Exact rows of some queries, and their sums up to each key with sinks and without `[2 r n+1]`."""

    queries: Int[Tensor, "r"]
    exact: Float[Tensor, "r n"]
    before: Float[Tensor, "two r n1"]

    @classmethod
    def of(cls, sequence: Sequence, chosen: tuple[int, ...], head: int, sinks: tuple[int, ...]) -> _Rows:
        queries = torch.tensor(chosen, dtype=torch.int64, device=sequence.q.device)
        exact = exact_rows(sequence, queries, head)[0].double()
        bare = exact.clone()
        bare[:, list(sinks)] = 0.0
        both = torch.stack([exact, bare]).cumsum(-1)
        zero = both.new_zeros(*both.shape[:2], 1)
        return cls(queries=queries, exact=exact, before=torch.cat([zero, both], dim=-1))

    def among(self, chosen: tuple[int, ...]) -> _Rows:
        """Those of some of the queries; all of them are here, in order."""
        queries = torch.tensor(chosen, dtype=torch.int64, device=self.queries.device)
        places = torch.searchsorted(self.queries, queries)
        return _Rows(queries=queries, exact=self.exact[places], before=self.before[:, places])

    def shares(self, layout: Held, spans: Int[Tensor, "r four"]) -> dict[str, float]:
        """The share of the mass on keys of each status, with sinks and without, by each query's spans."""
        rows, n = torch.arange(len(self.queries)), self.before.shape[-1] - 1
        marks = torch.cat([torch.zeros_like(spans[:, :1]), spans, torch.full_like(spans[:, :1], n)], dim=1)
        parts = self.before[:, rows[:, None], marks].diff(dim=-1).sum(1)  # [2, gone blended cached own later]
        total = self.before[:, rows, -1].sum(1)
        gone, blended, cached, own, later = (parts / torch.where(total > 0, total, 1.0)[:, None]).unbind(1)
        if layout.both_ways:
            blended, later = blended + later, torch.zeros_like(later)
        named = dict(zip(STATUSES, (own, cached, blended, gone, later), strict=True))
        return {name + end: float(x[i]) for name, x in named.items() for i, end in enumerate(("", " without sinks"))}


_whole: SingleFlightCache[_Rows] = SingleFlightCache(size=4)
"""The rows of all queries of a short sequence: 6 MB at `SAMPLE` tokens. No dial of the mechanism moves them."""


def _rows_of(source: Source, sequence: Sequence, sample: QuerySample, head: int, sinks: tuple[int, ...]) -> _Rows:
    def make() -> _Rows:
        return _Rows.of(sequence, sample.queries, head, sinks)

    short = sample.whole and len(sample.queries) * sequence.n <= SAMPLE**2
    return _whole.get(f"{source.model_dump_json()} {head}", make) if short else make()


def _asked(sequence: Sequence, start: int, stop: int) -> tuple[int, ...]:
    """Real queries of one segment, at most `A_SEGMENT` of them, evenly spaced with the last among them."""
    real = (sequence.real[start:stop].nonzero().squeeze(-1) + start).tolist()
    step = max(1, math.ceil(len(real) / A_SEGMENT))
    return tuple(real[::-1][::step][::-1])


@dataclass(frozen=True, kw_only=True)
class MemoryFinding:
    """What a `MemoryTimeline` says, over all queries.

    `kind`: "refused"; "whole" when one segment holds the text; a cache "keeps" at least half of the exact attention outside the
    sinks, or "forgets" more; slots and a lasting state "blend" everything; a state that loses what it held "fades".
    `verdict` sets the output's error beside that of the mean of the visible values.
    """

    kind: Literal["refused", "whole", "keeps", "forgets", "blends", "fades"]
    verdict: Literal["better", "worse", "even"]
    reached: float
    reached_without: float
    gone: float
    gone_without: float
    cached: float
    blended: float
    agrees: float
    error: float
    control: float
    segments: int
    life: float


def memory_finding(result: Result) -> MemoryFinding:
    """Read a `MemoryTimeline` result. `agrees` (Σ min with exact rows) is not a number where rows are no shares."""
    if "whole" not in result.tables:
        return MemoryFinding(
            kind="refused",
            verdict="even",
            segments=0,
            life=0.0,
            **dict.fromkeys(
                ("reached", "reached_without", "gone", "gone_without", "cached", "blended", "agrees", "error", "control"), 0.0
            ),
        )
    whole, variant = result.tables["whole"].iloc[0], result.words["variant"]
    gone, without = (float(whole["gone" + end] + whole["later" + end]) for end in ("", " without sinks"))
    kind: Literal["whole", "keeps", "forgets", "blends", "fades"]
    if variant in ("cache", "compressed", "slots") and len(result.arrays["spans"]) == 1:
        kind = "whole"
    elif variant in ("cache", "compressed"):
        kind = "keeps" if 1 - without >= HALF else "forgets"
    else:
        kind = "blends" if variant in ("slots", "state") or not math.isfinite(float(result.arrays["life"])) else "fades"
    overlap = whole["overlap"]
    error, control = float(whole["error"]), float(whole["control"])
    return MemoryFinding(
        kind=kind,
        verdict=verdict(error, control),
        reached=1 - gone,
        reached_without=1 - without,
        gone=gone,
        gone_without=without,
        cached=float(whole["cached"]),
        blended=float(whole["blended"]),
        agrees=math.nan if overlap is None or pd.isna(overlap) else float(overlap),
        error=error,
        control=control,
        segments=len(result.arrays["spans"]),
        life=float(result.arrays["life"]),
    )
