"""One dictionary a session holds the whole state; widgets and the URL are mirrors of it.

A widget forgets its value when its page is left, and Streamlit empties the URL's query when the page changes. So the
truth stands apart from both: it is read once from the URL when a session begins, written by the widgets, and
mirrored back into the URL at the end of each run, defaults left out. Whatever comes from a URL is a string that
anybody may have written: each value is read by the parser of the one who asks for it, and falls back to the default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")

_STATE = "_laboratory"
_PAGE = "_page"
_LONGEST = 4000
"""A value from the URL that is longer than this was not put there by the app."""


def _truth() -> dict[str, str]:
    if _STATE not in st.session_state:
        given = {name: st.query_params[name] for name in st.query_params}
        st.session_state[_STATE] = {
            name: value for name, value in given.items() if re.fullmatch(r"[a-z_.]{1,40}", name) and len(value) <= _LONGEST
        }
    state: dict[str, str] = st.session_state[_STATE]
    return state


def recall(name: str, default: T, parse: Callable[[str], T]) -> T:
    """The value of `name` in this session, or the default when there is none or it does not parse."""
    text = _truth().get(name)
    if text is None:
        return default
    try:
        return parse(text)
    except (ValueError, KeyError, TypeError, OverflowError):
        return default


def remember(name: str, value: Any, default: Any = None) -> None:
    """Keep a value; None or the default takes it out of the state, and so out of the URL."""
    truth = _truth()
    if value is None or value == default:
        truth.pop(name, None)
    else:
        truth[name] = _text(value)


def keep(name: str, value: Any, default: Any) -> None:
    """Keep what a widget shows: a value that was never chosen stays out of the state while it is the default.

    One that was chosen stays in, even where it is this page's default: another page may have another.
    """
    if name in _truth():
        _truth()[name] = _text(value)
    else:
        remember(name, value, default)


def put(values: Mapping[str, str]) -> None:
    """Set several values at once, as they stand in a URL; the widgets that show them are drawn anew."""
    for name, value in values.items():
        st.session_state.pop(f"in:{name}", None)
        _truth()[name] = value


def snapshot() -> dict[str, str]:
    """A copy of the whole state."""
    return dict(_truth())


def enter(page: str) -> None:
    """Begin a run of a page. When another was shown before, its widgets are forgotten: the truth stands apart from them."""
    if st.session_state.get(_PAGE) != page:
        for key in [key for key in st.session_state if str(key).startswith("in:")]:
            del st.session_state[key]
        st.session_state[_PAGE] = page


def forget(prefix: str) -> None:
    """Drop every value whose name begins with `prefix`, and the widgets that show them."""
    truth = _truth()
    for name in [name for name in truth if name.startswith(prefix)]:
        truth.pop(name)
    for key in [key for key in st.session_state if str(key).startswith(f"in:{prefix}")]:
        del st.session_state[key]


def addressed() -> dict[str, str]:
    """The state as it stands in an address; what is too long for one is left out."""
    return {name: value for name, value in sorted(_truth().items()) if len(value) <= _LONGEST}


def mirror() -> None:
    """Write the state into the URL, when it changed. Called at the end of each run."""
    wanted = addressed()
    if wanted != {name: st.query_params[name] for name in st.query_params}:
        st.query_params.from_dict(wanted)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list | tuple):
        return "~".join(str(part) for part in value)
    return str(value)


def _seed(name: str, value: Any) -> str:
    """Give the widget its value before it is drawn, unless the visitor has just moved it."""
    key = f"in:{name}"
    if key not in st.session_state:
        st.session_state[key] = value
    return key


def choose(
    name: str,
    label: str,
    options: Sequence[str],
    *,
    default: str,
    labels: Callable[[str], str] = str,
    style: str = "select",
    help: str | None = None,
    drawn: bool = True,
) -> str:
    """One of some choices: `style` is "select" (a list) or "segments" (a row of buttons).

    Here and below: not `drawn`, the value is the one that the widget would show, and there is no widget.
    """
    known = recall(name, default, str)
    known = known if known in options else default
    if drawn:
        key = _seed(name, known)
        if st.session_state[key] not in options:
            st.session_state[key] = default
        if style == "segments":
            chosen = st.segmented_control(label, options, format_func=labels, key=key, help=help, required=True)
        else:
            chosen = st.selectbox(label, options, format_func=labels, key=key, help=help)
        known = chosen if chosen is not None and chosen in options else default
    keep(name, known, default)
    return known


def choose_or_none(name: str, label: str, options: Sequence[str], *, labels: Callable[[str], str] = str) -> str | None:
    """One of some buttons in a row, or none of them: pressing the chosen one again lets it go."""
    value = recall(name, "", str)
    key = _seed(name, value if value in options else None)
    chosen = st.segmented_control(label, options, format_func=labels, key=key)
    known = chosen if chosen in options else None
    remember(name, known)
    return known


def choose_many(
    name: str,
    label: str,
    options: Sequence[str],
    *,
    default: Sequence[str],
    labels: Callable[[str], str] = str,
    help: str | None = None,
    drawn: bool = True,
) -> tuple[str, ...]:
    """At least one of some choices, as pills; none at all is the default."""
    value = recall(name, tuple(default), lambda text: tuple(text.split("~")))
    picked: Sequence[str] = value
    if drawn:
        key = _seed(name, [part for part in value if part in options] or list(default))
        picked = st.pills(label, options, selection_mode="multi", format_func=labels, key=key, help=help)
    chosen = tuple(option for option in options if option in picked) or tuple(default)
    keep(name, chosen, tuple(default))
    return chosen


def switch(name: str, label: str, *, default: bool, help: str | None = None, drawn: bool = True) -> bool:
    """On or off."""
    chosen = recall(name, default, lambda text: {"1": True, "0": False}[text])
    if drawn:
        chosen = bool(st.toggle(label, key=_seed(name, chosen), help=help))
    keep(name, chosen, default)
    return chosen


def whole(name: str, label: str, *, least: int, most: int, default: int, help: str | None = None, drawn: bool = True) -> int:
    """A whole number within bounds, typed or stepped."""
    chosen = min(max(recall(name, default, int), least), most)
    if drawn:
        key = _seed(name, chosen)
        st.session_state[key] = min(max(int(st.session_state[key]), least), most)
        chosen = int(st.number_input(label, min_value=least, max_value=most, step=1, key=key, help=help))
    keep(name, chosen, default)
    return chosen


def slide(
    name: str,
    label: str,
    steps: Sequence[T],
    *,
    default: T,
    parse: Callable[[str], T],
    shown: Callable[[T], str] = str,
    help: str | None = None,
    drawn: bool = True,
) -> T:
    """One of a row of steps, on a slider; a value from a link that is no step is taken in among them."""
    value = recall(name, default, parse)
    grid = sorted({*steps, default})  # type: ignore[type-var]
    if not grid[0] <= value <= grid[-1]:  # type: ignore[operator]
        value = default
    if drawn:
        grid = sorted({*grid, value})  # type: ignore[type-var]
        key = f"in:{name}"
        if st.session_state.get(key) not in grid:
            st.session_state[key] = value
        chosen: T = st.select_slider(label, grid, format_func=shown, key=key, help=help)
        value = chosen if chosen in grid else default
    keep(name, value, default)
    return value
