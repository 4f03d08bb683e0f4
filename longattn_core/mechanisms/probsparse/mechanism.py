"""ProbSparse: only the queries whose scores stand out attend; all others take the mean of the values.

Source: Zhou et al. 2021, Informer, arXiv:2012.07436, section 3.1 and algorithm 1. A query's measure, the largest less the
mean of its scores, is estimated on c·ln n keys drawn for it. Deviations: a causal query draws from its own past, is
ranked among the queries up to it, and, if it is lazy, takes the running mean of the values (the paper masks the active
queries alone, takes running sums, and ranks queries against later ones, which lets the future choose the past).
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS, row_chunks
from longattn_core.contracts.mechanism import Attended, Cost, Explanation, Family, Mechanism, Origin, ReadCount, Reduce, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.draws import generator
from longattn_core.numerics.softmax import masked_softmax


class ProbSparseReason(StrEnum):
    """Why a pair has the weight it has."""

    ACTIVE = "active"
    LAZY = "lazy"


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbSparseTrace:
    """Which queries attend, and how that was found.

    `sample [n s]`: the keys drawn for each query, the same for all heads (−1: none; no column when all keys are measured);
    `measure [h n]`: largest less mean score, −∞ for padding; `rank [h n]`: its place among the queries it is compared with,
    1 for the largest, 0 for padding; `kept [n]`: how many of those attend; `visible [n]`: how many keys the mask
    lets each query see, which is also how many queries a causal one is compared with; `active [h n]`.
    """

    sample: Int[Tensor, "n s"]
    measure: Float[Tensor, "h n"]
    rank: Int[Tensor, "h n"]
    kept: Int[Tensor, "n"]
    visible: Int[Tensor, "n"]
    active: Bool[Tensor, "h n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbSparseMap(Attended):
    """The map: softmax rows for active queries, equal shares for lazy ones."""

    trace: ProbSparseTrace

    @property
    def lists_keys(self) -> bool:
        """Lazy rows are equal shares, and the active ones are few."""
        return True

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        sequence, trace = self.sequence, self.trace
        rows = sequence.allowed(queries) * self._share(queries)
        rows = rows.repeat(len(heads), 1, 1)
        for place, head in enumerate(heads.tolist()):
            active = trace.active[head, queries].nonzero().squeeze(-1)
            rows[place, active] = _softmax_rows(sequence, head, queries[active])
        return rows

    def _share(self, queries: Int[Tensor, "r"]) -> Float[Tensor, "r 1"]:
        """What a lazy query gives each key that it may see."""
        return 1 / self.trace.visible[queries, None].clamp_min(1).to(self.output.dtype)

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """Lazy rows by counting the keys that they see in each cell, active rows one by one. Cost n·W, and n per active row."""
        sequence, device = self.sequence, self.output.device
        tops, sides = (torch.tensor(x, device=device) for x in (rows, columns))
        before = torch.nn.functional.pad(sequence.real.cumsum(0), (1, 0))
        cell = torch.bucketize(torch.arange(columns[0], columns[-1], device=device), sides[1:-1], right=True)
        shape = (len(heads), len(rows) - 1, len(columns) - 1)
        out = torch.zeros(shape, dtype=self.output.dtype, device=device)
        for part in row_chunks(rows[-1] - rows[0], len(heads) * shape[2]):
            queries = torch.arange(rows[0] + part.start, rows[0] + part.stop, device=device)
            ends = sides[None].minimum(queries[:, None] + 1) if sequence.causal else sides.expand(len(queries), -1)
            count, share = before[ends].diff(dim=-1), self._share(queries)
            lazy = sequence.real[queries] & ~self.trace.active[heads][:, queries]
            cells = (count if reduce == "mean" else count > 0) * share * lazy[..., None]
            row = torch.bucketize(queries, tops[1:-1], right=True)
            _gather_into(out, row[None, :, None], cells, reduce)
        for place, head in enumerate(heads.tolist()):
            active = self.trace.active[head, rows[0] : rows[-1]].nonzero().squeeze(-1) + rows[0]
            for part in row_chunks(len(active), sequence.n):
                weights = _softmax_rows(sequence, head, active[part])[:, columns[0] : columns[-1]]
                cells = torch.zeros(len(weights), shape[2], dtype=out.dtype, device=device)
                cells.scatter_reduce_(1, cell.expand_as(weights), weights, "sum" if reduce == "mean" else "amax")
                row = torch.bucketize(active[part], tops[1:-1], right=True)
                _gather_into(out[place], row[:, None], cells, reduce)
        if reduce == "mean":
            out = out / (tops.diff()[:, None] * sides.diff()[None, :]).to(out.dtype)
        return out

    def _read_count(self, head: int, query: int) -> ReadCount:
        sample = self.trace.sample[query]
        if bool(self.trace.active[head, query]) or not len(sample):
            return ReadCount(count=int(self.trace.visible[query]), unit="keys")
        return ReadCount(count=len(torch.unique(sample[sample >= 0])), unit="sampled keys, then the mean of all values")

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        trace = self.trace
        visible, rank, count = int(trace.visible[query]), int(trace.rank[head, query]), int(trace.kept[query])
        measure = float(trace.measure[head, query])
        among = visible if self.sequence.causal else int(self.sequence.real.sum())
        facts = {"measure": measure, "rank": rank, "among": among, "kept": count, "visible": visible, "uniform": 1 / visible}
        whom = f"{among} queries{' up to it' if self.sequence.causal else ''}"
        spread = f"the spread of its scores, {measure:.3g}, ranks {rank} of {whom}"
        if bool(trace.active[head, query]):
            reason = ProbSparseReason.ACTIVE
            text = f"This query is active: {spread} and the top {count} attend, so its weights are those of exact attention."
        else:
            reason = ProbSparseReason.LAZY
            text = (
                f"This query is lazy: {spread} and only the top {count} attend, so it takes the mean of all {visible} "
                f"visible values, {1 / visible:.3g} of each."
            )
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


class ProbSparse(Mechanism):
    """Full attention for the queries with the largest measure, the mean of the visible values for all others."""

    key: ClassVar[str] = "probsparse"
    title: ClassVar[str] = "ProbSparse"
    idea: ClassVar[str] = "Let only the queries with something to say attend; give the others the mean."
    paper: ClassVar[str] = "Zhou et al. 2021, arXiv:2012.07436"
    complexity: ClassVar[str] = "n·ln n·d"
    family: ClassVar[Family] = "by content"
    order: ClassVar[int] = 70
    causal_note: ClassVar[str] = "A query draws its sample from its past and is ranked among the queries up to it."

    factor: float = dial(
        5.0,
        title="Active queries per ln n",
        symbol="c",
        ge=0.1,
        le=1000,
        scale="log10",
        help="The top c·ln n queries attend; under a causal mask query i is ranked among the i + 1 up to it.",
    )
    queries: int = dial(
        0,
        title="Active queries u",
        symbol="u",
        ge=0,
        le=65536,
        help="How many queries attend, in place of c·ln n; 0 leaves it to c.",
    )
    measure: Literal["sampled", "exact"] = dial(
        "sampled",
        title="Measure",
        help="Over which keys the spread of a query's scores is taken.",
        options={"sampled": "on a sample of keys", "exact": "on all keys (costs n²)"},
    )
    samples: float = dial(
        5.0,
        title="Sampled keys per ln n",
        symbol="c_s",
        ge=0.1,
        le=50,
        scale="log10",
        when={"measure": ("sampled",)},
        help="Each query's spread is estimated on c_s·ln n keys drawn at random from those it may see.",
    )

    def _attend(self, sequence: Sequence) -> Attended:
        """Cost per head: n·c_s·ln n·d for the measure and n·(d + e) for each active query; memory n·e and 4 M numbers."""
        with torch.no_grad():
            trace = self._choose(sequence)
        output = _running_means(sequence, trace.visible)
        for head in range(sequence.h):
            active = trace.active[head].nonzero().squeeze(-1)
            if len(active):
                at = (torch.full_like(active, head), active)
                output = output.index_put(at, _active_output(sequence, head, active))
        pairs, samples = int((trace.active * trace.visible).sum()), trace.sample.shape[1]
        looked = int((trace.sample >= 0).sum()) if samples else int(trace.visible.sum())
        cost = _cost(sequence, pairs, sequence.h * looked, samples)
        return ProbSparseMap(mechanism=self, sequence=sequence, output=output, trace=trace, cost=cost)

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """Of so many queries up to each, so many attend: if any may be the one, that is `kept` pairs a query."""
        visible = self._visible(sequence)
        wanted = torch.where(sequence.real, self._wanted(visible), 0) if self.measure == "sampled" else visible
        samples = int(wanted.max()) if self.measure == "sampled" else 0
        pairs, h = int(self._kept(visible, sequence.real).sum()), sequence.h
        return _cost(sequence, h * pairs, h * int(wanted.sum()), samples)

    def _visible(self, sequence: Sequence) -> Int[Tensor, "n"]:
        place = sequence.real.cumsum(0)
        return torch.where(sequence.real, place if sequence.causal else place[-1], 0)

    def _kept(self, visible: Int[Tensor, "n"], real: Bool[Tensor, "n"]) -> Int[Tensor, "n"]:
        """How many of the queries that each is compared with attend."""
        kept = _times_log(self.factor, visible).floor().clamp_min(1) if self.queries == 0 else self.queries
        return torch.where(real, torch.as_tensor(kept, device=real.device).minimum(visible), 0).to(torch.int64)

    def _wanted(self, visible: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """How many keys each query's spread is estimated on."""
        return _times_log(self.samples, visible).ceil().clamp_min(1).to(torch.int64)

    def _choose(self, sequence: Sequence) -> ProbSparseTrace:
        real, visible = sequence.real, self._visible(sequence)
        sample = self._sample(visible, real)
        measure = _sampled_measure(sequence, sample) if self.measure == "sampled" else _exact_measure(sequence)
        measure = measure.masked_fill(~real, -math.inf)
        kept = self._kept(visible, real)
        rank = 1 + (_earlier_at_least(measure) if sequence.causal else _better(measure))
        rank = torch.where(real, rank, 0)
        return ProbSparseTrace(
            sample=sample, measure=measure, rank=rank, kept=kept, visible=visible, active=real & (rank <= kept)
        )

    def _sample(self, visible: Int[Tensor, "n"], real: Bool[Tensor, "n"]) -> Int[Tensor, "n s"]:
        """For each query keys drawn evenly, with repetition, from those it may see; −1 beyond its own count.

        One draw a column, so that a query's keys do not depend on how many tokens follow it.
        """
        if self.measure == "exact":
            return torch.empty(len(real), 0, dtype=torch.int64, device=real.device)
        wanted = self._wanted(visible)
        tokens = real.nonzero().squeeze(-1)
        columns = []
        for column in range(int(wanted.max())):
            source = generator(self.seed, f"sampled keys {column}")
            chance = torch.rand(len(real), generator=source, dtype=torch.float64).to(real.device)
            nth = (chance * visible).floor().to(torch.int64)
            columns.append(torch.where((column < wanted) & real, tokens[nth.clamp_max(len(tokens) - 1)], -1))
        return torch.stack(columns, dim=-1)

    def exact_setting(self, n: int) -> Self:
        """Every query attends."""
        return self.with_dials(queries=n)

    def ladder(self, n: int) -> tuple[Self, ...]:
        """Active queries that double, up to all."""
        counts = sorted({max(1, n // share) for share in (32, 16, 8, 4, 2)} | {n})
        return tuple(self.with_dials(queries=count) for count in counts)

    def with_budget(self, keys: int, n: int) -> Self:
        """So many sampled keys for every query, and so many active queries, which then look at all."""
        samples = min(50.0, max(0.1, keys / math.log(max(2, n))))
        return self.with_dials(queries=keys, samples=samples)

    @property
    def label(self) -> str:
        """The title, and whether the measure is exact."""
        return "ProbSparse" if self.measure == "sampled" else "ProbSparse, exact measure"

    @property
    def parameters(self) -> Origin:
        """The sampled keys are drawn."""
        return "random draw" if self.measure == "sampled" else "none"


def _times_log(factor: float, visible: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    return factor * visible.clamp_min(1).to(torch.float64).log()


def _sampled_measure(sequence: Sequence, sample: Int[Tensor, "n s"]) -> Float[Tensor, "h n"]:
    """Largest less mean score of each query over its sampled keys. Cost n·s·d per head."""
    parts = []
    for rows in row_chunks(sequence.n, sequence.h * sample.shape[1] * sequence.d):
        keys = sequence.k[:, sample[rows].clamp_min(0)]
        scores = (keys @ sequence.q[:, rows, :, None]).squeeze(-1) / math.sqrt(sequence.d)
        parts.append(_spread(scores, sample[rows] >= 0))
    return torch.cat(parts, dim=1)


def _exact_measure(sequence: Sequence) -> Float[Tensor, "h n"]:
    """Largest less mean score of each query over all keys that it may see. Cost n²·d per head; memory 4 M scores."""
    parts = []
    for rows in row_chunks(sequence.n, sequence.h * sequence.n):
        scores = sequence.q[:, rows] @ sequence.k.mT / math.sqrt(sequence.d)
        parts.append(_spread(scores, sequence.allowed(torch.arange(rows.start, rows.stop, device=scores.device))))
    return torch.cat(parts, dim=1)


def _spread(scores: Float[Tensor, "h r c"], mask: Bool[Tensor, "r c"]) -> Float[Tensor, "h r"]:
    mean = scores.masked_fill(~mask, 0).sum(-1) / mask.sum(-1).clamp_min(1)
    return scores.masked_fill(~mask, -math.inf).amax(-1) - mean


def _better(measure: Float[Tensor, "h n"]) -> Int[Tensor, "h n"]:
    """How many queries come before each when sorted by falling measure, the earlier of two equal ones first."""
    order = measure.sort(dim=-1, descending=True, stable=True).indices
    return order.argsort(dim=-1)


def _earlier_at_least(measure: Float[Tensor, "h n"]) -> Int[Tensor, "h n"]:
    """How many earlier queries have at least each one's measure, by merging sorted halves. Cost n·ln² n per head."""
    heads, n = measure.shape
    size = 1 << (n - 1).bit_length()
    padded = torch.nn.functional.pad(measure, (0, size - n), value=-math.inf)
    count = torch.zeros(heads, size, dtype=torch.int64, device=measure.device)
    half = 1
    while half < size:
        pairs = padded.view(heads, -1, 2, half)
        left = pairs[:, :, 0].sort(dim=-1).values
        smaller = torch.searchsorted(left, pairs[:, :, 1].contiguous())
        count.view(heads, -1, 2, half)[:, :, 1] += half - smaller
        half *= 2
    return count[:, :n]


def _running_means(sequence: Sequence, visible: Int[Tensor, "n"]) -> Float[Tensor, "h n e"]:
    """The mean of the values that each query may see; zero for padding."""
    values = sequence.v * sequence.real[:, None]
    sums = values.cumsum(1) if sequence.causal else values.sum(1, keepdim=True)
    return sums / visible.clamp_min(1)[:, None] * sequence.real[:, None]


def _softmax_rows(sequence: Sequence, head: int, queries: Int[Tensor, "r"]) -> Float[Tensor, "r n"]:
    scores = sequence.q[head, queries] @ sequence.k[head].mT / math.sqrt(sequence.d)
    return masked_softmax(scores, sequence.allowed(queries))


def _active_output(sequence: Sequence, head: int, active: Int[Tensor, "a"]) -> Float[Tensor, "a e"]:
    """Exact attention for the active queries of one head, a few rows at a time."""
    parts = [_softmax_rows(sequence, head, active[at]) @ sequence.v[head] for at in row_chunks(len(active), sequence.n)]
    return torch.cat(parts)


def _gather_into(out: Tensor, index: Tensor, cells: Tensor, reduce: Reduce) -> None:
    """Add the rows of `cells` to those rows of `out` that `index` names, or keep the larger."""
    out.scatter_reduce_(-2, index.expand_as(cells), cells, "sum" if reduce == "mean" else "amax")


def _cost(sequence: Sequence, pairs: int, measured: int, samples: int) -> Cost:
    """`pairs` seen by active queries and `measured` scores of all heads; `samples` a query at most, 0 for all keys."""
    h, n, d, e = sequence.h, sequence.n, sequence.d, sequence.e
    size, exact = sequence.q.element_size(), samples == 0
    return Cost(
        multiply_adds=measured * d + pairs * (d + e) + h * n * e,
        bytes_moved=size * (h * n * (2 * d + 3 * e) + measured * (1 if exact else d) + 2 * pairs),
        bytes_peak=size * (2 * h * n * e + 2 * min(STREAM_CELLS, h * n * (n if exact else d * samples))),
    )
