"""The stepper: frame by frame with previous and next, a scrubber with labelled stops, and arrow keys; never by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from longattn_core.charts.style.theme import Theme
from pages.kit import state
from pages.kit.components.messages import component_source, pack
from pages.kit.text import _

_HTML = """
<div class="la sp" role="group">
  <div class="sp-row"><button type="button" class="sp-go sp-back"></button>
    <div class="sp-track"><input type="range" class="sp-range" min="0" step="1"><div class="sp-stops"></div></div>
    <button type="button" class="sp-go sp-forth"></button></div>
  <p class="sp-now" role="status" aria-live="polite"></p>
</div>
"""

_style, _script = component_source("stepper")
_mount = st.components.v2.component("longattn_stepper", html=_HTML, css=_style, js=_script)


def stepper(name: str, stops: Sequence[str], *, theme: Theme, start: int = 0, label: str = "") -> int:
    """Which of the labelled stops is shown, counted from 0; kept in the state, and so in the link, as `name`.

    `name` begins with the page's, `lsh.step`. A stop that the link names and this run has not is the last one.

    Raises: ValueError without any stop.
    """
    if not stops:
        raise ValueError("a stepper needs at least one stop")
    last = len(stops) - 1
    key = f"stepper {name}"
    kept = state.recall(name, None, int)
    at = min(max(start if kept is None else kept, 0), last)

    def moved() -> None:
        wanted = _sent(st.session_state.get(key))
        if wanted is not None:
            state.remember(name, min(wanted, last), start, view=True)

    head = {
        "stops": list(stops),
        "at": at,
        "theme": theme.variables(),
        "words": {"label": label or _("Steps"), "back": _("Back"), "forth": _("Next"), "now": _("Step {at} of {of}:")},
    }
    _mount(key=key, data=pack(head, {}), on_at_change=moved)
    return at


def _sent(value: Any) -> int | None:
    """The stop as the browser sent it, or None where it is forged."""
    at = value.get("at") if isinstance(value, Mapping) else None
    return at if isinstance(at, int) and not isinstance(at, bool) and at >= 0 else None
