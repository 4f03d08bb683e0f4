"""What stands below a picture for print: the colour bar with its numbers, the reserved colours, and the caption."""

from collections.abc import Collection, Sequence
from textwrap import wrap
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd

from longattn_core.charts.style.altair import fixed
from longattn_core.charts.style.colour import rgb
from longattn_core.charts.style.png import data_uri
from longattn_core.charts.style.scales import Scale
from longattn_core.charts.style.theme import BELOW, FUTURE, LEVELS, NEVER, Theme

_NAMES = {NEVER: "never looked at", FUTURE: "the future", BELOW: "below zero"}


def colour_bar(theme: Theme, scale: Scale, shown: Collection[int], *, width: int) -> Any:
    """The scale as a strip of colour with its numbers, and a swatch for each reserved code of `shown`."""
    long, tall, tick = int(min(300, width * 0.6) * theme.zoom), 10, theme.size("tick")
    strip = np.ascontiguousarray(theme.palette(scale.kind)[None, :LEVELS])
    layers: list[Any] = [
        alt.Chart(pd.DataFrame({"url": [data_uri(strip)]}))
        .mark_image(aspect=False, width=long, height=tall, align="left", baseline="top")
        .encode(x=fixed(alt.XValue, 0), y=fixed(alt.YValue, 0), url=alt.Url("url:N")),
        _frame(0, long, tall, fill="transparent", theme=theme),
    ]
    for index, (at, label) in enumerate(scale.ticks()):
        align: Literal["left", "center", "right"] = "left" if at == 0 else "right" if at == 1 else "center"
        text = f"≤ {label}" if index == 0 and scale.kind == "log" else label
        layers.append(_words(text, at * long, tall + 3, theme=theme, align=align, baseline="top"))
    what = "mechanism \N{MINUS SIGN} exact" if scale.kind == "difference" else "weight"
    layers.append(_words(what, long + 8, tall / 2, theme=theme))
    left, below = 0.0, tall + tick + 12
    present = [code for code in _NAMES if code in shown and not (code == BELOW and scale.kind == "difference")]
    for code in present:
        if code == FUTURE:
            pixels = np.full((20, 28, 3), rgb(theme.background), dtype=np.uint8)
            rows, columns = np.indices((20, 28), sparse=True)
            pixels[(rows + columns) % 12 < 2] = rgb(theme.hatch)
            layers.append(
                alt.Chart(pd.DataFrame({"url": [data_uri(pixels)]}))
                .mark_image(aspect=False, width=14, height=tall, align="left", baseline="top")
                .encode(x=fixed(alt.XValue, left), y=fixed(alt.YValue, below), url=alt.Url("url:N"))
            )
        fill = {NEVER: theme.never, FUTURE: "transparent", BELOW: theme.lost}[code]
        layers.append(_frame(left, 14, tall, fill=fill, theme=theme, top=below))
        layers.append(_words(_NAMES[code], left + 20, below + tall / 2, theme=theme))
        left += 32 + tick * 0.55 * len(_NAMES[code])
    return alt.layer(*layers).properties(width=width, height=below + tall if present else tall + 3 + tick)


def caption_lines(sentences: Sequence[str], *, theme: Theme, width: int) -> Any:
    """Sentences below a picture, wrapped to its width."""
    size = theme.size("tick")
    lines = [line for sentence in sentences for line in wrap(sentence, max(20, int(width / (0.5 * size))))]
    frame = pd.DataFrame({"text": lines, "y": np.arange(len(lines)) * size * 1.35})
    return (
        alt.Chart(frame)
        .mark_text(align="left", baseline="top", fontSize=size, color=theme.muted)
        .encode(x=fixed(alt.XValue, 0), y=alt.Y("y:Q", scale=None, axis=None), text=alt.Text("text:N"))
        .properties(width=width, height=len(lines) * size * 1.35)
    )


def _frame(left: float, wide: float, tall: float, *, fill: str, theme: Theme, top: float = 0.0) -> Any:
    return (
        alt.Chart(pd.DataFrame({"i": [0]}))
        .mark_rect(fill=fill, stroke=theme.border, strokeWidth=1)
        .encode(
            x=fixed(alt.XValue, left),
            x2=fixed(alt.X2Value, left + wide),
            y=fixed(alt.YValue, top),
            y2=fixed(alt.Y2Value, top + tall),
        )
    )


def _words(
    text: str,
    x: float,
    y: float,
    *,
    theme: Theme,
    align: Literal["left", "center", "right"] = "left",
    baseline: Literal["middle", "top"] = "middle",
) -> Any:
    return (
        alt.Chart(pd.DataFrame({"text": [text]}))
        .mark_text(align=align, baseline=baseline, fontSize=theme.size("tick"), color=theme.muted)
        .encode(x=fixed(alt.XValue, x), y=fixed(alt.YValue, y), text=alt.Text("text:N"))
    )
