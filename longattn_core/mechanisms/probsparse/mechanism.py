"""ProbSparse: only the queries with the most uneven scores attend; all others take the mean of the values.

Source: Zhou et al. 2021, Informer, arXiv:2012.07436, section 3.1 and algorithm 1. A query's measure, the largest minus the
mean of its scores, is estimated on c·ln n keys drawn for it. Deviations: a causal query draws from its own past, is
ranked among the queries up to it and, if it is lazy, takes the running mean of the values. The paper masks the active
queries alone, takes running sums, and ranks queries against later ones too.
"""

import math
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS, row_chunks
from longattn_core.contracts.mechanism import Attended, Cost, Family, Mechanism, Origin, dial
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.probsparse.choosing import draw_sample, exact_measure, ranks, sampled_measure, times_log
from longattn_core.mechanisms.probsparse.map import ProbSparseMap, ProbSparseTrace, softmax_rows


class ProbSparse(Mechanism):
    """Full attention for the queries with the largest measure, the mean of the visible values for all others."""

    key: ClassVar[str] = "probsparse"
    title: ClassVar[str] = "ProbSparse"
    idea: ClassVar[str] = "Let only the queries with something to say attend; give the others the mean."
    paper: ClassVar[str] = "Zhou et al. 2021, arXiv:2012.07436"
    complexity: ClassVar[str] = "n·ln n·d"
    family: ClassVar[Family] = "by content"
    order: ClassVar[int] = 70
    causal_note: ClassVar[str] = (
        "A query draws its sample from its past and is ranked among the queries up to it; a lazy one takes the mean of the "
        "values up to it."
    )

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
                index = (torch.full_like(active, head), active)
                output = output.index_put(index, _active_output(sequence, head, active))
        pairs, samples = int((trace.active * trace.visible).sum()), trace.sample.shape[1]
        measured = int((trace.sample >= 0).sum()) if samples else int(trace.visible.sum())
        cost = _cost(sequence, pairs, sequence.h * measured, samples)
        return ProbSparseMap(mechanism=self, sequence=sequence, output=output, trace=trace, cost=cost)

    def estimated_cost(self, sequence: Sequence) -> Cost:
        """Each query is active with probability kept/visible and then reads `visible` keys: `kept` pairs a query on average."""
        visible = self._visible(sequence)
        wanted = torch.where(sequence.real, self._wanted(visible), 0) if self.measure == "sampled" else visible
        samples = int(wanted.max()) if self.measure == "sampled" else 0
        pairs, h = int(self._kept(visible, sequence.real).sum()), sequence.h
        return _cost(sequence, h * pairs, h * int(wanted.sum()), samples)

    def _visible(self, sequence: Sequence) -> Int[Tensor, "n"]:
        """How many keys each query may see; 0 for padding."""
        count = sequence.real.cumsum(0)
        return torch.where(sequence.real, count if sequence.causal else count[-1], 0)

    def _kept(self, visible: Int[Tensor, "n"], real: Bool[Tensor, "n"]) -> Int[Tensor, "n"]:
        """How many of the queries that each is compared with attend."""
        kept = times_log(self.factor, visible).floor().clamp_min(1) if self.queries == 0 else self.queries
        return torch.where(real, torch.as_tensor(kept, device=real.device).minimum(visible), 0).to(torch.int64)

    def _wanted(self, visible: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """How many keys each query's spread is estimated on."""
        return times_log(self.samples, visible).ceil().clamp_min(1).to(torch.int64)

    def _choose(self, sequence: Sequence) -> ProbSparseTrace:
        """The active queries, by the measure."""
        real, visible = sequence.real, self._visible(sequence)
        if self.measure == "sampled":
            sample = draw_sample(self._wanted(visible), visible, real, self.seed)
            measure = sampled_measure(sequence, sample)
        else:
            sample = torch.empty(len(real), 0, dtype=torch.int64, device=real.device)
            measure = exact_measure(sequence)
        measure = measure.masked_fill(~real, -math.inf)
        kept = self._kept(visible, real)
        rank = torch.where(real, ranks(measure, sequence.causal), 0)
        return ProbSparseTrace(
            sample=sample, measure=measure, rank=rank, kept=kept, visible=visible, active=real & (rank <= kept)
        )

    def exact_setting(self, n: int) -> Self:
        """Every query attends."""
        return self.with_dials(queries=n)

    def ladder(self, n: int) -> tuple[Self, ...]:
        """The number of active queries doubles, up to all."""
        counts = sorted({max(1, n // share) for share in (32, 16, 8, 4, 2)} | {n})
        return tuple(self.with_dials(queries=count) for count in counts)

    def with_budget(self, keys: int, n: int) -> Self:
        """`keys` sampled keys for every query, and as many active queries, which then read all keys."""
        samples = min(50.0, max(0.1, keys / math.log(max(2, n))))
        return self.with_dials(queries=keys, samples=samples)

    @property
    def label(self) -> str:
        """The title, and whether the measure is exact."""
        return "ProbSparse" if self.measure == "sampled" else "ProbSparse, exact measure"

    @property
    def parameters(self) -> Origin:
        """The sampled keys are drawn at random."""
        return "random draw" if self.measure == "sampled" else "none"


def _running_means(sequence: Sequence, visible: Int[Tensor, "n"]) -> Float[Tensor, "h n e"]:
    """The mean of the values that each query may see; zero for padding."""
    values = sequence.v * sequence.real[:, None]
    sums = values.cumsum(1) if sequence.causal else values.sum(1, keepdim=True)
    return sums / visible.clamp_min(1)[:, None] * sequence.real[:, None]


def _active_output(sequence: Sequence, head: int, active: Int[Tensor, "a"]) -> Float[Tensor, "a e"]:
    """Exact attention for the active queries of one head, in chunks of rows."""
    parts = [softmax_rows(sequence, head, active[chunk]) @ sequence.v[head] for chunk in row_chunks(len(active), sequence.n)]
    return torch.cat(parts)


def _cost(sequence: Sequence, pairs: int, measured: int, samples: int) -> Cost:
    """`pairs` of active queries and `measured` scores, over all heads; at most `samples` keys a query, 0 for all keys."""
    h, n, d, e = sequence.h, sequence.n, sequence.d, sequence.e
    size, exact = sequence.q.element_size(), samples == 0
    return Cost(
        multiply_adds=measured * d + pairs * (d + e) + h * n * e,
        bytes_moved=size * (h * n * (2 * d + 3 * e) + measured * (1 if exact else d) + 2 * pairs),
        bytes_peak=size * (2 * h * n * e + 2 * min(STREAM_CELLS, h * n * (n if exact else d * samples))),
    )
