"""Colour arithmetic: contrast, perceived distance, perceptually even blends, and colours for mechanisms of plug-ins.

Source: WCAG 2.2 (relative luminance and contrast); Björn Ottosson 2020, "A perceptual color space for image
processing" (OKLab); Machado, Oliveira, Fernandes 2009 (colour-blind simulation, severity 1.0, in linear RGB).

Why no library: the theme needs arrays of colours at once, before the first picture is drawn. coloraide 8.13 gives the same
bytes for every blend of the theme, but takes 0.11 to 0.17 s to import (this file 2 ms) and 0.5 s and more for one call of
`farthest` (here 20 ms). A table of fixed colours cannot replace `farthest`: the result depends on all plug-ins together.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Vision = Literal["normal", "protan", "deutan", "tritan"]

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_VISION: Final[dict[Vision, Floats]] = {
    "normal": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour written `#RRGGBB`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def hexadecimal(channels: Sequence[int] | npt.NDArray[np.uint8]) -> str:
    """`#RRGGBB` of three channels, 0 to 255."""
    red, green, blue = (int(channel) for channel in channels)
    return f"#{red:02X}{green:02X}{blue:02X}"


def linear(channels: npt.NDArray[Any] | Sequence[Any]) -> Floats:
    """Light intensities, 0 to 1, of display channels, 0 to 255 (the transfer function of sRGB)."""
    share = np.asarray(channels, dtype=np.float64) / 255.0
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def display(light: Floats) -> npt.NDArray[np.uint8]:
    """Display channels, 0 to 255, of light intensities; values that a screen cannot show are clipped."""
    clipped = np.clip(light, 0.0, 1.0)
    share = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.round(share * 255).astype(np.uint8)


def luminance(light: Floats) -> Floats:
    """Relative luminance `[...]`, 0 to 1, of light intensities `[..., 3]`."""
    return np.asarray(light @ np.array([0.2126, 0.7152, 0.0722]))


def contrast(first: str, second: str) -> float:
    """WCAG contrast of two colours, 1 to 21."""
    darker, lighter = sorted(float(luminance(linear(rgb(colour)))) for colour in (first, second))
    return (lighter + 0.05) / (darker + 0.05)


def to_oklab(light: Floats) -> Floats:
    """OKLab coordinates `[..., 3]` of light intensities `[..., 3]`."""
    return np.asarray(np.cbrt(np.clip(light @ _TO_CONES.T, 0.0, None)) @ _TO_LAB.T)


def from_oklab(lab: Floats) -> Floats:
    """Light intensities `[..., 3]` of OKLab coordinates `[..., 3]`; outside 0 to 1 where a screen cannot show the colour."""
    return np.asarray((lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_CONES).T)


def distance(first: str, second: str, vision: Vision = "normal") -> float:
    """Perceived distance, OKLab ΔE × 100, under normal vision or one of three kinds of colour blindness."""
    seen = [np.clip(_VISION[vision] @ linear(rgb(colour)), 0.0, 1.0) for colour in (first, second)]
    return float(100 * np.linalg.norm(to_oklab(seen[0]) - to_oklab(seen[1])))


def blend(start: str, end: str, steps: int) -> npt.NDArray[np.uint8]:
    """`steps` colours `[steps, 3]` from one colour to another, on a straight line in OKLab: perceptually even."""
    first, last = (to_oklab(linear(rgb(colour))) for colour in (start, end))
    at = np.linspace(0.0, 1.0, steps)[:, None]
    return display(from_oklab(first * (1 - at) + last * at))


@lru_cache(maxsize=256)
def farthest(taken: tuple[str, ...], arc: tuple[float, float], backgrounds: tuple[str, ...], least_contrast: float) -> str:
    """The colour of a hue arc that is farthest from the colours taken, with `least_contrast` to every background.

    The distance of a candidate is its smallest ΔE to a taken colour over the four kinds of vision. The candidates are a grid
    over hue, lightness and chroma, so the same arguments give the same colour. Cost: about 3,000 × taken distances, 20 ms.

    Raises:
        ValueError: no colour of the arc reaches the contrast.
    """
    hues = np.radians(np.linspace(arc[0], arc[1], 25) % 360)
    grid = np.meshgrid(hues, np.linspace(0.3, 0.92, 32), np.array([0.08, 0.12, 0.16, 0.2]))
    hue, lightness, chroma = np.stack(grid, -1).reshape(-1, 3).T
    light = from_oklab(np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], -1))
    shown = np.unique(display(light[((light >= 0) & (light <= 1)).all(-1)]), axis=0)
    brightness = luminance(linear(shown))
    readable = np.ones(len(shown), dtype=bool)
    for background in backgrounds:
        ground = float(luminance(linear(rgb(background))))
        ratio = (np.maximum(brightness, ground) + 0.05) / (np.minimum(brightness, ground) + 0.05)
        readable &= ratio >= least_contrast
    legible = shown[readable]
    if len(legible) == 0:
        raise ValueError(f"no colour between the hues {arc} has a contrast of {least_contrast} on {backgrounds}")
    candidates, others = linear(legible), linear([rgb(colour) for colour in taken])
    nearest = np.full(len(legible), np.inf)
    for matrix in _VISION.values():
        seen, against = (to_oklab(np.clip(colours @ matrix.T, 0.0, 1.0)) for colours in (candidates, others))
        nearest = np.minimum(nearest, np.linalg.norm(seen[:, None] - against[None], axis=-1).min(axis=1))
    return hexadecimal(legible[int(np.argmax(nearest))])
