"""What every page begins and ends with: the style sheet, the input bar, the theme, and the state copied into the URL."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from altair.utils import schemapi

from longattn_core.language_model.weights import WeightsMissing
from pages.kit import state
from pages.kit.context import Page, polls
from pages.kit.fragments import fragment
from pages.kit.input_bar import Inputs, bar_state, input_bar
from pages.kit.text import ASSETS

# Altair checks each part of a chart against its schema while the chart is made. The tests and the exported files keep these
# checks; a page that answers a dial has no time for them.
schemapi.disable_debug_mode()


def show_page(name: str, body: Callable[[Page], None], given: Inputs | None = None, *, polling: bool = False) -> None:
    """Show a page: `show_page("lsh", body, Inputs(head="14.3"))`.

    `name` is the name of the page's folder, and of its prose, examples and state; `body` draws everything beside the input bar.
    The body is a fragment: its dials run it alone, and menu and input bar stay as they are. Only where a sweep runs
    (`Page.polls`, or `polling` where this is known beforehand) the sweep is the fragment, and a dial runs the whole page. A
    sentence that the core raises is shown in place of what could not be drawn.
    """
    state.enter(name)
    presenting = _presenting()
    st.html(ASSETS / "css" / ("present.css" if presenting else "page.css"))
    source = input_bar(given or Inputs())
    around = presenting, bar_state()

    def drawn() -> None:
        if (_presenting(), bar_state()) != around:
            # A button of the body has chosen another sequence: the input bar must be drawn anew.
            st.rerun()
        page = Page(name, source, presenting)
        try:
            body(page)
        except (ValueError, WeightsMissing) as error:
            st.error(str(error), icon=":material/error:")
        finally:
            state.mirror()

    if polling or polls(name):
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
