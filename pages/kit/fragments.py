"""Parts of a page that run alone when one of their widgets is used; none of them stands inside another.

A fragment may run again before all messages of its last run were sent to the browser. Streamlit then drops the messages that are
left, but not those of fragments inside the fragment. These name places that the browser does not know, and the page stops with
"Bad delta path". This happened where a sweep inside a fragment drew itself at intervals. So here a fragment inside another is
drawn as a part of the outer one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import streamlit as st

_INSIDE: ContextVar[bool] = ContextVar("inside a fragment", default=False)


def inside() -> bool:
    """Whether a fragment is being drawn."""
    return _INSIDE.get()


def fragment(draw: Callable[[], None], *, run_every: float | None = None) -> None:
    """Draw now, and again whenever a widget of it is used or `run_every` seconds have passed; inside a fragment just draw."""
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
