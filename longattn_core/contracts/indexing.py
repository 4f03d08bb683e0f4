"""How a range of tokens is cut: into cells of a picture, bands of cells, or chunks of rows. Without torch."""

from __future__ import annotations

from collections.abc import Iterator

STREAM_CELLS = 1 << 22
"""How many weights a view holds at once when it streams rows (32 MB in float64)."""


def edges(start: int, stop: int, cells: int) -> list[int]:
    """Edges of at most `cells` cells, as equal as whole tokens allow, that cover [start, stop)."""
    count = min(cells, stop - start)
    return [start + (stop - start) * i // count for i in range(count + 1)]


def bands(cell_edges: list[int], tokens: int) -> Iterator[tuple[int, int]]:
    """Runs [begin, end) of consecutive cells, each with at most `tokens` tokens; a larger cell is a run of its own."""
    begin, last = 0, len(cell_edges) - 1
    for end in range(1, last + 1):
        if end == last or cell_edges[end + 1] - cell_edges[begin] > tokens:
            yield begin, end
            begin = end


def row_chunks(n: int, width: int, cells: int = STREAM_CELLS) -> Iterator[slice]:
    """Slices that cover 0 … n − 1, each with at most `cells` numbers where a row has `width` of them (at least one row)."""
    step = max(1, cells // max(1, width))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
