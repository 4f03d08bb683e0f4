"""What every page begins and ends with: the theme, the style sheet, the state mirrored into the URL."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from altair.utils import schemapi

from longattn_core.language_model.weights import WeightsMissing
from pages.kit import state
from pages.kit.context import _BEATING, Page, _view
from pages.kit.fragments import fragment
from pages.kit.input_bar import Inputs, bar_state, input_bar
from pages.kit.text import ASSETS

# Altair would check each part of a chart against its schema while it is made; the tests and the files that are written have
# those checks, and a page that answers a dial has no time for them.
schemapi.disable_debug_mode()


def show_page(name: str, body: Callable[[Page], None], given: Inputs | None = None, *, beats: bool = False) -> None:
    """Show a page: `show_page("lsh", body, Inputs(head="14.3"))`.

    `name` is the file's, and that of its prose, examples and state; `body` draws everything beside the input bar. It is a
    fragment: a dial of its own runs it alone, and menu and input bar stand still. Only where a sweep runs (`Page.beats`; said
    beforehand by `beats`) the sweep is the fragment, and a dial runs the whole page. A sentence that the core raises is
    shown in the place of what could not be drawn.
    """
    state.enter(name)
    presenting = _presenting()
    st.html(ASSETS / "css" / ("present.css" if presenting else "page.css"))
    source = input_bar(given or Inputs())
    around = presenting, bar_state()

    def drawn() -> None:
        if (_presenting(), bar_state()) != around:
            # A button of the body has chosen another sequence: the bar is drawn anew.
            st.rerun()
        page = Page(name, source, presenting)
        try:
            body(page)
        except (ValueError, WeightsMissing) as error:
            st.error(str(error), icon=":material/error:")
        finally:
            state.mirror()

    if beats or _view(name) in st.session_state.get(_BEATING, ()):
        drawn()
    else:
        fragment(drawn)


def _presenting() -> bool:
    return state.recall("present", False, lambda text: {"1": True}[text])


def compare_unmasked() -> None:
    """Take the mask off for all mechanisms: the callback of the button beside a refusal."""
    state.forget("mask")
    state.remember("mask", "none", "causal")


def decimal(value: float) -> str:
    """A share as the charts print it: .957, 1.00, .000."""
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else text.replace("-0.", "−.").replace("-", "−")
