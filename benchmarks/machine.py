"""How fast this machine multiplies matrices and copies memory: the limits with which a mechanism is compared.

Both are timed as two more cells in the same rounds, so that whatever slows the machine slows them too.
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
"""Products or copies in one call."""

PRODUCT, COPY = "matrix multiply", "copy"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """`multiply_adds` per second of a float32 matrix product; `bytes` per second that a copy reads and writes."""

    multiply_adds: float
    bytes: float

    @classmethod
    def of(cls, seconds: Mapping[str, float]) -> Machine:
        """The rates from the seconds of the two calls."""
        return cls(multiply_adds=REPEATS * SIZE**3 / seconds[PRODUCT], bytes=REPEATS * 2 * 4 * CELLS / seconds[COPY])

    def seconds(self, cost: Cost) -> float:
        """The shortest time for the counted multiply-adds and the counted bytes at these rates."""
        return max(cost.multiply_adds / self.multiply_adds, cost.bytes_moved / self.bytes)


def calls() -> dict[str, Callable[[], Callable[[], object]]]:
    """The two calls, to be prepared in the same way as the cells."""
    return {PRODUCT: _product, COPY: _copy}


def _product() -> Callable[[], object]:
    a, b, out = (torch.randn(SIZE, SIZE) for _ in range(3))

    def call() -> None:
        for _ in range(REPEATS):
            torch.mm(a, b, out=out)

    return call


def _copy() -> Callable[[], object]:
    # Both are written once before, so that the system has no pages to provide while the copy is timed.
    source, target = torch.ones(CELLS), torch.zeros(CELLS)

    def call() -> None:
        for _ in range(REPEATS):
            target.copy_(source)

    return call
