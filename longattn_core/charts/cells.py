"""Cells: weights turned into what is drawn, one byte a cell, with "never looked at" and "the future" told apart.

Source: our own choice; the edges of cells are those of `contracts.indexing.edges`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from longattn_core.charts.style.scales import Numbers, Scale
from longattn_core.charts.style.theme import BELOW, FUTURE, LEVELS, NEVER
from longattn_core.contracts.indexing import edges

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Reduce = Literal["mean", "max"]

FINEST = LEVELS * 256 - 1
"""Steps of a value that is sent with its second byte: four digits of it are right."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """The queries [r0, r1) and keys [c0, c1) of a map that are drawn."""

    r0: int
    r1: int
    c0: int
    c1: int

    def __post_init__(self) -> None:
        """Refuse a window that holds no pair."""
        if not (0 <= self.r0 < self.r1 and 0 <= self.c0 < self.c1):
            raise ValueError(f"a window needs 0 ≤ start < stop, found queries {self.r0}–{self.r1}, keys {self.c0}–{self.c1}")

    @property
    def rows(self) -> int:
        """How many queries."""
        return self.r1 - self.r0

    @property
    def cols(self) -> int:
        """How many keys."""
        return self.c1 - self.c0

    @property
    def queries(self) -> tuple[int, int]:
        """(start, stop) of the queries, as `Attended.pooled` takes them."""
        return self.r0, self.r1

    @property
    def keys(self) -> tuple[int, int]:
        """(start, stop) of the keys, as `Attended.pooled` takes them."""
        return self.c0, self.c1


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Values as bytes: `codes` is a level 0–252 or a reserved code; `fine` refines the level by 1/256."""

    codes: Codes
    fine: Codes


@dataclass(frozen=True, kw_only=True)
class RibbonRow:
    """One ribbon: the weights `[n]` of one query along the text, NaN where the mechanism never looked.

    `facts` are (label, value) pairs printed beside it, `badges` short words beside its name. `refusal` is a sentence
    drawn in place of the weights. A `hidden` row is a question not yet answered: nothing of it but its title is shown.
    `key` is the mechanism's, with ":" and a number behind it where a mechanism stands on several ribbons.
    """

    key: str
    title: str
    weights: npt.NDArray[np.floating] | None = None
    facts: tuple[tuple[str, str], ...] = ()
    badges: tuple[str, ...] = ()
    refusal: str = ""
    hidden: bool = False
    family: str = ""

    @property
    def mechanism(self) -> str:
        """The mechanism's key, which gives the ribbon its colour and symbol."""
        return self.key.partition(":")[0]


def cell_edges(start: int, stop: int, cells: int) -> npt.NDArray[np.int64]:
    """`contracts.indexing.edges` as an array `[count + 1]`, to compute with."""
    return np.array(edges(start, stop, cells), dtype=np.int64)


def pool_cells(values: Numbers, shape: tuple[int, int], reduce: Reduce = "max") -> Floats:
    """Join a map `[rows, keys]` into at most `shape` cells, each the largest (by size) or the mean of its pairs.

    A cell is NaN (never looked at) only where all its pairs are; in a mean, a pair never looked at counts as zero, as
    it does in the output. Cost: one pass over the map.

    Raises:
        ValueError: the map is not two-dimensional, a side of `shape` is below 1, or `reduce` is unknown.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"a map needs two axes and at least one pair, found shape {list(x.shape)}")
    if min(shape) < 1:
        raise ValueError(f"a pooled map needs at least one cell a side, found {shape}")
    if reduce not in ("mean", "max"):
        raise ValueError(f"reduce must be 'mean' or 'max', found {reduce!r}")
    starts = [cell_edges(0, size, cells)[:-1] for size, cells in zip(x.shape, shape, strict=True)]
    seen = ~np.isnan(x)
    known = np.where(seen, x, 0.0)

    def joined(values: npt.NDArray[Any], operation: np.ufunc) -> npt.NDArray[Any]:
        return np.asarray(operation.reduceat(operation.reduceat(values, starts[0], axis=0), starts[1], axis=1))

    if reduce == "mean":
        out = joined(known, np.add) / joined(np.ones_like(known), np.add)
    else:
        highest = joined(np.where(seen, x, -np.inf), np.maximum)
        lowest = joined(np.where(seen, x, np.inf), np.minimum)
        out = np.where(np.abs(lowest) > np.abs(highest), lowest, highest)
    return np.where(joined(seen, np.logical_or).astype(bool), out, np.nan)


def future_cells(window: Window, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Cells `[rows, keys]` of a causal map whose every pair lies in the future."""
    rows = cell_edges(*window.queries, shape[0])
    cols = cell_edges(*window.keys, shape[1])
    return np.asarray(cols[None, :-1] > rows[1:, None] - 1)


def encode(values: Numbers, scale: Scale, *, future: npt.NDArray[np.bool_] | None = None) -> Encoded:
    """Values to bytes on a scale; NaN becomes "never looked at".

    A cell of `future` is drawn as the future only if it is NaN or zero: a weight that leaked there stays visible. On a
    scale of weights a negative one gets a code of its own, and its size, a 255th of the scale, goes to `fine`.

    Raises:
        ValueError: a value is infinite.
    """
    x = np.asarray(values, dtype=np.float64)
    if np.isinf(x).any():
        raise ValueError(f"weights must be numbers or NaN (never looked at), found {int(np.isinf(x).sum())} infinite")
    unseen = np.isnan(x)
    known = np.where(unseen, 0.0, x) if unseen.any() else x
    steps = np.rint(scale.position(known) * FINEST).astype(np.int32)
    codes, fine = (steps >> 8).astype(np.uint8), steps.astype(np.uint8)
    negative = known < 0
    if scale.kind != "difference" and negative.any():
        # Rounding noise around zero is "found nothing": only what the scale can tell from zero is called negative.
        size = np.rint(scale.position(-known[negative]) * 255).astype(np.uint8)
        codes[negative] = np.where(size > 0, BELOW, codes[negative])
        fine[negative] = np.where(size > 0, size, fine[negative])
    codes[unseen] = NEVER
    if future is not None:
        codes[future & (known == 0)] = FUTURE
    fine[codes >= FUTURE] = 0
    return Encoded(codes=codes, fine=fine)


def check_tokens(tokens: Sequence[str] | None, count: int, name: str) -> None:
    """Raise ValueError unless there is one token string for each position."""
    if tokens is not None and len(tokens) != count:
        raise ValueError(f"{name} must have one entry a position, {count}, found {len(tokens)}")
