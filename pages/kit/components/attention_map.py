"""The attention map: a picture of who looks at whom that can be pointed at, zoomed and clicked.

One map is drawn from at most about 512 × 512 cells, a byte each. Hover, cross-hair, zoom and linked maps stay in the
browser; a click and a wish for finer rows come back to Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import streamlit as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longattn_core.charts.cells import Encoded, Window, cell_edges, check_tokens, encode, future_cells
from longattn_core.charts.pictures import MapPicture
from longattn_core.charts.style.scales import Scale
from longattn_core.charts.style.theme import BELOW, FUTURE, NEVER, Theme
from pages.kit.components.messages import component_source, pack, scale_head, scale_words
from pages.kit.text import _

MOST_CELLS: Final = 1024
"""The longest side of a map in cells: beyond it the message outgrows what a screen can show."""
FINE_CELLS: Final = 1 << 17
"""Up to this many cells each value is sent with a second byte, and the read-out is exact to three digits."""
LEAST_WINDOW: Final = 8

_HTML: Final = """
<div class="la am">
  <div class="am-head"><div><span class="am-title"></span><span class="am-sub"></span></div>
    <div class="am-tools"><button type="button" class="am-in">+</button><button type="button" class="am-out">−</button
    ><button type="button" class="am-all">⤢</button></div></div>
  <div class="am-axes"><span class="am-queryaxis"></span><span class="am-keyaxis"></span></div>
  <div class="am-plot"><canvas class="am-rows" aria-hidden="true"></canvas>
    <div class="am-stage" tabindex="0" role="application" aria-describedby="am-alt"><canvas class="am-map"></canvas
    ><canvas class="am-cross"></canvas></div>
    <canvas class="am-cols" aria-hidden="true"></canvas></div>
  <p class="am-status"></p>
  <div class="am-bar la-bar"></div>
  <p class="am-note"></p>
  <div class="am-strip am-querystrip"><b></b><div class="la-words" dir="auto"></div></div>
  <div class="am-strip am-keystrip"><b></b><div class="la-words" dir="auto"></div></div>
  <p class="am-alt la-sr" id="am-alt"></p>
  <p class="am-live la-sr" role="status" aria-live="polite"></p>
</div>
"""

_style, _script = component_source("attention_map")
_mount = st.components.v2.component("longattn_attention_map", html=_HTML, css=_style, js=_script)


class Pair(BaseModel):
    """The cell that was clicked: its first query and key, and how many of each it joins."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    row: int = Field(ge=0)
    col: int = Field(ge=0)
    rows: int = Field(1, ge=1)
    cols: int = Field(1, ge=1)


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    r0: int
    r1: int
    c0: int
    c1: int
    of: list[int] = Field(min_length=2, max_length=2)


@dataclass(frozen=True, kw_only=True)
class MapResult:
    """What came back from the browser, checked: `clicked` for one run, `view` for as long as the map is zoomed."""

    clicked: Pair | None
    view: Window | None


def attention_map(
    picture: MapPicture,
    *,
    key: str,
    theme: Theme,
    link: str = "",
    content: str = "",
    strips: bool = True,
    axes: tuple[str, str] | None = None,
    words: Mapping[str, str] | None = None,
    size: int = 560,
) -> MapResult:
    """Draw the map and return what was clicked and which part is looked at.

    The rows' tokens name the columns of a square map too, where the picture has no `tokens_cols`. Maps with one `link` share
    cross-hair and zoom. `content` names what is drawn apart from the window: with the same name the overview stays below a
    finer window. `strips` shows the texts of query and key below the map. `axes` says what rows and columns are, where they are
    no single tokens: ("query (paragraph)", "key (paragraph)"). `words` replaces some of the sentences and labels (see `_words`),
    for a matrix that holds no weights. `size` is the greatest width in pixels; the map takes its column's width up to that.

    Cost: two bytes a cell are sent up to 131,072 cells, one beyond.

    Raises:
        ValueError: shape, window and tokens do not fit together; the sentence names what was found.
    """
    x = np.asarray(picture.values, dtype=np.float64)
    full, window = _checked(x, picture.full, picture.window)
    tokens_rows, tokens_cols, scale = picture.tokens_rows, picture.tokens_cols, picture.scale
    tokens_cols = tokens_rows if tokens_cols is None and full[0] == full[1] else tokens_cols
    check_tokens(tokens_rows, full[0], "tokens_rows")
    check_tokens(tokens_cols, full[1], "tokens_cols")
    cells = _encoded(picture.values, x, picture.measure, window if picture.causal else None)
    found = set(np.flatnonzero(np.bincount(cells.codes.ravel(), minlength=256)).tolist())
    present = {name for name, code in (("never", NEVER), ("future", FUTURE)) if code in found}
    if scale != "difference":
        present |= {"below"} if BELOW in found else set()
        present |= {"paper"} if "never" in present else set()
    same = tokens_cols is tokens_rows or (tokens_rows is not None and tokens_cols == tokens_rows)
    head = {
        "title": picture.title,
        "subtitle": picture.subtitle,
        "shape": list(x.shape),
        "full": list(full),
        "window": [window.r0, window.r1, window.c0, window.c1],
        "reduce": picture.reduce,
        "scale": scale_head(picture.measure),
        "kinds": [kind for kind in ("never", "paper", "future", "below") if kind in present],
        "rows": None if tokens_rows is None else list(tokens_rows),
        "cols": None if same or tokens_cols is None else list(tokens_cols),
        "same": same,
        "size": int(size),
        "link": link,
        "content": content,
        "selected": None,
        "strips": strips,
        "bar": True,
        "theme": theme.variables(),
        "words": _words() | scale_words(scale) | _axes(axes) | dict(words or {}),
        "alt": describe(
            x, title=picture.title, full=full, window=window, scale=picture.measure, tokens=tokens_rows, keys=tokens_cols
        ),
    }
    planes = {"palette": theme.palette(scale).tobytes(), "negatives": theme.negatives.tobytes(), "codes": cells.codes.tobytes()}
    if x.size <= FINE_CELLS:
        planes["fine"] = cells.fine.tobytes()
    result = _mount(key=key, data=pack(head, planes), on_clicked_change=_nothing, on_view_change=_nothing)
    return MapResult(clicked=checked_pair(result.get("clicked"), full=full), view=checked_view(result.get("view"), full=full))


