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
from pages.kit.inputs import Inputs, Source, input_bar
from pages.kit.menu import guard
from pages.kit.words import ASSETS

# Altair would check each part of a chart against its schema while it is made; the tests and the files that are written have
# those checks, and a page that answers a dial has no time for them.
schemapi.disable_debug_mode()


def page(name: str, body: Callable[[Page], None], given: Inputs | None = None) -> None:
    """Show a page: `page("lsh", body, Inputs(head="14.3"))`.

    `name` is the file's, and that of its prose, lessons and state; `body` draws everything beside the input bar. A sentence
    that the core raises is shown in the place of what could not be drawn.
    """
    guard()
    state.enter(name)
    presenting = state.recall("present", False, lambda text: {"1": True}[text])
    st.html(ASSETS / "css" / ("present.css" if presenting else "page.css"))
    here = Page(name, input_bar(given or Inputs()), presenting)
    try:
        body(here)
    except (ValueError, WeightsMissing) as error:
        st.error(str(error), icon=":material/error:")
    finally:
        state.mirror()


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
        self.theme = Theme(
            mode="dark" if st.context.theme.type == "dark" else "light", presenting=presenting, guests=guests
        )

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
