"""Parts of a page that run alone when something of theirs is moved, and never one inside another.

When a fragment runs again before the browser was sent all of its run before, Streamlit takes back what is left of that run,
but not what was drawn in fragments inside it: these messages lead to places that the browser was never told of, and the page
stops ("Bad delta path"), as it did where a sweep inside a fragment drew itself anew. So a fragment inside another is drawn as a
part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import streamlit as st

_INSIDE: ContextVar[bool] = ContextVar("inside a fragment", default=False)


def inside() -> bool:
    """Whether what is drawn now is part of a fragment."""
    return _INSIDE.get()


def fragment(draw: Callable[[], None], *, run_every: float | None = None) -> None:
    """Draw, now and whenever a widget of it is used, or every so many seconds; inside a fragment, with all of that one."""
    if inside():
        draw()
        return

    @st.fragment(run_every=run_every)
    def alone() -> None:
        token = _INSIDE.set(True)
        try:
            draw()
        finally:
            _INSIDE.reset(token)

    alone()
