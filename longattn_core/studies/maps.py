"""One mechanism's map beside the exact one: the same window, the same cells, and the signed difference."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from longattn_core.contracts import Attended
from longattn_core.registry import mechanism
from longattn_core.studies.compare import tokens_of
from longattn_core.studies.reading import reading
from longattn_core.studies.study import Progress, Result, Setting, Study


class Maps(Study):
    """Exact weights, the mechanism's, and mechanism − exact, in at most `cells` × `cells` cells of a window.

    Arrays: `exact`, `mechanism`, `difference` `[H, W]` (NaN where no pair of the cell was looked at), and the window.
    `words["mechanism refusal"]` says why the mechanism's arrays are missing, when they are. With `reduce` "max" the difference
    is that of the two largest weights, which need not be the same pair.
    """

    key: ClassVar[str] = "maps"
    setting: Setting
    head: int = Field(0, ge=0, le=63)
    queries: tuple[int, int] | None = None
    keys: tuple[int, int] | None = None
    cells: int = Field(512, ge=16, le=1024)
    reduce: Literal["max", "mean"] = "max"

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = min(self.head, sequence.h - 1)
        queries, keys = _window(self.queries, sequence.n), _window(self.keys, sequence.n)
        progress(0.1, "exact attention")
        exact = reading(self.source, mechanism("exact"))
        progress(0.5, self.setting.key)
        chosen = reading(self.source, self.setting.build())
        arrays = {
            "queries": np.array(queries),
            "keys": np.array(keys),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
        }
        words = {}
        for name, one in (("exact", exact), ("mechanism", chosen)):
            if one.attended is None:
                words[f"{name} refusal"] = one.refusal or ""
                continue
            arrays[name] = self._cells(one.attended, head, queries, keys)
        if "exact" in arrays and "mechanism" in arrays:
            seen = np.nan_to_num(arrays["mechanism"])
            arrays["difference"] = np.where(np.isnan(arrays["exact"]), np.nan, seen - np.nan_to_num(arrays["exact"]))
        words["label"] = chosen.mechanism.label
        return Result(study=self, arrays=arrays, words=words)

    def _cells(self, attended: Attended, head: int, queries: tuple[int, int], keys: tuple[int, int]) -> np.ndarray:
        shape = (self.cells, self.cells)
        cells = attended.pooled(queries, keys, shape, self.reduce, head)[0].float().cpu().numpy()
        height, width = queries[1] - queries[0], keys[1] - keys[0]
        if height * width <= self.cells**2:
            seen = attended.seen(slice(*queries), slice(*keys), head)[0].cpu().numpy()
            return np.where(seen, cells, np.nan)
        # In a pooled picture a cell that holds nothing is either never looked at or looked at in vain; the future is
        # what the mask says, and the rest is shown as looked at when anything was found.
        return np.where(cells == 0, np.nan, cells)


def _window(asked: tuple[int, int] | None, n: int) -> tuple[int, int]:
    if asked is None:
        return 0, n
    start = max(0, min(asked[0], n - 1))
    return start, max(start + 1, min(asked[1], n))
