"""Numbers of many magnitudes as they stand in formulas and in running text."""

from __future__ import annotations

import math

from longattn_core.charts.figures.favor_theory import superscript


def tex(value: float) -> str:
    """A number in LaTeX, very large and very small ones as powers of ten."""
    if not math.isfinite(value):
        return r"\infty" if value > 0 else "?"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"{mantissa}\cdot10^{{{int(exponent)}}}"


def plain(value: float) -> str:
    """The same in running text."""
    if not math.isfinite(value):
        return "∞"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if value == 0:
        return "0"
    digit, exponent = f"{value:.0e}".split("e")
    power = f"10{superscript(int(exponent))}"
    return power if digit == "1" else f"{digit}·{power}"


def from_log(logarithm: float) -> str:
    """e to this power in running text, also where the number itself is too large to hold."""
    decades = logarithm / math.log(10)
    return plain(10.0**decades) if abs(decades) < 300 else plain(math.inf if decades > 0 else 0.0)
