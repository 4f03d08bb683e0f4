"""A map pooled into cells by streaming its rows, and the arithmetic of cells that all kinds of map share.

A cell joins a rectangle of pairs. `rows` and `columns` are the cells' edges along the queries and along the keys, one
edge more than there are cells:

            columns[0]  columns[1]      columns[2]
    rows[0]     +-----------+---------------+
                | cell 0, 0 |   cell 0, 1   |      cell (a, b) joins the queries rows[a] … rows[a + 1] − 1
    rows[1]     +-----------+---------------+      with the keys columns[b] … columns[b + 1] − 1
                | cell 1, 0 |   cell 1, 1   |
    rows[2]     +-----------+---------------+
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longattn_core.contracts.indexing import STREAM_CELLS

Reduce: TypeAlias = Literal["mean", "max"]
"""How a pooled map joins the weights of one cell."""


def pool_rows(
    read_rows: Callable[[Int[Tensor, "r"], Int[Tensor, "g"]], Float[Tensor, "g r n"]],
    n: int,
    rows: list[int],
    columns: list[int],
    reduce: Reduce,
    heads: Int[Tensor, "g"],
    dtype: torch.dtype,
) -> Float[Tensor, "g H W"]:
    """The mean or the largest weight of each cell, from the rows `read_rows(queries, heads)` over all n keys.

    Cost: every row of the window once; memory: `STREAM_CELLS` weights and the cells.
    """
    device = heads.device
    height, width = len(rows) - 1, len(columns) - 1
    row_cell, column_cell = cell_of(rows, n, device), cell_of(columns, n, device)[columns[0] : columns[-1]]
    operation: Literal["sum", "amax"] = "sum" if reduce == "mean" else "amax"
    fill = 0.0 if reduce == "mean" else -math.inf
    out = torch.full((len(heads), height, width), fill, device=device, dtype=dtype)
    step = max(1, STREAM_CELLS // (len(heads) * n))
    for start in range(rows[0], rows[-1], step):
        stop = min(start + step, rows[-1])
        part = read_rows(torch.arange(start, stop, device=device), heads)[..., columns[0] : columns[-1]]
        # First along the keys, then along the queries.
        cells = torch.full((len(heads), stop - start, width), fill, device=device, dtype=dtype)
        cells.scatter_reduce_(2, column_cell.expand_as(part), part, operation)
        out.scatter_reduce_(1, row_cell[start:stop, None].expand_as(cells), cells, operation)
    return out / areas(rows, columns, out) if reduce == "mean" else out


def areas(rows: list[int], columns: list[int], like: Tensor) -> Float[Tensor, "H W"]:
    """How many pairs each cell joins, in the dtype and on the device of `like`."""
    tall, wide = (torch.tensor(x, dtype=like.dtype, device=like.device).diff() for x in (rows, columns))
    return tall[:, None] * wide


def cell_of(cell_edges: list[int], n: int, device: torch.device) -> Int[Tensor, "n"]:
    """The cell that each of n tokens lies in, −1 outside all cells. A look-up costs a tenth of a search for each pair."""
    cells = torch.full((n,), -1, dtype=torch.int64, device=device)
    widths = torch.tensor(cell_edges, device=device).diff()
    cells[cell_edges[0] : cell_edges[-1]] = torch.arange(len(widths), device=device).repeat_interleave(widths)
    return cells
