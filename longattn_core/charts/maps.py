"""An attention map as a chart for print: pixels inside real axes, with a colour bar, a caption and what was pooled."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import numpy as np
import numpy.typing as npt
import pandas as pd

from longattn_core.charts.cells import Floats, Reduce, Window, check_tokens, encode, future_cells
from longattn_core.charts.pictures import MapPicture
from longattn_core.charts.pixels import matrix_uri, paint
from longattn_core.charts.style.altair import fixed, themed
from longattn_core.charts.style.legend import caption_lines, colour_bar
from longattn_core.charts.style.png import data_uri
from longattn_core.charts.style.scales import Kind
from longattn_core.charts.style.theme import Theme

NAMED_TOKENS = 40
"""Up to this many positions an axis names its tokens; beyond it, it counts them."""
MOST_CELLS = 512
"""Cells of a matrix's side: more than the screen has dots for it."""
_SHARPNESS = 960


def attention_map_chart(shown: MapPicture, theme: Theme, *, caption: str = "", size: int = 480) -> alt.VConcatChart:
    """An attention map as an Altair chart; without a window, each cell is one pair.

    The cells are one image mark, so a large map costs no more to draw than a small one.

    Raises:
        ValueError: the tokens do not reach to the end of the window.
    """
    x = np.asarray(shown.values, dtype=np.float64)
    window = shown.window or Window(r0=0, r1=x.shape[0], c0=0, c1=x.shape[1])
    tokens_rows, tokens_cols = shown.tokens_rows, shown.tokens_cols
    for name, tokens, stop in (("tokens_rows", tokens_rows, window.r1), ("tokens_cols", tokens_cols, window.c1)):
        if tokens is not None and len(tokens) < stop:
            check_tokens(tokens, stop, name)
    shape = (x.shape[0], x.shape[1])
    cells = encode(x, shown.measure, future=future_cells(window, shape) if shown.causal else None)
    factor = (max(1, -(-_SHARPNESS // shape[0])), max(1, -(-_SHARPNESS // shape[1])))
    height = size if window.rows == window.cols else max(96, min(size, size * window.rows // window.cols))
    named = (tokens_rows is not None and window.rows <= NAMED_TOKENS, tokens_cols is not None and window.cols <= NAMED_TOKENS)
    room = [
        0.56 * theme.size("tick") * max((len(visible(token)) for token in tokens or ()), default=0) + 12
        for tokens in (tokens_rows, tokens_cols)
    ]
    frame = pd.DataFrame(
        {
            "x": [window.c0],
            "x2": [window.c1],
            "y": [window.r0],
            "y2": [window.r1],
            "url": [data_uri(paint(cells, theme=theme, kind=shown.scale, factor=factor))],
        }
    )
    picture = (
        alt.Chart(frame)
        .mark_image(aspect=False, smooth=False)
        .encode(
            x=alt.X(
                "x:Q",
                scale=alt.Scale(domain=[window.c0, window.c1], nice=False),
                axis=_axis("key", named=named[1], room=0.85 * room[1]),
            ),
            x2=alt.X2("x2:Q"),
            y=alt.Y(
                "y:Q",
                scale=alt.Scale(domain=[window.r0, window.r1], reverse=True, nice=False),
                axis=_axis("query", named=named[0], room=room[0]),
            ),
            y2=alt.Y2("y2:Q"),
            url=alt.Url("url:N"),
        )
        .properties(width=size, height=height)
    )
    layers: list[Any] = [picture]
    if named[0] and tokens_rows is not None:
        layers.append(_names(tokens_rows, window.queries, down=True, theme=theme, edge=0))
    if named[1] and tokens_cols is not None:
        layers.append(_names(tokens_cols, window.keys, down=False, theme=theme, edge=height))
    edge = (
        alt.Chart(frame.drop(columns="url"))
        .mark_rect(filled=False, stroke=theme.border)
        .encode(x=alt.X("x:Q"), x2=alt.X2("x2:Q"), y=alt.Y("y:Q"), y2=alt.Y2("y2:Q"))
    )
    notes = [text for text in (caption, pooling_note(window, shape, shown.reduce)) if text]
    codes = set(np.unique(cells.codes).tolist())
    parts: list[Any] = [alt.layer(*layers, edge), colour_bar(theme, shown.measure, codes, width=size)]
    if notes:
        parts.append(caption_lines(notes, theme=theme, width=size))
    chart: alt.VConcatChart = alt.vconcat(*parts, spacing=12).resolve_scale(x="independent", y="independent")
    if shown.title:
        title = alt.TitleParams(text=shown.title, subtitle=[shown.subtitle] if shown.subtitle else [])
        chart = chart.properties(title=title)
    drawn: alt.VConcatChart = themed(chart, theme)
    return drawn


def pooling_note(window: Window, shape: tuple[int, int], reduce: Reduce) -> str:
    """What one cell of a pooled map joins, in words; empty where each cell is one pair."""
    rows, cols = -(-window.rows // shape[0]), -(-window.cols // shape[1])
    if rows * cols == 1:
        return ""
    even = window.rows % shape[0] == 0 and window.cols % shape[1] == 0
    return f"Each cell: the {'largest' if reduce == 'max' else 'mean'} of {'' if even else 'up to '}{rows} × {cols} weights."


def _axis(side: str, *, named: bool, room: float) -> alt.Axis:
    if named:
        return alt.Axis(title=f"{side} (token)", labels=False, ticks=False, grid=False, titlePadding=room)
    return alt.Axis(title=f"{side} (token position)", grid=False, tickCount=6, format="d", tickMinStep=1)


def _names(tokens: Sequence[str], span: tuple[int, int], *, down: bool, theme: Theme, edge: float) -> Any:
    """Token strings along one side of the picture, drawn as data so that no token can be read as an expression."""
    frame = pd.DataFrame({"at": np.arange(*span) + 0.5, "token": [visible(token) for token in tokens[slice(*span)]]})
    size = theme.size("tick")
    if down:
        mark = alt.Chart(frame).mark_text(align="right", baseline="middle", dx=-4, fontSize=size, color=theme.muted)
        return mark.encode(y=alt.Y("at:Q"), x=fixed(alt.XValue, 0), text=alt.Text("token:N"))
    mark = alt.Chart(frame).mark_text(align="right", baseline="middle", angle=300, dx=-4, dy=2, fontSize=size, color=theme.muted)
    return mark.encode(x=alt.X("at:Q"), y=fixed(alt.YValue, edge), text=alt.Text("token:N"))


@lru_cache(maxsize=1 << 15)
def visible(token: str, longest: int = 14) -> str:
    """A token as a label: line breaks and blanks made visible, control characters replaced, long ones cut."""
    text = token.replace("\r\n", "↵").replace("\n", "↵").replace("\t", "⇥")
    text = "".join(character if character.isprintable() or character == " " else "□" for character in text)
    text = text.strip() or "␣"
    return text if len(text) <= longest else text[: longest - 1] + "…"


def matrix_chart(
    values: npt.NDArray[np.floating],
    theme: Theme,
    *,
    x_title: str,
    y_title: str,
    kind: Kind = "log",
    top: float = 1.0,
    height: int = 260,
) -> alt.Chart:
    """A matrix of any shape as a picture within its axes: weights, or signed numbers up to ±`top`."""
    rows, columns = values.shape
    frame = pd.DataFrame(
        {
            "x": [0],
            "x2": [columns],
            "y": [0],
            "y2": [rows],
            "url": [matrix_uri(thinned(values), theme, kind=kind, top=top)],
            "what": [f"{rows} × {columns} numbers, from {float(values.min()):.3g} to {float(values.max()):.3g}"],
        }
    )
    across = alt.X("x:Q", scale=alt.Scale(domain=[0, columns], nice=False), axis=_position_axis(x_title, columns))
    down = alt.Y("y:Q", scale=alt.Scale(domain=[0, rows], nice=False, reverse=True), axis=_position_axis(y_title, rows))
    drawn: alt.Chart = (
        alt.Chart(frame)
        .mark_image(aspect=False, smooth=False)
        .encode(
            x=across,
            x2=alt.X2("x2:Q"),
            y=down,
            y2=alt.Y2("y2:Q"),
            url=alt.Url("url:N"),
            tooltip=alt.Tooltip("what:N", title="holds"),
        )
    )
    return drawn.properties(height=height, width="container", view=alt.ViewBackground(stroke=theme.border))


def thinned(x: npt.NDArray[np.floating], most: int = MOST_CELLS) -> npt.NDArray[np.floating]:
    """At most `most` rows and columns of a matrix, evenly spaced: of a longer side a sample is shown."""
    for axis in (0, 1):
        if x.shape[axis] > most:
            x = np.take(x, np.arange(most) * x.shape[axis] // most, axis=axis)
    return x


def position_ticks(n: int) -> list[int]:
    """About four evenly spaced positions of an axis of n, the first among them."""
    return [*range(0, n, max(1, n // 4))]


def _position_axis(title: str, size: int) -> alt.Axis:
    return alt.Axis(title=title, grid=False, tickCount=4, tickMinStep=1, format="d", values=position_ticks(size))


def signed_top(x: npt.NDArray[np.floating]) -> float:
    """The strong end of the colours of a matrix with signs: its largest number, by size."""
    values: Floats = np.abs(np.asarray(x, dtype=np.float64))
    return max(float(values.max()), 0.01)
