"""Matrices joined into fewer cells, for pictures that are drawn from arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from longattn_core.contracts.indexing import edges


def pooled_by_size(x: npt.NDArray[np.floating], cells: int) -> npt.NDArray[np.float32]:
    """A matrix in at most `cells` × `cells` cells, of each the number that is largest by size, with its sign."""
    if max(x.shape) <= cells:
        return np.asarray(x, dtype=np.float32)
    tops, sides = (edges(0, size, cells)[:-1] for size in x.shape)
    high = np.maximum.reduceat(np.maximum.reduceat(x, tops, axis=0), sides, axis=1)
    low = np.minimum.reduceat(np.minimum.reduceat(x, tops, axis=0), sides, axis=1)
    return np.asarray(np.where(high >= -low, high, low), dtype=np.float32)
