"""One head's map under a mask, any window of it, and the reason why a pair is visible or hidden."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from longattn_core.contracts.indexing import edges, row_chunks
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.maps import window_or_whole
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.heads.masked import pooled_max
from longattn_core.studies.heads.masks import MaskSetting

__all__ = ["HeadMap", "pair_sentence"]


class HeadMap(MaskSetting, HeadStudy):
    """A window of a head's map in at most `cells` × `cells` cells, of each the largest weight.

    Arrays: `map [r, c]`, NaN where all pairs of a cell are hidden; `queries` and `keys`, the window; `tokens`; `n`. `head` is
    the place among the source's heads. Cost: the window's rows, streamed.
    """

    key: ClassVar[str] = "heads.map"
    queries: tuple[int, int] | None = None
    keys: tuple[int, int] | None = None
    cells: int = Field(384, ge=8, le=1024)

    def _run(self, progress: Progress) -> Result:
        sequence = self.masked()
        head = self.head_in(sequence)
        rows, columns = window_or_whole(self.queries, sequence.n), window_or_whole(self.keys, sequence.n)
        row_edges, column_edges = edges(*rows, self.cells), edges(*columns, self.cells)
        # −1 marks a cell of hidden pairs only.
        cells = torch.full((len(row_edges) - 1, len(column_edges) - 1), -1.0, dtype=torch.float64)
        inner_edges = torch.tensor(row_edges[1:-1])
        for part in row_chunks(rows[1] - rows[0], sequence.n):
            progress(part.start / (rows[1] - rows[0]), "rows")
            queries = torch.arange(rows[0] + part.start, rows[0] + part.stop)
            weights = exact_rows(sequence, queries, head)[0].double()
            weights = weights.masked_fill(~sequence.allowed(queries), -1.0)[:, columns[0] : columns[1]]
            cell = torch.bucketize(queries, inner_edges, right=True)
            cells = torch.maximum(cells, pooled_max(weights, cell, column_edges, len(row_edges) - 1))
        largest = cells.numpy()
        arrays = {
            "map": np.where(largest < 0, np.nan, largest),
            "queries": np.array(rows),
            "keys": np.array(columns),
            "tokens": token_array(sequence),
            "n": np.array(sequence.n),
        }
        return Result(study=self, arrays=arrays, words={"origin": sequence.origin})


def pair_sentence(setting: MaskSetting, head: int, query: int, key: int) -> str:
    """Why the pair is visible or hidden under this mask, and its weight with and without it: one sentence or two.

    Raises: ValueError when head, query or key lies outside the sequence.
    """
    with torch.inference_mode():
        sequence = setting.masked()
        for name, value, size in (("head", head, sequence.h), ("query", query, sequence.n), ("key", key, sequence.n)):
            if not 0 <= value < size:
                raise ValueError(f"{name} must lie in 0 … {size - 1}, found {value}")
        unmasked = float(_row(replace(sequence, causal=False, padding=None), head, query)[key])
        if not (sequence.real[query] and sequence.real[key]):
            which = "query" if not sequence.real[query] else "key"
            why = f"Hidden: the {which} counts as padding, and padding takes no part."
            return f"{why} Without a mask the pair would have {unmasked:.3g}."
        if sequence.causal and key > query:
            ahead = "one token" if key == query + 1 else f"{key - query:,} tokens"
            why = f"Hidden: the key lies {ahead} ahead, and the mask hides what is yet to come."
            return f"{why} Without a mask the pair would have {unmasked:.3g}."
        row = _row(sequence, head, query)
        place = int((row > row[key]).sum()) + 1
        count = int(sequence.allowed(query).sum())
        return (
            f"Seen: its weight is {float(row[key]):.3g}, place {place:,} among the {count:,} keys that this query may see. "
            f"Without a mask it would be {unmasked:.3g}."
        )


def _row(sequence: Sequence, head: int, query: int) -> torch.Tensor:
    return exact_rows(sequence, query, head)[0, 0].double()
