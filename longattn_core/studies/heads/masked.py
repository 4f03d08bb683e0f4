"""One layer's heads under a mask: what each may look at, what it gives there, and what the mask takes from it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.indexing import edges
from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks, sink_mask
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.study import Progress, Result, sequence_of
from longattn_core.studies.heads.masks import MaskSetting, hidden_cells, masked, visible_share
from longattn_core.studies.heads.survey import all_heads

__all__ = ["Masked", "pooled_max"]

ROWS_A_CELL = 4
"""Queries that a row of a small map joins, at most: those of a long text are sampled."""


class Masked(MaskSetting):
    """The maps of all heads of the source's layer under a mask, in at most `cells` × `cells` cells.

    Arrays: `maps [h, c, c]`, the largest weight of a cell, NaN where the mask hides all its pairs; `hidden [c, c]`, 0, or
    why a cell is hidden (`FUTURE`, `PADDED`); `heads`, the heads' numbers, of which `group` neighbours share keys; `tokens`;
    `pairs`, the share of all pairs that stay visible; `n`, and `real`, the tokens that are no padding.
    Table `heads`, a row a head: `hidden`, the share of weight that the real queries would give without the mask to what it
    hides; the share that the sinks take under this mask (`sinks`) and without a mask (`sinks unmasked`).
    A mask with padding treats a share of the text's own tokens as padding. Cost: 4 rows a row of cells and head.
    """

    key: ClassVar[str] = "heads.masked"
    cells: int = Field(96, ge=8, le=256)

    def _run(self, progress: Progress) -> Result:
        plain = sequence_of(all_heads(self.source))
        sequence = self.masked()
        cell_edges = edges(0, plain.n, self.cells)
        queries = _sampled(cell_edges)
        unmasked, kept = masked(plain, "none", 0.0, "end"), _unmasked(self.source, plain, queries)
        allowed = sequence.allowed(queries)
        real = sequence.real[queries]
        cell = torch.bucketize(queries, torch.tensor(cell_edges[1:-1]), right=True)
        maps, records = [], []
        for head in range(plain.h):
            progress(head / plain.h, f"head {head}")
            weights, sinks = exact_rows(sequence, queries, head)[0].double(), kept.sinks[head]
            rows_unmasked = exact_rows(unmasked, queries, head)[0] if kept.rows is None else kept.rows[head]
            weights_unmasked = rows_unmasked.double()
            maps.append(pooled_max(weights.masked_fill(~allowed, -1.0), cell, cell_edges, len(cell_edges) - 1))
            records.append(
                {
                    "head": plain.head_numbers[head],
                    "hidden": _mean((weights_unmasked * ~allowed).sum(-1)[real]),
                    "sinks": _mean((weights * sinks).sum(-1)[real]),
                    "sinks unmasked": _mean((weights_unmasked * sinks).sum(-1)[real]),
                }
            )
        pooled = torch.stack(maps).numpy()
        table = pd.DataFrame.from_records(records)
        table.attrs["units"] = dict.fromkeys(("hidden", "sinks", "sinks unmasked"), "share of weight")
        arrays = {
            "maps": np.where(pooled < 0, np.nan, pooled),
            "hidden": hidden_cells(sequence, cell_edges),
            "heads": np.array(plain.head_numbers),
            "tokens": token_array(plain),
            "pairs": np.array(visible_share(sequence)),
            "n": np.array(plain.n),
            "group": np.array(plain.key_value_groups),
            "real": np.array(int(sequence.real.sum())),
        }
        return Result(study=self, arrays=arrays, tables={"heads": table}, words={"origin": plain.origin})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Unmasked:
    """What no dial of the mask changes: the heads' sinks, and the queries' rows without a mask where they are few."""

    sinks: Bool[Tensor, "h n"]
    rows: Float[Tensor, "h q n"] | None


KEPT_WEIGHTS = 1 << 21
"""Weights of all heads that are kept between moves of a dial, at most: 8 MB in float32."""
_kept: SingleFlightCache[_Unmasked] = SingleFlightCache(size=4)


def _unmasked(source: Source, plain: Sequence, queries: Int[Tensor, "q"]) -> _Unmasked:
    def make() -> _Unmasked:
        sinks = find_sinks(plain, sample_queries(plain, min(128, int(plain.real.sum()))))
        few = plain.h * len(queries) * plain.n <= KEPT_WEIGHTS
        rows = exact_rows(masked(plain, "none", 0.0, "end"), queries) if few else None
        return _Unmasked(sinks=sink_mask(sinks, plain.n), rows=rows)

    return _kept.get(f"{all_heads(source).model_dump_json()} {len(queries)}", make)


def _sampled(cell_edges: list[int]) -> Tensor:
    """At most `ROWS_A_CELL` queries of each row of cells, its last among them."""
    chosen = [
        torch.linspace(start, stop - 1, min(ROWS_A_CELL, stop - start)).round().long() for start, stop in pairwise(cell_edges)
    ]
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


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
