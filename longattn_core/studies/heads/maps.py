"""One head's map under a mask, any window of it, and the reason why a pair is seen or hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from longattn_core.contracts.indexing import edges, row_chunks
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.heads.masks import MaskSetting, pooled_max

__all__ = ["HeadMap", "pair_said"]


class HeadMap(MaskSetting):
    """The window of a head's map in at most `cells` × `cells` cells, each the largest of its weights.

    Arrays: `map [r, c]`, NaN where all pairs of a cell are hidden; `queries` and `keys`, the window; `tokens`. `head` is the
    place among the source's heads. Cost: the window's rows, streamed.
    """

    key: ClassVar[str] = "heads.map"
    head: int = Field(0, ge=0, le=63)
    queries: tuple[int, int] | None = None
    keys: tuple[int, int] | None = None
    cells: int = Field(384, ge=8, le=1024)

    def _run(self, progress: Progress) -> Result:
        sequence = self.masked()
        head = min(self.head, sequence.h - 1)
        rows, columns = (_window(one, sequence.n) for one in (self.queries, self.keys))
        tall, wide = edges(*rows, self.cells), edges(*columns, self.cells)
        cells = torch.full((len(tall) - 1, len(wide) - 1), -1.0, dtype=torch.float64)
        inner = torch.tensor(tall[1:-1])
        for part in row_chunks(rows[1] - rows[0], sequence.n):
            progress(part.start / (rows[1] - rows[0]), "rows")
            queries = torch.arange(rows[0] + part.start, rows[0] + part.stop)
            weights = exact_rows(sequence, queries, head)[0].double()
            weights = weights.masked_fill(~sequence.allowed(queries), -1.0)[:, columns[0] : columns[1]]
            cell = torch.bucketize(queries, inner, right=True)
            cells = torch.maximum(cells, pooled_max(weights, cell, wide, len(tall) - 1))
        found = cells.numpy()
        arrays = {
            "map": np.where(found < 0, np.nan, found),
            "queries": np.array(rows),
            "keys": np.array(columns),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
            "n": np.array(sequence.n),
        }
        return Result(study=self, arrays=arrays, words={"origin": sequence.origin})


def _window(asked: tuple[int, int] | None, n: int) -> tuple[int, int]:
    if asked is None:
        return 0, n
    start = max(0, min(asked[0], n - 1))
    return start, max(start + 1, min(asked[1], n))


def pair_said(setting: MaskSetting, head: int, query: int, key: int) -> str:
    """Why the pair is seen or hidden under this mask, and what it has with and without it: one sentence or two.

    Raises: ValueError when head, query or key lies outside the sequence.
    """
    with torch.inference_mode():
        sequence = setting.masked()
        for name, value, size in (("head", head, sequence.h), ("query", query, sequence.n), ("key", key, sequence.n)):
            if not 0 <= value < size:
                raise ValueError(f"{name} must lie in 0 … {size - 1}, found {value}")
        free = float(_row(replace(sequence, causal=False, padding=None), head, query)[key])
        if not (sequence.real[query] and sequence.real[key]):
            which = "query" if not sequence.real[query] else "key"
            why = f"Hidden: the {which} counts as padding, and padding takes no part."
            return f"{why} Without a mask the pair would have {free:.3g}."
        if sequence.causal and key > query:
            ahead = "one token" if key == query + 1 else f"{key - query:,} tokens"
            why = f"Hidden: the key lies {ahead} ahead, and the mask hides what is yet to come."
            return f"{why} Without a mask the pair would have {free:.3g}."
        row = _row(sequence, head, query)
        place = int((row > row[key]).sum()) + 1
        count = int(sequence.allowed(query).sum())
        return (
            f"Seen: its weight is {float(row[key]):.3g}, place {place:,} among the {count:,} keys that this query may see. "
            f"Without a mask it would be {free:.3g}."
        )


def _row(sequence: Sequence, head: int, query: int) -> torch.Tensor:
    return exact_rows(sequence, query, head)[0, 0].double()
