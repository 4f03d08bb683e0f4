"""What several measurements of the page have on their axes."""

from __future__ import annotations

import pandas as pd

from pages.kit.text import _

MEAN = _("mean of the visible values")
"""The label of the control."""


def size_title(equal: str) -> str:
    """The title of an axis of sizes, which are directions or columns."""
    return _("directions m (number, logarithmic)") if equal == "m" else _("columns of the features (number, logarithmic)")


def error_domain(table: pd.DataFrame, control: float) -> tuple[float, float]:
    """The range of the errors and of the control's; the intervals of few draws are wider and are cut."""
    low, high = float(table["error"].min()), float(table["error"].max())
    ends = [value for value in (low, high, control) if value > 0] or [1.0]
    return max(1e-9, min(ends) / 1.6), min(max(ends) * 1.6, 1e4)
