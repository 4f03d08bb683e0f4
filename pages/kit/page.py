"""What every page begins and ends with: the guard, the theme, the style sheet, the state mirrored into the URL."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from altair.utils import schemapi

from longattn_core.charts.theme import Theme
from longattn_core.language_model.weights import WeightsMissing
from longattn_core.registry import mechanisms
from longattn_core.studies.study import sequence_of
from pages.kit import state
from pages.kit.fragments import fragment, inside
from pages.kit.inputs import Inputs, Source, bar_state, input_bar
from pages.kit.menu import guard
from pages.kit.words import ASSETS

# Altair would check each part of a chart against its schema while it is made; the tests and the files that are written have
# those checks, and a page that answers a dial has no time for them.
schemapi.disable_debug_mode()

_BEATING = "_beating"
"""In the session: the views in which a sweep was met that ran."""


def page(name: str, body: Callable[[Page], None], given: Inputs | None = None, *, beats: bool = False) -> None:
    """Show a page: `page("lsh", body, Inputs(head="14.3"))`.

    `name` is the file's, and that of its prose, lessons and state; `body` draws everything beside the input bar. It is a
    fragment: a dial of its own runs it alone, and menu and input bar stand still. Only where a sweep runs (`Page.beats`; said
    beforehand by `beats`) the sweep is the fragment, and a dial runs the whole page. A sentence that the core raises is
    shown in the place of what could not be drawn.
    """
    guard()
    state.enter(name)
    presenting = _presenting()
    st.html(ASSETS / "css" / ("present.css" if presenting else "page.css"))
    source = input_bar(given or Inputs())
    around = presenting, bar_state()

    def drawn() -> None:
        if (_presenting(), bar_state()) != around:
            # A button of the body has chosen another sequence: the bar is drawn anew.
            st.rerun()
        here = Page(name, source, presenting)
        try:
            body(here)
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


def _view(name: str) -> tuple[str, str]:
    """A page and what is looked at on it."""
    return name, state.recall(f"{name}.view", "", str)


class Page:
    """The page's name, the sequence's source, the look of this run, and the places above the picture.

    `top` holds question and answer, `dials` the row of dials: both stand above the picture, although what stands in
    the answer is known only behind the dials. On a phone the dials come below the picture.
    """

    def __init__(self, name: str, source: Source, presenting: bool) -> None:
        self.name = name
        self.source = source
        self.presenting = presenting
        self.top = st.container(key="page-top")
        self.dials = st.container(key="page-dials")
        guests = tuple((kind.key, kind.family) for kind in mechanisms().values())
        self.theme = Theme(mode="dark" if st.context.theme.type == "dark" else "light", presenting=presenting, guests=guests)

    def beats(self) -> None:
        """Say that a part of the body draws itself every second: the body is no fragment then, since none stands in another."""
        if inside():
            st.session_state[_BEATING] = {*st.session_state.get(_BEATING, ()), _view(self.name)}
            st.rerun()

    @property
    def tokens(self) -> int:
        """How many tokens the sequence has. Raises: ValueError, one sentence, when the source gives none."""
        return sequence_of(self.source).n

    @property
    def causal(self) -> bool:
        """Whether the source is read under a causal mask."""
        settings = self.source.settings if self.source.kind == "synthetic" else self.source
        return bool(settings.causal)


def compare_unmasked() -> None:
    """Take the mask off for all mechanisms: the callback of the button beside a refusal."""
    state.forget("mask")
    state.remember("mask", "none", "causal")


def decimal(value: float) -> str:
    """A share as the charts print it: .957, 1.00, .000."""
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else text.replace("-0.", "−.").replace("-", "−")
