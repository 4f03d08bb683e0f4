"""One layer's heads under a mask: what each may look at, what it gives there, and what the mask takes from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.indexing import edges
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks, sink_mask
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.study import Progress, Result, Study, sequence_of
from longattn_core.studies.heads.survey import all_heads

__all__ = [
    "FUTURE",
    "PADDED",
    "MaskFinding",
    "MaskName",
    "MaskSetting",
    "Masked",
    "mask_finding",
    "masked",
    "pooled_max",
    "small_mask",
    "source_mask",
]

MaskName = Literal["none", "padding", "look_ahead", "both"]
Side = Literal["end", "start"]

ROWS_A_CELL = 4
"""Queries that a row of a small map joins, at most: those of a long text are sampled."""
FUTURE, PADDED = 1, 2
"""Codes of a cell that the mask hides, and why: it lies ahead, or the query or key is padding."""


class MaskSetting(Study):
    """What masks have in common: which one, how much padding, and on which side."""

    mask: MaskName = "look_ahead"
    padding: float = Field(0.25, ge=0, le=0.9)
    side: Side = "end"

    def masked(self) -> Sequence:
        """All heads of the source's layer (or file) under this mask."""
        return masked(sequence_of(all_heads(self.source)), self.mask, self.padding, self.side)


class Masked(MaskSetting):
    """The maps of all heads of the source's layer under a mask, in at most `cells` × `cells` cells.

    Arrays: `maps [h, c, c]`, the largest weight of a cell, NaN where the mask hides all its pairs; `hidden [c, c]`, 0, or
    why a cell is hidden (`FUTURE`, `PADDED`); `heads`, their numbers, `group` of which share
    keys; `tokens`. Table `heads`: of each head, `hidden` (the
    share of weight that the visible queries would give to what the mask hides, were it not there), and the share that `sinks`
    take with this mask and `sinks unmasked` without any. `pairs`, an array: the share of all pairs that may look.
    A mask that pads treats a share of the text's own tokens as padding. Cost: 4 rows a cell and head.
    """

    key: ClassVar[str] = "heads.masked"
    cells: int = Field(96, ge=8, le=256)

    def _run(self, progress: Progress) -> Result:
        plain = sequence_of(all_heads(self.source))
        sequence = self.masked()
        rows, columns = edges(0, plain.n, self.cells), edges(0, plain.n, self.cells)
        queries = _sampled(rows)
        free = _free(self.source, plain, queries)
        allowed = sequence.allowed(queries)
        real = sequence.real[queries]
        cell = torch.bucketize(queries, torch.tensor(rows[1:-1]), right=True)
        maps, records = [], []
        unmasked = masked(plain, "none", 0.0, "end")
        for head in range(plain.h):
            progress(head / plain.h, f"head {head}")
            weights, sink = exact_rows(sequence, queries, head)[0].double(), free.sinks[head]
            plain_rows = exact_rows(unmasked, queries, head)[0] if free.rows is None else free.rows[head]
            all_of_it = plain_rows.double()
            maps.append(pooled_max(weights.masked_fill(~allowed, -1.0), cell, columns, len(rows) - 1))
            records.append(
                {
                    "head": plain.head_numbers[head],
                    "hidden": _mean((all_of_it * ~allowed).sum(-1)[real]),
                    "sinks": _mean((weights * sink).sum(-1)[real]),
                    "sinks unmasked": _mean((all_of_it * sink).sum(-1)[real]),
                }
            )
        pooled = torch.stack(maps).numpy()
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = dict.fromkeys(("hidden", "sinks", "sinks unmasked"), "share of weight")
        arrays = {
            "maps": np.where(pooled < 0, np.nan, pooled),
            "hidden": _reasons(sequence, rows),
            "heads": np.array(plain.head_numbers),
            "tokens": np.array(tokens_of(plain), dtype=np.str_),
            "pairs": np.array(_pairs(sequence)),
            "n": np.array(plain.n),
            "group": np.array(plain.key_value_groups),
            "real": np.array(int(sequence.real.sum())),
        }
        return Result(study=self, arrays=arrays, tables={"heads": table}, words={"origin": plain.origin})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Free:
    """What no mask changes: where the heads' sinks are `[h n]`, and the queries' rows without a mask `[h q n]`, where few."""

    sinks: Tensor
    rows: Tensor | None


HELD_CELLS = 1 << 21
"""Weights of all heads that are held between moves of a dial: 8 MB in float32."""
_held: SingleFlightCache[_Free] = SingleFlightCache(size=4)


def _free(source: Source, plain: Sequence, queries: Tensor) -> _Free:
    def make() -> _Free:
        sinks = find_sinks(plain, sample_queries(plain, min(128, int(plain.real.sum()))))
        few = plain.h * len(queries) * plain.n <= HELD_CELLS
        rows = exact_rows(masked(plain, "none", 0.0, "end"), queries) if few else None
        return _Free(sinks=sink_mask(sinks, plain.n), rows=rows)

    return _held.get(f"{all_heads(source).model_dump_json()} {len(queries)}", make)


