"""The map of a running state, computed backwards from each query.

Source: Yang et al. 2024, arXiv:2406.06484, section 2 (linear recurrences S_t = A_t·S_{t−1} + write_t). A query i reads the
state with a vector, its *reading*. Its weight on token j is the reading multiplied by A_i … A_{j+1}, times the write of j.
That is linear in the reading, so the mean map of a cell of queries needs only the sum of the cell's readings.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.mechanism import Attended, ReadCount, Reduce
from longattn_core.contracts.pooling import cell_of

SNAPSHOTS = 64
"""The largest number of states that a trace keeps, evenly spread over the ends of chunks."""

ROWS = 4096
"""Rows that a map of largest weights computes at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Some consecutive tokens, first … stop − 1."""

    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, eq=False)
class StateMap(Attended):
    """A map given by a recurrence. Subclasses define the reading of a query, and how a block of tokens changes it."""

    block: int

    @abstractmethod
    def _reading(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r d"]:
        """The vector with which each query reads the state, normalised; zero for a padded query."""

    @abstractmethod
    def _inside(
        self, reading: Float[Tensor, "g r d"], queries: Int[Tensor, "r"], block: Block, heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r b"], Float[Tensor, "g r d"]]:
        """Weights of queries inside the block on its tokens up to themselves, and their readings before the block."""

    @abstractmethod
    def _through(
        self, reading: Float[Tensor, "g r d"], block: Block, heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r b"], Float[Tensor, "g r d"]]:
        """Weights of later queries on all tokens of the block, and their readings before the block."""

    @abstractmethod
    def survival(self, lags: Int[Tensor, "k"], samples: int = 128) -> Float[Tensor, "h k"]:
        """The share of a write that is left after each lag, read with the key that it was written under.

        It is the mean over at most `samples` evenly spread real tokens; NaN where no token has so many tokens after it.
        """

    def tokens_before(self, lag: int, samples: int) -> Int[Tensor, "s"]:
        """At most `samples` evenly spread real tokens that have at least `lag` tokens after them."""
        tokens = self.sequence.real[: max(self.sequence.n - lag, 0)].nonzero().squeeze(-1)
        return tokens[:: math.ceil(len(tokens) / samples) or 1]

    def _read_count(self, head: int, query: int) -> ReadCount:
        return ReadCount(count=self.sequence.d if bool(self.sequence.real[query]) else 0, unit="features")

    def _blocks(self, stop: int) -> Iterator[Block]:
        """Blocks that cover the tokens before `stop`, the latest first."""
        for start in reversed(range(0, stop, self.block)):
            yield Block(start=start, stop=min(start + self.block, self.sequence.n))

    def _walk(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]
    ) -> Iterator[tuple[Block, Int[Tensor, "s"], Float[Tensor, "g s b"]]]:
        """Each block from the last to the first, with the indices of the queries that read it and their weights on its tokens."""
        reading, causal = self._reading(queries, heads), self.sequence.causal
        for block in self._blocks(int(queries.max()) + 1 if causal else self.sequence.n):
            if causal:
                within = ((queries >= block.start) & (queries < block.stop)).nonzero().squeeze(-1)
                if len(within):
                    weights, left = self._inside(reading[:, within], queries[within], block, heads)
                    reading = reading.index_copy(1, within, left)
                    yield block, within, weights
            after = (queries >= block.stop).nonzero().squeeze(-1) if causal else torch.arange(len(queries), device=queries.device)
            if len(after):
                weights, left = self._through(reading[:, after], block, heads)
                reading = reading.index_copy(1, after, left)
                yield block, after, weights

    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        out = self.output.new_zeros(len(heads), len(queries), self.sequence.n)
        if len(queries):
            for block, indices, weights in self._walk(queries, heads):
                out[:, indices, block.start : block.stop] = weights
        return out

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """Cost a head: n·(block + cells)·d for the mean, n²·d for the largest; memory a few thousand rows of cells."""
        device = self.output.device
        tops, sides = torch.tensor(rows, device=device), torch.tensor(columns, device=device)
        if reduce == "mean":
            sums = self._sums(tops, sides, heads)
            return sums / (tops.diff()[:, None] * sides.diff()[None, :]).to(sums.dtype)
        return self._largest(tops, sides, heads)

    def _sums(self, tops: Int[Tensor, "H1"], sides: Int[Tensor, "W1"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """One reading for each cell of queries; what a block does to it follows from what it does to each channel alone."""
        first, last, causal = int(tops[0]), int(tops[-1]), self.sequence.causal
        out = self.output.new_zeros(len(heads), len(tops) - 1, len(sides) - 1)
        queries, cells = (torch.arange(first, last, device=tops.device), cell_of(tops.tolist(), last, tops.device)[first:])
        reading = out.new_zeros(len(heads), len(tops) - 1, self.sequence.d)
        channels = torch.eye(self.sequence.d, dtype=out.dtype, device=out.device).expand(len(heads), -1, -1)
        column = cell_of(sides.tolist(), self.sequence.n, sides.device)
        if not causal:
            reading = reading.index_add(1, cells, self._reading(queries, heads))
        for block in self._blocks(last if causal else self.sequence.n):
            if block.stop <= int(sides[0]):
                break
            within = queries[max(block.start - first, 0) : max(block.stop - first, 0)]
            member, left = _cells_of(column[block.start : block.stop], out.dtype)
            right = left + member.shape[1]
            # Cells whose queries all lie in this block or before it have no reading yet.
            low = int(cells[within[-1] - first]) if causal and len(within) else 0
            weights, passed = self._through(channels, block, heads)
            out[:, low:, left:right] += reading[:, low:] @ (weights @ member)
            reading[:, low:] = reading[:, low:] @ passed
            if causal and len(within):
                weights, rest = self._inside(self._reading(within, heads), within, block, heads)
                own = cells[within - first]
                begin, end = int(own[0]), int(own[-1]) + 1
                query_member = (torch.arange(begin, end, device=own.device)[:, None] == own).to(out.dtype)
                reading[:, begin:end] += query_member @ rest
                out[:, begin:end, left:right] += query_member @ (weights @ member)
        return out

    def _largest(self, tops: Int[Tensor, "H1"], sides: Int[Tensor, "W1"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        device, first, last = sides.device, int(tops[0]), int(tops[-1])
        tokens = torch.arange(self.sequence.n, device=device)
        column = torch.bucketize(tokens, sides[1:-1], right=True)
        outside = (tokens < sides[0]) | (tokens >= sides[-1])
        out = self.output.new_full((len(heads), len(tops) - 1, len(sides) - 1), -torch.inf)
        for start in range(first, last, ROWS):
            queries = torch.arange(start, min(start + ROWS, last), device=device)
            # A pair that the mask hides has weight 0, which is larger than a negative weight.
            hidden = (sides[1:] - 1 > queries[:, None]) & self.sequence.causal
            best = torch.where(hidden, 0.0, -torch.inf).to(out.dtype).repeat(len(heads), 1, 1)
            for block, indices, weights in self._walk(queries, heads):
                cells = column[block.start : block.stop]
                left, right = int(cells[0]), int(cells[-1]) + 1
                inside = weights.masked_fill(outside[block.start : block.stop], -torch.inf)
                part = best[:, indices, left:right]
                best[:, indices, left:right] = part.scatter_reduce(2, (cells - left).expand_as(inside), inside, "amax")
            rows = torch.bucketize(queries, tops[1:-1], right=True)
            out = out.scatter_reduce(1, rows[:, None].expand_as(best), best, "amax")
        return out


def _cells_of(column: Int[Tensor, "b"], dtype: torch.dtype) -> tuple[Float[Tensor, "b c"], int]:
    """The membership of a block's tokens in cells as zeros and ones, and the number of the first of these cells."""
    inside = column[column >= 0]
    if not len(inside):
        return torch.zeros(len(column), 0, dtype=dtype, device=column.device), 0
    cells = torch.arange(int(inside[0]), int(inside[-1]) + 1, device=column.device)
    return (column[:, None] == cells).to(dtype), int(inside[0])
