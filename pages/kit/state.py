"""One dictionary for each session holds the whole state; widgets and the URL are copies of it.

Streamlit forgets a widget's value when its page is left, and empties the URL's query when the page changes. So the state
stands apart from both: it is read from the URL when a session begins, written by the widgets, and copied into the URL at the
end of each run, without the defaults. Anybody may have written what comes from a URL: each value is a string that the caller
parses, and a value that does not parse is the default.

Streamlit's own `bind="query-params"` and `persist_state="session"` do not replace this. They hold what one widget shows, while
an address here also names values of other pages, of dials that are put away, and of pictures that are clicked; and a chosen
value stays in the address where it is one page's default, because another page may have another default.

`view=True` declares that a value only says what is looked at (a figure, a scale, a frame, a guess): it changes no answer. The
sentence of an example stays while such values change (`pages.kit.sections`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")

_STATE, _VIEWS, _PAGE = "_laboratory", "_views", "_page"
"""Names in Streamlit's session state: the values, the names declared as views, the page of the last run."""
_LONGEST = 4000
"""Characters of the longest value in an address; a longer one was not written by the app."""


def _values() -> dict[str, str]:
    if _STATE not in st.session_state:
        st.session_state[_STATE] = {
            name: value
            for name, value in st.query_params.to_dict().items()
            if re.fullmatch(r"[a-z_.]{1,40}", name) and len(value) <= _LONGEST
        }
    values: dict[str, str] = st.session_state[_STATE]
    return values


def recall(name: str, default: T, parse: Callable[[str], T]) -> T:
    """The value of `name` in this session, or the default when there is none or it does not parse."""
    text = _values().get(name)
    if text is None:
        return default
    try:
        return parse(text)
    except (ValueError, KeyError, TypeError, OverflowError):
        return default


def remember(name: str, value: Any, default: Any = None, *, view: bool = False) -> None:
    """Keep a value; None or the default takes it out of the state, and so out of the URL."""
    _declare(name, view)
    values = _values()
    if value is None or value == default:
        values.pop(name, None)
    else:
        values[name] = _text(value)


def keep(name: str, value: Any, default: Any, *, view: bool = False) -> None:
    """Keep what a widget shows: a value that was never chosen stays out of the state while it is the default.

    One that was chosen stays in, even where it is this page's default: another page may have another.
    """
    remember(name, value, None if name in _values() else default, view=view)


def _declare(name: str, view: bool) -> None:
    if view:
        st.session_state.setdefault(_VIEWS, set()).add(name)


def put(values: Mapping[str, str]) -> None:
    """Set several values at once, as they stand in a URL; the widgets that show them are drawn anew."""
    for name, value in values.items():
        st.session_state.pop(f"in:{name}", None)
        _values()[name] = value


def snapshot() -> dict[str, str]:
    """A copy of the whole state."""
    return dict(_values())


def without_views(values: Mapping[str, str]) -> dict[str, str]:
    """The values of a snapshot but for those that this session has declared as views by now."""
    views: set[str] = st.session_state.get(_VIEWS, set())
    return {name: value for name, value in values.items() if name not in views}


def enter(page: str) -> None:
    """Begin a run of a page. Where another page was shown before, its widgets are forgotten; the state keeps their values."""
    if st.session_state.get(_PAGE) != page:
        for key in [key for key in st.session_state if str(key).startswith("in:")]:
            del st.session_state[key]
        st.session_state[_PAGE] = page


def forget(prefix: str) -> None:
    """Drop every value whose name begins with `prefix`, and the widgets that show them."""
    values = _values()
    for name in [name for name in values if name.startswith(prefix)]:
        values.pop(name)
    for key in [key for key in st.session_state if str(key).startswith(f"in:{prefix}")]:
        del st.session_state[key]


def addressed() -> dict[str, str]:
    """The state as it stands in an address, without the values that are too long for one."""
    return {name: value for name, value in sorted(_values().items()) if len(value) <= _LONGEST}


def mirror() -> None:
    """Write the state into the URL, when it changed. Called at the end of each run."""
    wanted = addressed()
    if wanted != st.query_params.to_dict():
        st.query_params.from_dict(wanted)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list | tuple):
        return "~".join(str(part) for part in value)
    return str(value)


def _seed(name: str, value: Any) -> str:
    """The key of a name's widget. The widget gets its value before it is drawn, unless the visitor has just moved it."""
    key = f"in:{name}"
    st.session_state.setdefault(key, value)
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
    view: bool = False,
) -> str:
    """One of several options; `style` is "select" (a list) or "segments" (a row of buttons).

    Here and below: with `drawn=False` no widget is drawn, and the value is the one that it would show. `view` declares that the
    value only says what is looked at.
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
    keep(name, known, default, view=view)
    return known


def choose_or_none(
    name: str, label: str, options: Sequence[str], *, labels: Callable[[str], str] = str, view: bool = False
) -> str | None:
    """One of several buttons in a row, or none: pressing the chosen button again takes the choice back."""
    value = recall(name, "", str)
    key = _seed(name, value if value in options else None)
    chosen = st.segmented_control(label, options, format_func=labels, key=key)
    known = chosen if chosen in options else None
    remember(name, known, view=view)
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
    view: bool = False,
) -> tuple[str, ...]:
    """One or more of several options, as pills; where none is chosen, the default."""
    value = recall(name, tuple(default), lambda text: tuple(text.split("~")))
    picked: Sequence[str] = value
    if drawn:
        key = _seed(name, [part for part in value if part in options] or list(default))
        picked = st.pills(label, options, selection_mode="multi", format_func=labels, key=key, help=help)
    chosen = tuple(option for option in options if option in picked) or tuple(default)
    keep(name, chosen, tuple(default), view=view)
    return chosen


def switch(name: str, label: str, *, default: bool, help: str | None = None, drawn: bool = True, view: bool = False) -> bool:
    """On or off."""
    chosen = recall(name, default, lambda text: {"1": True, "0": False}[text])
    if drawn:
        chosen = bool(st.toggle(label, key=_seed(name, chosen), help=help))
    keep(name, chosen, default, view=view)
    return chosen


def whole(
    name: str, label: str, *, least: int, most: int, default: int, help: str | None = None, drawn: bool = True, view: bool = False
) -> int:
    """A whole number within bounds, typed or stepped."""
    chosen = min(max(recall(name, default, int), least), most)
    if drawn:
        key = _seed(name, chosen)
        st.session_state[key] = min(max(int(st.session_state[key]), least), most)
        chosen = int(st.number_input(label, min_value=least, max_value=most, step=1, key=key, help=help))
    keep(name, chosen, default, view=view)
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
    view: bool = False,
) -> T:
    """One of several steps, on a slider; a value from a link that lies between two steps becomes a step."""
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
    keep(name, value, default, view=view)
    return value
