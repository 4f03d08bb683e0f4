"""How fast this machine multiplies matrices and moves memory: the limits that a mechanism is held against.

Both are timed as two more cells of the same rounds, so that what slows the machine slows them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from longattn_core.contracts.mechanism import Cost

SIZE = 1024
"""Rows and columns of the matrices that are multiplied."""

CELLS = 1 << 25
"""Numbers that are copied: 128 MB, more than any cache holds."""

REPEATS = 4
"""Products and copies of one call."""

PRODUCT, COPY = "matrix multiply", "copy"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`multiply_adds` a second of a float32 matrix product, and `bytes` a second read and written by a copy."""

    multiply_adds: float
    bytes: float

    @classmethod
    def of(cls, seconds: Mapping[str, float]) -> Machine:
        """From the seconds of the two calls."""
        return cls(multiply_adds=REPEATS * SIZE**3 / seconds[PRODUCT], bytes=REPEATS * 2 * 4 * CELLS / seconds[COPY])

    def seconds(self, cost: Cost) -> float:
        """The least time in which the counted multiply-adds can be done and the counted bytes be moved."""
        return max(cost.multiply_adds / self.multiply_adds, cost.bytes_moved / self.bytes)


def calls() -> dict[str, Callable[[], Callable[[], object]]]:
    """What is timed, prepared as the cells are."""
    return {PRODUCT: _product, COPY: _copy}


def _product() -> Callable[[], object]:
    a, b, out = (torch.randn(SIZE, SIZE) for _ in range(3))

    def call() -> None:
        for _ in range(REPEATS):
            torch.mm(a, b, out=out)

    return call


def _copy() -> Callable[[], object]:
    # Both are written once, so that no page is handed out by the system while the copy is timed.
    source, target = torch.ones(CELLS), torch.zeros(CELLS)

    def call() -> None:
        for _ in range(REPEATS):
            target.copy_(source)

    return call
