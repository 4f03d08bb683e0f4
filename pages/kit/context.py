"""What a page is given: its name, the source of its sequence, its theme, and the places above the picture."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.style.theme import Theme
from longattn_core.registry import mechanisms
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.study import sequence_of
from pages.kit import state
from pages.kit.fragments import inside

_BEATING = "_beating"
"""In the session: the views in which a sweep was met that ran."""


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
