"""The look of every picture, decided once: colours, symbols, sizes and spaces, in light and in dark.

Source: our own choice. The eleven mechanism colours were chosen for contrast (at least 3.03 on each background) and
for distance under colour-blind vision; a mechanism is told by its symbol and its name too, never by colour alone. The
weights' colours are cmocean's `ice` (Thyng et al. 2016).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from longattn_core.charts.style.colour import blend, contrast, farthest, hexadecimal, rgb
from longattn_core.charts.style.scales import Kind, Numbers, Scale, difference_scale, weight_scale
from longattn_core.charts.style.symbols import GUEST_SYMBOLS, SYMBOLS, Symbol

__all__ = ["BADGES", "Mode", "Style", "Theme", "difference_scale", "weight_scale"]

Mode = Literal["light", "dark"]
Colours = npt.NDArray[np.uint8]

LEVELS: Final = 253
"""How many steps a drawn value has; an odd number, so that "no difference" has a step of its own."""
BELOW: Final = 253
"""The code of a cell whose weight is below zero, where the scale begins at zero."""
FUTURE: Final = 254
"""The code of a cell that the mask hides because it lies in the future."""
NEVER: Final = 255
"""The code of a cell that the mechanism never looked at."""

SIZES: Final = MappingProxyType({"title": 28, "answer": 18, "body": 16, "label": 13, "tick": 12})
RIBBON_HEIGHT, RIBBON_GAP = 22, 8
CURVE_HEIGHT, HERO_HEIGHT = 320, 420
PRESENTING: Final = 1.5
LEAST_CONTRAST: Final = 3.03
BACKGROUNDS: Final = MappingProxyType({"light": ("#FFFFFF", "#F0F2F6"), "dark": ("#0E1117", "#262730")})
BADGES: Final = (
    "none",
    "random draw",
    "fitted here",
    "learned in the paper, untrained here",
    "unmasked reading: the model never saw this",
)
FONT: Final = '"Source Sans", "Source Sans Pro", "Source Sans 3", "Liberation Sans", Arial, sans-serif'

MECHANISM_COLOURS: Final = MappingProxyType(
    {
        "exact": ("#1F2430", "#E8EAF0", "reference"),
        "window": ("#007A90", "#36D6EF", "by place"),
        "segmented": ("#0E548A", "#69ADFF", "by place"),
        "memory": ("#189C7D", "#42A48C", "by place"),
        "hierarchical": ("#370CAF", "#675AF3", "by place"),
        "lsh": ("#9D602C", "#BE5B03", "by content"),
        "routed": ("#863E46", "#FE5A64", "by content"),
        "probsparse": ("#A2891D", "#EDD82C", "by content"),
        "low_rank": ("#46216E", "#947AD4", "compressed"),
        "favor": ("#DF50C8", "#985E89", "compressed"),
        "relative": ("#05410B", "#9FCF94", "changes the score"),
    }
)
FAMILY_HUES: Final = MappingProxyType(
    {"by place": (165.0, 290.0), "by content": (10.0, 110.0), "compressed": (290.0, 370.0), "changes the score": (110.0, 165.0)}
)
"""The arc of OKLab hues, in degrees, that a family's next free colour is taken from."""

# cmocean's own twelve anchors, as Plotly carries them: read here, so that a chart of the home page need not load Plotly.
_ICE = (
    (3, 5, 18),
    (25, 25, 51),
    (44, 42, 87),
    (58, 60, 125),
    (62, 83, 160),
    (62, 109, 178),
    (72, 134, 187),
    (89, 159, 196),
    (114, 184, 205),
    (149, 207, 216),
    (192, 229, 232),
    (234, 252, 253),
)

