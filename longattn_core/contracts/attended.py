"""What a mechanism gives back: its output, what it cost, and views of the attention map that the output implies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from longattn_core.contracts.indexing import bands, edges
from longattn_core.contracts.pooling import Reduce, pool_rows
from longattn_core.contracts.selection import Index, resolve
from longattn_core.contracts.sequence import Sequence, exact_rows

if TYPE_CHECKING:
    from longattn_core.contracts.mechanism import Mechanism

BAND_CELLS = 1 << 24
"""Weights computed between two progress reports: a quarter of a second of exact attention."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the output cost on this input, counted by formula: neither timed nor guessed.

    `multiply_adds` counts a multiplication together with its addition. `bytes_moved` counts each number that a pass of the
    algorithm reads or writes, once per pass. `bytes_peak` is the most memory held at one time, besides inputs and output.
    """

    multiply_adds: int
    bytes_moved: int
    bytes_peak: int

    def __add__(self, other: Cost) -> Cost:
        """The cost of one computation after the other: the sums add up, the larger peak counts."""
        return Cost(
            multiply_adds=self.multiply_adds + other.multiply_adds,
            bytes_moved=self.bytes_moved + other.bytes_moved,
            bytes_peak=max(self.bytes_peak, other.bytes_peak),
        )


class Reason(StrEnum):
    """Why a pair has its weight: the reasons that all mechanisms share. A mechanism adds an enum of its own."""

    PADDING = "padding"
    FUTURE = "future"
    ITSELF = "itself"
    """The query found no key at all and attends to itself."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why one pair has its weight.

    `kept` says whether the mechanism keeps the pair, `exact` and `weight` are its weights in exact attention and in the
    mechanism. `reason` is a member of the mechanism's own enum or of `Reason`, `facts` are the numbers in the sentence, and
    `text` is the sentence.
    """

    kept: bool
    exact: float
    weight: float
    reason: StrEnum
    facts: Mapping[str, float | int | str | bool]
    text: str


@dataclass(frozen=True, kw_only=True)
class ReadCount:
    """How much one query reads: a count, and what is counted ("keys", "features", "keys and summaries", …)."""

    count: int
    unit: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Attended(ABC):
    """What a mechanism gives back: its output, and views of the attention map that the output implies.

    `output [h n e]`. `trace` is the mechanism's own frozen dataclass, with every random draw and intermediate result that a
    picture needs. `offset [h n e]` is added to `rows @ v`; only value embeddings need one.
    By definition `rows(all) @ v + offset == output`. Views are computed on demand and never hold n × n weights.

    A subclass defines `_rows` and `_explained`. It overrides `_kept` where it does not keep all pairs that the mask allows,
    and `_pooled` and `_read_count` where its structure makes them cheaper.
    """

    mechanism: Mechanism
    sequence: Sequence
    output: Float[Tensor, "h n e"]
    trace: Any
    cost: Cost
    offset: Float[Tensor, "h n e"] | None = field(default=None)

    @abstractmethod
    def _rows(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r n"]:
        """The implied weights of the chosen queries over all keys; zeros for a padded query."""

    def _kept(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Bool[Tensor, "g r n"]:
        """Which pairs are kept: by default all that the mask allows."""
        return self.sequence.allowed(queries).expand(len(heads), -1, -1)

    def _rows_and_kept(
        self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r n"], Bool[Tensor, "g r n"]]:
        """Both at once. A map by lists overrides this to find its lists once; a subclass of such a map that overrides `_rows` or
        `_kept` must override this too.
        """
        return self._rows(queries, heads), self._kept(queries, heads)

    @abstractmethod
    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        """Explain a pair that the mask allows, or that is kept all the same, and where neither token is padding."""

    def _read_count(self, head: int, query: int) -> ReadCount:
        one = torch.tensor([query], device=self.output.device)
        count = self._kept(one, torch.tensor([head], device=self.output.device)).sum()
        return ReadCount(count=int(count), unit="keys")

    def _pooled(self, rows: list[int], columns: list[int], reduce: Reduce, heads: Int[Tensor, "g"]) -> Float[Tensor, "g H W"]:
        """The cells of `rows` and `columns`, which are edges (see `pooling.py`): streamed, where no structure helps."""
        return pool_rows(self._rows, self.sequence.n, rows, columns, reduce, heads, self.output.dtype)

    def rows(self, queries: Index = None, keys: Index = None, heads: Index = None) -> Float[Tensor, "g r c"]:
        """The implied weights `[heads, queries, keys]`. Cost: at most r·n·(d + e) a head; memory r·n a head."""
        weights = self._of_some(self._rows, queries, heads, self.output.dtype)
        return weights if keys is None else weights[..., resolve(keys, self.sequence.n, "keys", weights.device)]

    def kept(self, queries: Index = None, keys: Index = None, heads: Index = None) -> Bool[Tensor, "g r c"]:
        """Which pairs the mechanism keeps, `[heads, queries, keys]`: all that it computes, also those of weight 0."""
        kept = self._of_some(self._kept, queries, heads, torch.bool)
        return kept if keys is None else kept[..., resolve(keys, self.sequence.n, "keys", kept.device)]

    def rows_and_kept(self, queries: Index = None, heads: Index = None) -> tuple[Float[Tensor, "g r n"], Bool[Tensor, "g r n"]]:
        """`rows` and `kept` of the same queries, over all keys."""
        chosen = self._indices(queries, heads)
        if not len(chosen[0]):
            return self.rows(queries, heads=heads), self.kept(queries, heads=heads)
        return self._rows_and_kept(*chosen)

    def _of_some(
        self, view: Callable[[Tensor, Tensor], Tensor], queries: Index, heads: Index, dtype: torch.dtype
    ) -> Shaped[Tensor, "g r n"]:
        """A view of the chosen queries and heads. Without queries it is empty, so no `view` has to handle that case."""
        rows, chosen = self._indices(queries, heads)
        if not len(rows):
            return torch.zeros(len(chosen), 0, self.sequence.n, dtype=dtype, device=self.output.device)
        return view(rows, chosen)

    def pooled(
        self,
        queries: tuple[int, int] | None = None,
        keys: tuple[int, int] | None = None,
        shape: tuple[int, int] = (512, 512),
        reduce: Reduce = "mean",
        heads: Index = None,
    ) -> Float[Tensor, "g H W"]:
        """The map in at most `shape` cells, each the mean or the largest of its weights.

        `queries` and `keys` are windows [start, stop); the cells' edges are `edges(start, stop, cells)`.
        Cost: that of the map's structure, or of all rows of the window where the map has none.
        Raises: ValueError for a window outside the sequence, fewer than one cell, or an unknown `reduce`.
        """
        n = self.sequence.n
        spans = []
        for name, window, cells in (("queries", queries, shape[0]), ("keys", keys, shape[1])):
            start, stop = (0, n) if window is None else window
            if not 0 <= start < stop <= n:
                raise ValueError(f"the window of {name} must lie within 0 … {n} and hold a token, found {start} … {stop}")
            if cells < 1:
                raise ValueError(f"a pooled map needs at least one cell along {name}, found {cells}")
            spans.append(edges(start, stop, cells))
        if reduce not in get_args(Reduce):
            raise ValueError(f"reduce must be 'mean' or 'max', found {reduce!r}")
        return self._pooled(spans[0], spans[1], reduce, resolve(heads, self.sequence.h, "heads", self.output.device))

    @property
    def lists_keys(self) -> bool:
        """Whether a row's weights are a short list, so that the largest are found without computing all n weights of a row."""
        return False

    def pooled_bands(
        self, queries: tuple[int, int], keys: tuple[int, int], shape: tuple[int, int], reduce: Reduce, head: int
    ) -> Iterator[tuple[float, Float[Tensor, "H W"]]]:
        """`pooled` of one head, in bands of cells from the top; each comes with the share of the window that is done.

        For maps that stream rows: a caller can report the progress, and stop between two bands. Cost: that of `pooled`.
        """
        rows, columns = edges(*queries, shape[0]), edges(*keys, shape[1])
        heads = resolve(head, self.sequence.h, "heads", self.output.device)
        for begin, end in bands(rows, max(1, BAND_CELLS // self.sequence.n)):
            done = (rows[end] - rows[0]) / (rows[-1] - rows[0])
            yield done, self._pooled(rows[begin : end + 1], columns, reduce, heads)[0]

    def read_count(self, head: int, query: int) -> ReadCount:
        """How many keys (or features, or summaries) this query reads: counted, not taken from the dial."""
        _inside(head, self.sequence.h, "head")
        _inside(query, self.sequence.n, "query")
        return self._read_count(head, query)

    def explain(self, head: int, query: int, key: int) -> Explanation:
        """Why this mechanism keeps or drops the pair of `query` and `key`. Cost: two rows.

        Raises: ValueError when head, query or key lies outside the sequence.
        """
        for name, value, size in (
            ("head", head, self.sequence.h),
            ("query", query, self.sequence.n),
            ("key", key, self.sequence.n),
        ):
            _inside(value, size, name)
        sequence = self.sequence
        exact = float(exact_rows(sequence, query, head)[0, 0, key])
        weight = float(self.rows(query, key, head))
        if not (sequence.real[query] and sequence.real[key]):
            which = "query" if not sequence.real[query] else "key"
            return Explanation(
                kept=False,
                exact=exact,
                weight=weight,
                reason=Reason.PADDING,
                facts={"padded": which},
                text=f"The {which} is padding: it is no token of the text and takes no part.",
            )
        kept = bool(self.kept(query, key, head))
        if sequence.causal and key > query and not kept:
            return Explanation(
                kept=False,
                exact=exact,
                weight=weight,
                reason=Reason.FUTURE,
                facts={"ahead": key - query},
                text=f"The key lies {key - query} tokens ahead, and the mask hides the future.",
            )
        return self._explained(head, query, key, kept, exact, weight)

    def _indices(self, queries: Index, heads: Index) -> tuple[Int[Tensor, "r"], Int[Tensor, "g"]]:
        device = self.output.device
        return (resolve(queries, self.sequence.n, "queries", device), resolve(heads, self.sequence.h, "heads", device))


def _inside(value: int, size: int, name: str) -> None:
    if not 0 <= value < size:
        raise ValueError(f"{name} must lie in 0 … {size - 1}, found {value}")
