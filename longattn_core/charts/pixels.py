"""Cells as pixels, in the colours of the theme and with the future hatched, for pictures that no browser draws."""

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from longattn_core.charts.cells import Encoded, encode
from longattn_core.charts.style.colour import rgb
from longattn_core.charts.style.png import Pixels, data_uri
from longattn_core.charts.style.scales import Kind, Scale
from longattn_core.charts.style.theme import BELOW, FUTURE, Theme


def paint(cells: Encoded, *, theme: Theme, kind: Kind, factor: tuple[int, int] = (1, 1)) -> Pixels:
    """Cells `[rows, columns]` as pixels, each cell `factor` pixels high and wide, the future hatched."""
    colours = theme.palette(kind)[cells.codes]
    if kind != "difference":
        below = cells.codes == BELOW
        colours[below] = theme.negatives[cells.fine[below]]
    pixels = _enlarged(colours, factor)
    hidden = cells.codes == FUTURE
    if hidden.any():
        future = _enlarged(hidden, factor)
        rows, columns = np.arange(future.shape[0])[:, None], np.arange(future.shape[1])
        pixels[future & ((rows + columns) % 12 < 2)] = rgb(theme.hatch)
    return np.ascontiguousarray(pixels)


def _enlarged(x: npt.NDArray[Any], factor: tuple[int, int]) -> npt.NDArray[Any]:
    return x if factor == (1, 1) else x.repeat(factor[0], axis=0).repeat(factor[1], axis=1)


MOST_PAINTED = 48
_painted: dict[tuple[object, ...], str] = {}


def matrix_uri(values: npt.NDArray[np.floating], theme: Theme, *, kind: Kind, top: float) -> str:
    """A matrix as a PNG inside a URI, a pixel a number; painted once and kept, because every dial draws the page again."""
    x = np.ascontiguousarray(values, dtype=np.float32)
    name = (blake2b(x.tobytes(), digest_size=16).hexdigest(), x.shape, theme.mode, kind, top)
    if name not in _painted:
        while len(_painted) >= MOST_PAINTED:
            _painted.pop(next(iter(_painted)), None)
        _painted[name] = data_uri(paint(encode(x, Scale(kind=kind, top=top)), theme=theme, kind=kind))
    return _painted[name]
