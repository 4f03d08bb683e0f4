"""The symbol of each mechanism, as every drawing library and the browser know it.

Source: our own choice; names are those of Plotly's `marker.symbol` and Vega's `shape`.
"""

from dataclasses import dataclass
from math import cos, pi, sin
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """One symbol: `path` is an SVG path inside −1 … 1 (Vega takes it as a shape too); an open one is only outlined."""

    name: str
    plotly: str
    vega: str
    path: str
    open: bool = False


def _polygon(corners: int, *, turn: float = 0.0, inner: float = 1.0) -> str:
    """The path of a regular polygon, or of a star when `inner` is below 1."""
    points = []
    steps = corners if inner == 1.0 else 2 * corners
    for step in range(steps):
        radius = inner if inner < 1.0 and step % 2 else 1.0
        angle = 2 * pi * step / steps - pi / 2 + turn
        points.append(f"{radius * cos(angle):.4g},{radius * sin(angle):.4g}")
    return f"M{'L'.join(points)}Z"


_SQUARE = "M-0.85,-0.85H0.85V0.85H-0.85Z"
_DIAMOND = "M0,-1L0.8,0L0,1L-0.8,0Z"
_CIRCLE = "M0.9,0A0.9,0.9,0,1,1,-0.9,0A0.9,0.9,0,1,1,0.9,0Z"
_UP = "M0,-0.95L0.95,0.8H-0.95Z"
_DOWN = "M0,0.95L0.95,-0.8H-0.95Z"
_CROSS = "M-0.33,-1H0.33V-0.33H1V0.33H0.33V1H-0.33V0.33H-1V-0.33H-0.33Z"
_LINE = "M-1,-0.18H1V0.18H-1Z"
_HEXAGON = _polygon(6)
_PENTAGON = _polygon(5)
_STAR = _polygon(5, inner=0.42)
_HOURGLASS = "M-0.85,-0.95H0.85L-0.85,0.95H0.85Z"


def _symbol(name: str, path: str, *, vega: str = "", plotly: str = "") -> Symbol:
    return Symbol(name=name, plotly=plotly or name, vega=vega or path, path=path, open=name.endswith("-open"))


SYMBOLS: Final = MappingProxyType(
    {
        "exact": _symbol("line", _LINE, plotly="line-ew-open"),
        "window": _symbol("square-open", _SQUARE, vega="square"),
        "segmented": _symbol("square", _SQUARE, vega="square"),
        "memory": _symbol("diamond", _DIAMOND, vega="diamond"),
        "hierarchical": _symbol("diamond-open", _DIAMOND, vega="diamond"),
        "lsh": _symbol("circle", _CIRCLE, vega="circle"),
        "routed": _symbol("circle-open", _CIRCLE, vega="circle"),
        "probsparse": _symbol("hexagon", _HEXAGON),
        "low_rank": _symbol("triangle-up", _UP, vega="triangle-up"),
        "favor": _symbol("triangle-up-open", _UP, vega="triangle-up"),
        "relative": _symbol("cross", _CROSS, vega="cross"),
    }
)
"""Vega has no open shapes of their own: draw `vega` unfilled where `open` is true."""

GUEST_SYMBOLS: Final = (
    _symbol("star", _STAR),
    _symbol("triangle-down", _DOWN, vega="triangle-down"),
    _symbol("pentagon-open", _PENTAGON),
    _symbol("hourglass", _HOURGLASS),
    _symbol("star-open", _STAR),
    _symbol("triangle-down-open", _DOWN, vega="triangle-down"),
    _symbol("pentagon", _PENTAGON),
    _symbol("hexagon-open", _HEXAGON),
)
