"""Which queries, keys and heads are meant, and how a range is cut into cells, bands and chunks."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Collection
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

Index: TypeAlias = int | slice | Collection[int] | Tensor | None
"""Which queries, keys or heads: one, a slice, a list, a 1-d tensor, or None for all."""


STREAM_CELLS = 1 << 22
"""How many weights a view holds at once when it streams rows (32 MB in float64)."""


def resolve(index: Index, size: int, name: str, device: torch.device) -> Int[Tensor, "r"]:
    """Turn an index into a 1-d tensor of numbers in 0 … size − 1. Raises: ValueError naming the one that is outside."""
    if index is None:
        return torch.arange(size, device=device)
    if isinstance(index, slice):
        return torch.arange(size, device=device)[index]
    chosen = torch.as_tensor(index, device=device)
    if chosen.dtype == torch.bool:
        chosen = chosen.nonzero().squeeze(-1)
    chosen = chosen.reshape(-1).to(torch.int64)
    outside = chosen[(chosen < 0) | (chosen >= size)]
    if len(outside):
        raise ValueError(f"{name} must lie in 0 … {size - 1}, found {int(outside[0])}")
    return chosen


def edges(start: int, stop: int, cells: int) -> list[int]:
    """Edges of at most `cells` cells, as equal as whole tokens allow, that cover [start, stop)."""
    count = min(cells, stop - start)
    return [start + (stop - start) * i // count for i in range(count + 1)]


def bands(cell_edges: list[int], tokens: int) -> Iterator[tuple[int, int]]:
    """Runs [begin, end) of cells that hold at most `tokens` tokens together; a larger cell is a run alone."""
    begin, last = 0, len(cell_edges) - 1
    for end in range(1, last + 1):
        if end == last or cell_edges[end + 1] - cell_edges[begin] > tokens:
            yield begin, end
            begin = end


def row_chunks(n: int, width: int, cells: int = STREAM_CELLS) -> Iterator[slice]:
    """Slices of 0 … n − 1 so that each holds at most `cells` numbers of `width` a row."""
    step = max(1, cells // max(1, width))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _shape(x: Tensor) -> list[int]:
    return list(x.shape)
