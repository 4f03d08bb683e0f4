"""One mechanism's map beside the exact one: the same window, the same cells, and the signed difference."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.indexing import edges, row_chunks
from longattn_core.contracts.mechanism import Attended
from longattn_core.contracts.pooling import areas, cell_of
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import kept_run
from longattn_core.studies.base.study import Progress, Result, Setting, Study

Span: TypeAlias = tuple[int, int]
PartProgress: TypeAlias = Callable[[float], None]
"""Called with the share of a part of the work that is done."""

MOST_LARGEST = 8192**2
"""Weights of a window up to which the largest of each cell is sought among all of them, where rows have to be streamed."""

MOST_EXACT = 16384**2
"""Weights of a window up to which exact attention's own map is streamed, whatever the sequence's length."""


class Maps(Study):
    """Exact weights, the mechanism's, and mechanism − exact, in at most `cells` × `cells` cells of a window.

    Arrays: `exact`, `mechanism`, `difference` `[H, W]` (NaN where no pair of the cell was looked at), and the window.
    `words["mechanism refusal"]` says why the mechanism's arrays are missing, when they are. With `reduce` "max" the difference
    is that of the two largest weights, which need not be the same pair; `words["sample"]`, where there is one, says that
    the largest were sought in a sample of the rows (the same of both), since the whole window has too many weights.
    """

    key: ClassVar[str] = "base.maps"
    setting: Setting
    head: int = Field(0, ge=0, le=63)
    queries: tuple[int, int] | None = None
    keys: tuple[int, int] | None = None
    cells: int = Field(512, ge=16, le=1024)
    reduce: Literal["max", "mean"] = "max"

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = min(self.head, sequence.h - 1)
        queries, keys = window_or_whole(self.queries, sequence.n), window_or_whole(self.keys, sequence.n)
        progress(0.0, self.setting.key)
        chosen = kept_run(self.source, self.setting.build())
        arrays = {"queries": np.array(queries), "keys": np.array(keys), "tokens": np.array(tokens_of(sequence), dtype=np.str_)}
        words = {"label": chosen.mechanism.label}
        every = (queries[1] - queries[0]) * sequence.n
        rows = None
        if chosen.attended is None:
            words["mechanism refusal"] = chosen.refusal or ""
        elif self.reduce == "max" and not chosen.attended.lists_keys and every > MOST_LARGEST:
            rows = _sample(edges(*queries, self.cells), sequence.n)
            words["sample"] = _sampled(rows, queries)
        if rows is None and every > MOST_EXACT:
            words["exact refusal"] = (
                f"The exact map of this window would be {every / 1e9:.1f} billion weights; it is drawn up to "
                f"{MOST_EXACT / 1e9:.1f} billion. Zoom in to see it."
            )
        else:
            arrays["exact"] = self._exact(sequence, head, queries, keys, rows, _part(progress, 0.1, 0.6, "exact attention"))
        if chosen.attended is not None:
            report = _part(progress, 0.6, 1.0, self.setting.key)
            arrays["mechanism"] = self._cells(chosen.attended, head, queries, keys, rows, report)
        if "exact" in arrays and "mechanism" in arrays:
            seen = np.nan_to_num(arrays["mechanism"])
            arrays["difference"] = np.where(np.isnan(arrays["exact"]), np.nan, seen - np.nan_to_num(arrays["exact"]))
        return Result(study=self, arrays=arrays, words=words)

    def _exact(
        self, sequence: Sequence, head: int, queries: Span, keys: Span, rows: Tensor | None, report: PartProgress
    ) -> np.ndarray:
        """Exact attention's map, streamed: it needs no output, so it is there where the output is too much."""

        def weights(chosen: Tensor) -> Tensor:
            # Under a causal mask nothing behind the last query is read.
            read = sequence.prefix(int(chosen[-1]) + 1) if sequence.causal else sequence
            part = exact_rows(read, chosen, head)[0]
            return torch.nn.functional.pad(part, (0, sequence.n - read.n))

        rows = torch.arange(*queries, device=sequence.q.device) if rows is None else rows
        cells = self._streamed(weights, sequence.n, queries, keys, rows, report)
        return _marked(cells, self._single(queries, keys), lambda: sequence.allowed(slice(*queries))[:, slice(*keys)])

    def _cells(
        self, attended: Attended, head: int, queries: Span, keys: Span, rows: Tensor | None, report: PartProgress
    ) -> np.ndarray:
        shape = (self.cells, self.cells)
        if rows is not None:
            n = attended.sequence.n
            cells = self._streamed(lambda some: attended.rows(some, None, head)[0], n, queries, keys, rows, report)
        elif self.reduce == "max" and not attended.lists_keys:
            found = []
            for share, band in attended.pooled_bands(queries, keys, shape, self.reduce, head):
                found.append(band)
                report(share)
            cells = torch.cat(found)
        else:
            cells = attended.pooled(queries, keys, shape, self.reduce, head)[0]
        single = self._single(queries, keys)
        return _marked(cells, single, lambda: attended.kept(slice(*queries), slice(*keys), head)[0])

    def _single(self, queries: Span, keys: Span) -> bool:
        """Whether each cell is one pair."""
        return max(queries[1] - queries[0], keys[1] - keys[0]) <= self.cells

    def _streamed(
        self, weights: Callable[[Tensor], Tensor], n: int, queries: Span, keys: Span, rows: Tensor, report: PartProgress
    ) -> Float[Tensor, "H W"]:
        """The cells of some rows of the window, a few million weights at a time."""
        tops, sides = edges(*queries, self.cells), edges(*keys, self.cells)
        row_cell, column = cell_of(tops, n, rows.device)[rows], cell_of(sides, n, rows.device)[slice(*keys)]
        operation: Literal["sum", "amax"] = "sum" if self.reduce == "mean" else "amax"
        out: Tensor | None = None
        for part in row_chunks(len(rows), n):
            some = weights(rows[part])[:, slice(*keys)]
            if out is None:
                out = some.new_full((len(tops) - 1, len(sides) - 1), 0.0 if self.reduce == "mean" else -torch.inf)
            cells = some.new_full((len(some), len(sides) - 1), 0.0 if self.reduce == "mean" else -torch.inf)
            cells.scatter_reduce_(1, column.expand_as(some), some, operation)
            out.scatter_reduce_(0, row_cell[part, None].expand_as(cells), cells, operation)
            report(part.stop / len(rows))
        assert out is not None
        return out / areas(tops, sides, out) if self.reduce == "mean" else out


