"""Cells as pixels: a small PNG writer, and the hatch of the future, for pictures that no browser draws."""

import base64
import struct
import zlib
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from longattn_core.charts.cells import Encoded, encode
from longattn_core.charts.style.colour import rgb
from longattn_core.charts.style.scales import Kind, Scale
from longattn_core.charts.style.theme import BELOW, FUTURE, Theme

Pixels = npt.NDArray[np.uint8]


def png(pixels: Pixels) -> bytes:
    """A PNG file of pixels `[height, width, 3]`."""
    height, width, _ = pixels.shape
    lines = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    lines[:, 1:] = pixels.reshape(height, 3 * width)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    # Level 1: weights are noise to a compressor, and higher levels take four times as long for two parts in a hundred.
    body = zlib.compress(lines.tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def data_uri(pixels: Pixels) -> str:
    """The pixels as a PNG inside a URI, which a chart carries with it: nothing is fetched to draw it."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


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
