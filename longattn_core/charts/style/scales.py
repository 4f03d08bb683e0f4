"""Scales: where a weight, or a difference of weights, stands between the two ends of a colour bar.

Source: our own choice; the difference is the symmetric logarithm sign(x)·ln(1 + |x|/10⁻³), which is smooth at zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Numbers: TypeAlias = npt.NDArray[Any] | Sequence[Any] | float
"""One number, or an array or list of them."""
Kind = Literal["log", "linear", "difference"]

WEIGHT_FLOOR = 1e-4
"""Weights at or below this share one colour on the logarithmic scale."""
DIFFERENCE_FLOOR = 1e-3
"""Differences well below this are drawn nearly as none."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A map from values to positions 0 to 1; `top` is the value (or the size of difference) at the far end."""

    kind: Kind
    top: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an unknown kind and an end at or below the floor."""
        if self.kind not in ("log", "linear", "difference"):
            raise ValueError(f"scale is {self.kind!r}; allowed are 'log', 'linear' and 'difference'")
        floor = {"log": WEIGHT_FLOOR, "linear": 0.0, "difference": DIFFERENCE_FLOOR}[self.kind]
        if not np.isfinite(self.top) or self.top <= floor:
            raise ValueError(f"top is {self.top}; a {self.kind} scale needs a finite number above {floor}")

    def position(self, values: Numbers) -> Floats:
        """Positions, 0 to 1, of the values; what lies outside goes to the nearer end, NaN stays NaN."""
        x = np.asarray(values, dtype=np.float64)
        if self.kind == "linear":
            return np.asarray(np.clip(x / self.top, 0.0, 1.0))
        # In place: a map has a quarter of a million numbers, and a page waits for it at every move of a dial.
        if self.kind == "difference":
            share = np.abs(x, out=np.empty_like(x))
            share /= DIFFERENCE_FLOOR
            np.log1p(share, out=share)
            share *= 0.5 / np.log1p(self.top / DIFFERENCE_FLOOR)
            np.minimum(share, 0.5, out=share)
            return np.asarray(np.add(np.copysign(share, x, out=share), 0.5, out=share))
        share = np.maximum(x, WEIGHT_FLOOR, out=np.empty_like(x))
        share /= WEIGHT_FLOOR
        np.log10(share, out=share)
        share /= np.log10(self.top / WEIGHT_FLOOR)
        return np.asarray(np.minimum(share, 1.0, out=share))

    def value(self, positions: Numbers) -> Floats:
        """The values at positions 0 to 1: the inverse of `position` between the two ends."""
        p = np.asarray(positions, dtype=np.float64)
        if self.kind == "linear":
            return np.asarray(p * self.top)
        if self.kind == "difference":
            size = np.expm1(np.abs(2 * p - 1) * np.log1p(self.top / DIFFERENCE_FLOOR)) * DIFFERENCE_FLOOR
            return np.asarray(np.sign(2 * p - 1) * size)
        return np.asarray(WEIGHT_FLOOR * (self.top / WEIGHT_FLOOR) ** p)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """(position, label) pairs for a colour bar, in rising order."""
        if self.kind == "linear":
            marks = [0.0, 0.25 * self.top, 0.5 * self.top, 0.75 * self.top, self.top]
        else:
            floor = WEIGHT_FLOOR if self.kind == "log" else DIFFERENCE_FLOOR
            decades = range(int(np.floor(np.log10(self.top / floor) + 1e-9)) + 1)
            marks = [floor * 10.0**decade for decade in decades]
            if self.kind == "difference":
                # The whole decades next to the middle would sit on top of each other, so only every second is named.
                marks = [mark for index, mark in enumerate(reversed(marks)) if index % 2 == 0][::-1]
                marks = [-mark for mark in reversed(marks)] + [0.0] + marks
        signed = self.kind == "difference"
        return tuple((float(self.position(mark)), _label(mark, signed=signed)) for mark in marks)


def _label(mark: float, *, signed: bool) -> str:
    text = f"{abs(mark):.4g}" if abs(mark) >= WEIGHT_FLOOR or mark == 0 else f"{abs(mark):.0e}"
    if not signed or mark == 0:
        return text
    return f"+{text}" if mark > 0 else f"\N{MINUS SIGN}{text}"


def weight_scale(*, log: bool = True, top: float = 1.0) -> Scale:
    """The scale of weights: logarithmic from 10⁻⁴ to `top`, or linear from 0 to `top`."""
    return Scale(kind="log" if log else "linear", top=top)


def difference_scale(*, top: float = 1.0) -> Scale:
    """The scale of signed differences, symmetric about zero, from −`top` to `top`."""
    return Scale(kind="difference", top=top)