def _marked(cells: Tensor, single: bool, seen: Callable[[], Tensor]) -> np.ndarray:
    """The cells with NaN where nothing was looked at."""
    found = cells.float().cpu().numpy()
    if single:
        return np.where(seen().cpu().numpy(), found, np.nan)
    # In a pooled picture a cell that holds nothing is either never looked at or looked at in vain; the future is
    # what the mask says, and the rest is shown as looked at when anything was found.
    return np.where(found == 0, np.nan, found)


def _part(progress: Progress, begin: float, end: float, words: str) -> PartProgress:
    """Progress within a part of the work."""
    progress(begin, words)
    return lambda share: progress(begin + (end - begin) * share, words)


def _sample(tops: list[int], n: int) -> Int[Tensor, "r"]:
    """As many evenly spaced queries of each cell as stay within `MOST_LARGEST` weights, at least one."""
    most = max(1, MOST_LARGEST // ((len(tops) - 1) * n))
    found = [torch.arange(min(most, high - low)) * (high - low) // min(most, high - low) + low for low, high in pairwise(tops)]
    return torch.cat(found)


def _sampled(rows: Tensor, queries: Span) -> str:
    """The sentence that says which rows were read."""
    return (
        f"Each cell shows the largest weight of a sample of its rows: {len(rows):,} of the window's "
        f"{queries[1] - queries[0]:,} queries, evenly spaced, because this map has no short way to its largest weights. "
        "Zoom in to see them all."
    )


def window_or_whole(window: Span | None, n: int) -> Span:
    """A window of n queries or keys, cut to what there is and at least one wide; all of them where it is None."""
    if window is None:
        return 0, n
    start = max(0, min(window[0], n - 1))
    return start, max(start + 1, min(window[1], n))