_SURFACES: dict[Mode, dict[str, str]] = {
    "light": {
        "background": "#FFFFFF",
        "surface": "#F0F2F6",
        "text": "#1F2430",
        "muted": "#565C6B",
        "grid": "#DDE1E9",
        "border": "#7C8290",
        "never": "#ECEEF3",
        "hatch": "#C9CED9",
        "mark": "#C2410C",
        "lost": "#5E3C99",
        "added": "#B35806",
    },
    "dark": {
        "background": "#0E1117",
        "surface": "#262730",
        "text": "#E8EAF0",
        "muted": "#ABB1C0",
        "grid": "#2C303B",
        "border": "#7D8494",
        "never": "#262730",
        "hatch": "#3B404D",
        "mark": "#FF9E3D",
        "lost": "#B9A2F2",
        "added": "#F5A64A",
    },
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one mechanism is drawn: its colour in the theme at hand, its symbol, and its family."""

    key: str
    colour: str
    symbol: Symbol
    family: str


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Every colour and size of a picture, in `light` or `dark`; `presenting` enlarges type for a room.

    `guests` are the (key, family) pairs of mechanisms that plug-ins bring; each takes its family's next free hue, in
    the order of their keys, so that the same set of plug-ins always looks the same.
    """

    mode: Mode = "light"
    presenting: bool = False
    guests: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a mode that does not exist."""
        if self.mode not in _SURFACES:
            raise ValueError(f"mode is {self.mode!r}; allowed are 'light' and 'dark'")

    @property
    def background(self) -> str:
        """The page."""
        return _SURFACES[self.mode]["background"]

    @property
    def surface(self) -> str:
        """A raised area of the page."""
        return _SURFACES[self.mode]["surface"]

    @property
    def text(self) -> str:
        """Body text."""
        return _SURFACES[self.mode]["text"]

    @property
    def muted(self) -> str:
        """Second-rank text, still legible (contrast above 4.5)."""
        return _SURFACES[self.mode]["muted"]

    @property
    def grid(self) -> str:
        """Grid lines."""
        return _SURFACES[self.mode]["grid"]

    @property
    def border(self) -> str:
        """Axis lines and the edges of buttons (contrast above 3)."""
        return _SURFACES[self.mode]["border"]

    @property
    def never(self) -> str:
        """A pair that the mechanism never looked at."""
        return _SURFACES[self.mode]["never"]

    @property
    def hatch(self) -> str:
        """The lines of the hatch that stands for the future."""
        return _SURFACES[self.mode]["hatch"]

    @property
    def mark(self) -> str:
        """The cross-hair, the marked token, the focus ring: no colour of `ice` is near it."""
        return _SURFACES[self.mode]["mark"]

    @property
    def lost(self) -> str:
        """The far end of "less than exact"; a weight below zero."""
        return _SURFACES[self.mode]["lost"]

    @property
    def added(self) -> str:
        """The far end of "more than exact"."""
        return _SURFACES[self.mode]["added"]

    @cached_property
    def weights(self) -> Colours:
        """The 256 colours of weights `[256, 3]`, from paper (looked, and found nothing) to the strongest."""
        anchors = np.array(_ICE, dtype=np.float64)[:: -1 if self.mode == "light" else 1]
        at = np.linspace(0, len(anchors) - 1, 256)
        channels = [np.interp(at, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
        return np.round(np.stack(channels, axis=1)).astype(np.uint8)

    @cached_property
    def differences(self) -> Colours:
        """The 253 colours of differences `[253, 3]`: lost, the background in the middle, added."""
        half = LEVELS // 2 + 1
        down, up = blend(self.lost, self.background, half), blend(self.background, self.added, half)
        return np.concatenate([down, up[1:]])

    def palette(self, kind: Kind) -> Colours:
        """The colour of every code of a drawn cell `[256, 3]`: 253 levels, below zero, the future, never looked at."""
        if kind == "difference":
            levels = self.differences
        else:
            levels = self.weights[np.round(np.linspace(0, 255, LEVELS)).astype(np.int64)]
        reserved = np.array([rgb(self.lost), rgb(self.background), rgb(self.never)], dtype=np.uint8)
        return np.concatenate([levels, reserved])

    @cached_property
    def negatives(self) -> Colours:
        """The 256 colours of weights below zero `[256, 3]`, from paper to as strong as a weight of the scale's end."""
        return blend(hexadecimal(self.weights[0]), self.lost, 256)

    def colour_of(self, values: Numbers, scale: Scale) -> Colours:
        """The colours `[…, 3]` of values on a scale; NaN is "never looked at"."""
        position = scale.position(values)
        levels = np.where(np.isnan(position), 0.0, position) * (LEVELS - 1)
        codes = np.where(np.isnan(position), NEVER, np.round(levels)).astype(np.int64)
        return np.asarray(self.palette(scale.kind)[codes])

    def size(self, role: str) -> float:
        """The size in pixels of a type role: title, answer, body, label or tick."""
        if role not in SIZES:
            raise ValueError(f"type role is {role!r}; allowed are {', '.join(SIZES)}")
        return SIZES[role] * self.zoom

    @property
    def zoom(self) -> float:
        """1, or 1.5 when presenting."""
        return PRESENTING if self.presenting else 1.0

    def style(self, key: str, family: str = "") -> Style:
        """How a mechanism is drawn. One that is unknown takes the next free hue of `family` (any hue if it has none).

        What follows a colon names a setting of the mechanism ("lsh:2") and changes nothing.
        """
        key = key.partition(":")[0]
        if key in MECHANISM_COLOURS:
            light, dark, own = MECHANISM_COLOURS[key]
            return Style(key=key, colour=light if self.mode == "light" else dark, symbol=SYMBOLS[key], family=own)
        guests = dict(self.guests)
        guests.setdefault(key, family)
        colour, symbol = _guest_styles(self.mode, tuple(sorted(guests.items())))[key]
        return Style(key=key, colour=colour, symbol=symbol, family=guests[key])

    def welcoming(self, mechanisms: Iterable[tuple[str, str]]) -> "Theme":
        """The theme with those of the (key, family) pairs as guests that it does not know yet: each gets its own hue."""
        keys = {key.partition(":")[0]: family for key, family in mechanisms}
        new = {key: family for key, family in keys.items() if key not in MECHANISM_COLOURS}
        guests = tuple(sorted((new | dict(self.guests)).items()))
        return self if guests == tuple(sorted(self.guests)) else replace(self, guests=guests)

    def ink_on(self, colour: str) -> str:
        """Black or white, whichever is easier to read on the colour."""
        return max("#000000", "#FFFFFF", key=lambda ink: contrast(ink, colour))

    def variables(self) -> dict[str, str]:
        """The theme as CSS custom properties for the browser's parts; they come with the data, so a switch is one step."""
        colours = {f"--la-{name}": value for name, value in _SURFACES[self.mode].items()}
        sizes = {f"--la-{role}": f"{SIZES[role] * self.zoom:g}px" for role in SIZES}
        paper = {"--la-paper": hexadecimal(self.weights[0]), "--la-zoom": f"{self.zoom:g}"}
        return colours | sizes | paper


@lru_cache(maxsize=64)
def _guest_styles(mode: Mode, guests: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, Symbol]]:
    taken = [light if mode == "light" else dark for light, dark, _ in MECHANISM_COLOURS.values()]
    styles = {}
    for index, (key, family) in enumerate(guests):
        arc = FAMILY_HUES.get(family, (0.0, 360.0))
        colour = farthest(tuple(taken), arc, BACKGROUNDS[mode], LEAST_CONTRAST)
        taken.append(colour)
        # More guests than spare symbols share one; their names still tell them apart.
        styles[key] = (colour, GUEST_SYMBOLS[index % len(GUEST_SYMBOLS)])
    return styles