class _Same:
    """An array that nobody can write, as the key of a store: the same one has the same cells."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array

    def __hash__(self) -> int:
        return id(self.array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.array is self.array


def _encoded(values: npt.ArrayLike, x: npt.NDArray[np.float64], measure: Scale, window: Window | None) -> Encoded:
    """The cells of a map, its future hatched where a window is given. A study's arrays are kept with their cells: most
    maps of a page stay as they are while one dial moves."""
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        return _kept(_Same(values), measure, window)
    return _kept.__wrapped__(_Same(x), measure, window)


@lru_cache(maxsize=24)
def _kept(values: _Same, measure: Scale, window: Window | None) -> Encoded:
    x = values.array
    return encode(x, measure, future=None if window is None else future_cells(window, x.shape))


def view_of(key: str, *, full: tuple[int, int]) -> Window | None:
    """The part of the map `key` that its visitor has zoomed into, before the map is drawn; None for all of it."""
    state: object = st.session_state.get(key)
    return checked_view(state.get("view") if isinstance(state, Mapping) else None, full=full)


def window_for(view: Window | None, *, full: tuple[int, int], cells: int = 512) -> tuple[Window, tuple[int, int]]:
    """The window to compute for a view, a quarter wider on each side so that dragging shows no edge, and its shape.

    The shape is what `Attended.pooled` takes: at most `cells` a side, one a token where the window is small enough.
    """
    if view is None:
        window = Window(r0=0, r1=full[0], c0=0, c1=full[1])
    else:
        rows, cols = _widened(view.r0, view.r1, full[0], cells), _widened(view.c0, view.c1, full[1], cells)
        window = Window(r0=rows[0], r1=rows[1], c0=cols[0], c1=cols[1])
    return window, (min(cells, window.rows), min(cells, window.cols))


def _widened(start: int, stop: int, size: int, cells: int) -> tuple[int, int]:
    span = stop - start
    spare = -(-span // 4)
    if span <= cells < span + 2 * spare:
        # A view that could be shown token by token is not made coarser for the sake of its margin.
        spare = (cells - span) // 2
    return max(0, start - spare), min(size, stop + spare)


def checked_pair(sent: Any, *, full: tuple[int, int]) -> Pair | None:
    """A click as the browser sent it, or None where it is no cell of this map: a visitor can send anything."""
    try:
        pair = Pair.model_validate(sent)
    except ValidationError:
        return None
    return pair if pair.row + pair.rows <= full[0] and pair.col + pair.cols <= full[1] else None


def checked_view(sent: Any, *, full: tuple[int, int]) -> Window | None:
    """A view as the browser sent it, clamped to this map; None for no view, a forged one, one of the whole map, or one
    that was chosen while the map had another size.
    """
    try:
        view = _View.model_validate(sent)
    except ValidationError:
        return None
    if view.of != list(full):
        return None
    rows, cols = _clamped(view.r0, view.r1, full[0]), _clamped(view.c0, view.c1, full[1])
    if rows is None or cols is None or (rows == (0, full[0]) and cols == (0, full[1])):
        return None
    return Window(r0=rows[0], r1=rows[1], c0=cols[0], c1=cols[1])


def _clamped(start: int, stop: int, size: int) -> tuple[int, int] | None:
    if not (start < stop and start < size and stop > 0):
        return None
    start, stop = max(0, start), min(size, stop)
    if stop - start < min(LEAST_WINDOW, size):
        start = max(0, min(start, size - LEAST_WINDOW))
        stop = min(size, start + LEAST_WINDOW)
    return start, stop


def _checked(x: npt.NDArray[np.float64], full: tuple[int, int] | None, window: Window | None) -> tuple[tuple[int, int], Window]:
    if max(x.shape) > MOST_CELLS:
        raise ValueError(f"a map is drawn from at most {MOST_CELLS} cells a side, found {list(x.shape)}; pool it first")
    if full is None:
        full = (x.shape[0], x.shape[1]) if window is None else (window.r1, window.c1)
    window = window or Window(r0=0, r1=full[0], c0=0, c1=full[1])
    if window.r1 > full[0] or window.c1 > full[1]:
        raise ValueError(f"the window ends at query {window.r1}, key {window.c1}; the map has {full[0]} × {full[1]}")
    if x.shape[0] > window.rows or x.shape[1] > window.cols:
        raise ValueError(f"{list(x.shape)} cells cannot fill a window of {window.rows} × {window.cols} pairs")
    return full, window


def describe(
    values: npt.NDArray[np.float64],
    *,
    title: str,
    full: tuple[int, int],
    window: Window,
    scale: Scale,
    tokens: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
) -> str:
    """A map in words, for those who cannot see it: its size, where it peaks, and how much was never looked at."""
    seen = ~np.isnan(values)
    parts = [_("{title}: {rows} queries by {cols} keys.").format(title=title, rows=full[0], cols=full[1])]
    if not seen.any():
        return " ".join([*parts, _("Nothing here was looked at.")])
    row, col = np.unravel_index(int(np.argmax(np.where(seen, np.abs(values), -1.0))), values.shape)
    query = int(cell_edges(*window.queries, values.shape[0])[row])
    key = int(cell_edges(*window.keys, values.shape[1])[col])
    kind = _("Largest difference") if scale.kind == "difference" else _("Largest weight")
    parts.append(
        _("{kind} {value} at query {query}, key {key}.").format(
            kind=kind, value=f"{values[row, col]:.3g}", query=_named(query, tokens), key=_named(key, keys)
        )
    )
    if not seen.all():
        parts.append(_("{share} of the cells were never looked at.").format(share=f"{1 - seen.mean():.0%}"))
    return " ".join(parts)


def _named(position: int, tokens: Sequence[str] | None) -> str:
    return str(position) if tokens is None else f"“{tokens[position].strip()}” ({position})"


def _axes(axes: tuple[str, str] | None) -> dict[str, str]:
    return {} if axes is None else {"axis_query": f"↓ {axes[0]}", "axis_key": f"{axes[1]} →"}


def _nothing() -> None:
    """Streamlit returns a state or a trigger only where a callback stands for it."""


@cache
def _words() -> dict[str, str]:
    return {
        "role": _("attention map"),
        "label": _(
            "{title}, {rows} queries by {cols} keys. Arrow keys move the cross-hair, Enter holds it, plus and minus zoom, "
            "0 shows all, Escape lets go."
        ),
        "axis_query": _("↓ query (token position)"),
        "axis_key": _("key (token position) →"),
        "zoom_in": _("Zoom in"),
        "zoom_out": _("Zoom out"),
        "zoom_all": _("Show the whole map"),
        "hint": _("Point at a cell to read it, click to hold it, scroll or pinch to zoom."),
        "held": _("Held:"),
        "let_go": _("Let go."),
        "about": _("about"),
        "query": _("query {token} at {at}"),
        "queries": _("queries {from} to {to}"),
        "key": _("key {token} at {at}"),
        "keys": _("keys {from} to {to}"),
        "say_weight": _("Weight {about} {value}: {query} → {key}."),
        "say_nothing": _("Looked, and found next to nothing (weight {value}): {query} → {key}."),
        "say_below": _("Weight {about} {value}, below zero: {query} → {key}."),
        "say_pooled_max": _("Largest of {pairs} weights: {about} {value}. {query} → {key}."),
        "say_pooled_mean": _("Mean of {pairs} weights: {about} {value}. {query} → {key}."),
        "say_never": _("Never looked at: {query} → {key}."),
        "say_future": _("Hidden by the mask, it lies in the future: {query} → {key}."),
        "say_more": _("{about} {value} more than exact attention: {query} → {key}."),
        "say_less": _("{about} {value} less than exact attention: {query} → {key}."),
        "say_same": _("No difference from exact attention: {query} → {key}."),
        "note_max": _("Each cell: the largest of {up} {rows} × {cols} weights."),
        "note_mean": _("Each cell: the mean of {up} {rows} × {cols} weights."),
        "note_dots": _("Several cells share a dot of this screen: the strongest is shown. Zoom in to tell them apart."),
        "up_to": _("up to"),
        "strip_query": _("Queries, tinted by the weight that they give this key"),
        "strip_key": _("Keys, tinted by the weight that this query gives them"),
    }