def masked(sequence: Sequence, mask: MaskName, share: float, side: Side) -> Sequence:
    """The sequence under a mask. Padding marks a share of its tokens, at the end or the start, and leaves at least one."""
    causal = mask in ("look_ahead", "both")
    padding = sequence.padding
    if mask in ("padding", "both"):
        count = min(round(share * sequence.n), sequence.n - 1)
        places = torch.arange(sequence.n, device=sequence.q.device)
        marked = sequence.real & (places >= count if side == "start" else places < sequence.n - count)
        # A file whose own real tokens would all be cut away keeps its own padding alone.
        padding = marked if bool(marked.any()) else sequence.padding
    return replace(sequence, causal=causal, padding=padding)


def small_mask(mask: MaskName, share: float, side: Side, n: int = 12) -> np.ndarray:
    """The mask of a text of n tokens as a picture `[n, n]`: 0 where a query may look, else why not."""
    zeros = torch.zeros(1, n, 2)
    return _reasons(masked(Sequence(q=zeros, k=zeros, v=zeros), mask, share, side), list(range(n + 1)))


def _reasons(sequence: Sequence, rows: list[int]) -> np.ndarray:
    """Why each cell is hidden; 0 for a cell with any visible pair. A cell is judged by its last query
    and first key."""
    starts, lasts = torch.tensor(rows[:-1]), torch.tensor(rows[1:]) - 1
    padded = torch.stack([~sequence.real[start:stop].any() for start, stop in pairwise(rows)])
    code = torch.zeros(len(starts), len(starts), dtype=torch.int64)
    if sequence.causal:
        code[starts[None, :] > lasts[:, None]] = FUTURE
    code[padded[:, None] | padded[None, :]] = PADDED
    return code.numpy()


def _sampled(rows: list[int]) -> Tensor:
    """At most four queries of each row of cells, its last among them."""
    chosen = [torch.linspace(start, stop - 1, min(ROWS_A_CELL, stop - start)).round().long() for start, stop in pairwise(rows)]
    return torch.cat(chosen)


def pooled_max(weights: Tensor, cell: Tensor, columns: list[int], height: int) -> Tensor:
    """The largest weight of each cell `[height, columns]`: row i of `weights` belongs to the cells of row `cell[i]`.

    `columns` are the cells' edges along the keys; −1 marks a hidden pair, and a cell of hidden pairs only.
    """
    count = len(columns) - 1
    across = torch.bucketize(torch.arange(columns[0], columns[-1]), torch.tensor(columns[1:-1]), right=True)
    wide = torch.full((len(weights), count), -1.0, dtype=weights.dtype)
    wide.scatter_reduce_(1, across.expand_as(weights), weights, "amax")
    cells = torch.full((height, count), -1.0, dtype=weights.dtype)
    return cells.scatter_reduce_(0, cell[:, None].expand_as(wide), wide, "amax")


def _pairs(sequence: Sequence) -> float:
    real = int(sequence.real.sum())
    return (real * (real + 1) / 2 if sequence.causal else real * real) / sequence.n**2


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0


@dataclass(frozen=True, kw_only=True)
class MaskFinding:
    """What a mask takes: `kind` says whether the heads would give most, a part, or little of their weight to what it hides.

    "open" where nothing is masked, "alone" where there is one token. `hidden` is the mean over heads, `head` the one that would
    give most.
    """

    kind: Literal["open", "alone", "most", "part", "little"]
    pairs: float
    hidden: float
    head: int
    head_hidden: float
    sinks: float
    sinks_unmasked: float


MOST, PART = 0.5, 0.1


def mask_finding(result: Result) -> MaskFinding:
    """Read a `Masked` result."""
    table = result.tables["heads"]
    hidden = float(table["hidden"].mean())
    top = table.sort_values("hidden").iloc[-1]
    kind: Literal["open", "alone", "most", "part", "little"] = "little"
    if int(result.arrays["n"]) < 2:
        kind = "alone"
    elif float(result.arrays["pairs"]) == 1.0:
        kind = "open"
    elif hidden >= PART:
        kind = "most" if hidden >= MOST else "part"
    return MaskFinding(
        kind=kind,
        pairs=float(result.arrays["pairs"]),
        hidden=hidden,
        head=int(top["head"]),
        head_hidden=float(top["hidden"]),
        sinks=float(table["sinks"].mean()),
        sinks_unmasked=float(table["sinks unmasked"].mean()),
    )


def source_mask(source: Source) -> MaskName:
    """The mask that the source comes with."""
    settings = source.settings if source.kind == "synthetic" else source
    return "look_ahead" if settings.causal else "none"
