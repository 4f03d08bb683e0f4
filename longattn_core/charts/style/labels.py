"""Labels beside points, so that they cover neither one another nor the points of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

CHARACTER, LINE = 6.6, 15.0
"""About how wide a character and how high a line is, in pixels at 12 px type."""

Align = Literal["left", "right"]

_SIDES: tuple[tuple[int, int, Align], ...] = (
    (8, -8, "left"),
    (8, 10, "left"),
    (-8, -8, "right"),
    (-8, 10, "right"),
    (8, -22, "left"),
    (8, 24, "left"),
)


def place_labels(
    points: Sequence[np.ndarray], texts: Sequence[str], size: tuple[float, float], *, zoom: float = 1.0
) -> list[tuple[int, int, int, Align]]:
    """For each ladder of points `[k, 2]`, in shares of the chart (0, 0 at the top left): which point bears its label.

    Gives (index of the point, dx, dy, align) in pixels for each ladder. Greedy: the ladder with the fewest free places
    is not looked for; the first place that covers the least wins. Cost: ladders × points × places × boxes.
    """
    every = np.concatenate(points) * np.array(size)
    taken: list[tuple[float, float, float, float]] = []
    chosen = []
    for ladder, text in zip(points, texts, strict=True):
        best: tuple[float, int, int, int, Align] | None = None
        for index, point in enumerate(ladder * np.array(size)):
            for dx, dy, align in _SIDES:
                box = _box(point, dx, dy, align, len(text) * CHARACTER * zoom, LINE * zoom)
                cover = 40 * sum(_overlap(box, other) for other in taken) + _outside(box, size) * 60
                cover += 90.0 * int(
                    ((every[:, 0] > box[0]) & (every[:, 0] < box[2]) & (every[:, 1] > box[1]) & (every[:, 1] < box[3])).sum()
                )
                if best is None or cover < best[0]:
                    best = (cover, index, dx, dy, align)
        assert best is not None
        _cover, index, dx, dy, align = best
        chosen.append((index, dx, dy, align))
        taken.append(_box(ladder[index] * np.array(size), dx, dy, align, len(text) * CHARACTER * zoom, LINE * zoom))
    return chosen


Box = tuple[float, float, float, float]


def _box(point: np.ndarray, dx: int, dy: int, align: Align, width: float, height: float) -> Box:
    left = point[0] + dx - (width if align == "right" else 0.0)
    top = point[1] + dy - height / 2
    return float(left), float(top), float(left + width), float(top + height)


def _overlap(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, wide) * max(0.0, high)


def _outside(box: Box, size: tuple[float, float]) -> float:
    return max(0.0, -box[0]) + max(0.0, -box[1]) + max(0.0, box[2] - size[0]) + max(0.0, box[3] - size[1])
