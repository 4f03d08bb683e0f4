"""The map of ProbSparse: softmax rows for active queries, equal weights for lazy ones, and the sentence for each pair.

Source: Zhou et al. 2021, Informer, arXiv:2012.07436, section 3.1.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.contracts.mechanism import Attended, Explanation, ReadCount, Reduce
from longattn_core.contracts.pooling import areas, cell_of
from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.softmax import masked_softmax


class ProbSparseReason(StrEnum):
    """Why a pair has the weight it has."""

    ACTIVE = "active"
    LAZY = "lazy"


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbSparseTrace:
    """Which queries attend, and the measure that decides it.

    `sample [n s]`: the keys drawn for each query, the same for all heads (−1: none; no column when all keys are measured);
    `measure [h n]`: the largest minus the mean score, −∞ for padding; `rank [h n]`: the rank of the measure among the queries
    that a query is compared with, 1 for the largest, 0 for padding; `kept [n]`: how many of those attend; `visible [n]`: how
    many keys each query may see, which is also how many queries a causal one is compared with; `active [h n]`.
    """

    sample: Int[Tensor, "n s"]
    measure: Float[Tensor, "h n"]
    rank: Int[Tensor, "h n"]
    kept: Int[Tensor, "n"]
    visible: Int[Tensor, "n"]
    active: Bool[Tensor, "h n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbSparseMap(Attended):
    """Softmax rows for active queries, equal weights for lazy ones."""

    trace: ProbSparseTrace

    @property
    def lists_keys(self) -> bool:
        """True: lazy rows are constant, and active ones are few."""
        return True

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        sequence, trace = self.sequence, self.trace
        rows = sequence.allowed(queries) * self._share(queries)
        rows = rows.repeat(len(heads), 1, 1)
        for index, head in enumerate(heads.tolist()):
            active = trace.active[head, queries].nonzero().squeeze(-1)
            rows[index, active] = softmax_rows(sequence, head, queries[active])
        return rows

    def _share(self, queries: Int[Tensor, "r"]) -> Float[Tensor, "r 1"]:
        """The weight that a lazy query gives each visible key."""
        return 1 / self.trace.visible[queries, None].clamp_min(1).to(self.output.dtype)

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """Lazy rows by the number of visible keys in each cell, active rows one by one. Cost n·W, and n for each active row."""
        sequence, device = self.sequence, self.output.device
        sides, row_cell = torch.tensor(columns, device=device), cell_of(rows, sequence.n, device)
        before = torch.nn.functional.pad(sequence.real.cumsum(0), (1, 0))
        column_cell = cell_of(columns, sequence.n, device)[columns[0] : columns[-1]]
        shape = (len(heads), len(rows) - 1, len(columns) - 1)
        out = torch.zeros(shape, dtype=self.output.dtype, device=device)
        for part in row_chunks(rows[-1] - rows[0], len(heads) * shape[2]):
            queries = torch.arange(rows[0] + part.start, rows[0] + part.stop, device=device)
            ends = sides[None].minimum(queries[:, None] + 1) if sequence.causal else sides.expand(len(queries), -1)
            count, share = before[ends].diff(dim=-1), self._share(queries)
            lazy = sequence.real[queries] & ~self.trace.active[heads][:, queries]
            cells = (count if reduce == "mean" else count > 0) * share * lazy[..., None]
            _gather_into(out, row_cell[queries][None, :, None], cells, reduce)
        for index, head in enumerate(heads.tolist()):
            active = self.trace.active[head, rows[0] : rows[-1]].nonzero().squeeze(-1) + rows[0]
            for part in row_chunks(len(active), sequence.n):
                weights = softmax_rows(sequence, head, active[part])[:, columns[0] : columns[-1]]
                cells = torch.zeros(len(weights), shape[2], dtype=out.dtype, device=device)
                cells.scatter_reduce_(1, column_cell.expand_as(weights), weights, "sum" if reduce == "mean" else "amax")
                _gather_into(out[index], row_cell[active[part], None], cells, reduce)
        return out / areas(rows, columns, out) if reduce == "mean" else out

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


def softmax_rows(sequence: Sequence, head: int, queries: Int[Tensor, "r"]) -> Float[Tensor, "r n"]:
    """Rows of exact attention of one head. Cost r·n·d."""
    scores = sequence.q[head, queries] @ sequence.k[head].mT / math.sqrt(sequence.d)
    return masked_softmax(scores, sequence.allowed(queries))


def _gather_into(out: Tensor, index: Tensor, cells: Tensor, reduce: Reduce) -> None:
    """Add the rows of `cells` to the rows `index` of `out`, or keep the larger of the two."""
    out.scatter_reduce_(-2, index.expand_as(cells), cells, "sum" if reduce == "mean" else "amax")
