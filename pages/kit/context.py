"""What a page's body is given: the page's name, the source of its sequence, its theme, and the places above the picture."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.style.theme import Theme
from longattn_core.registry import mechanisms
from longattn_core.sequences.sources import Source
from longattn_core.studies.base.study import sequence_of
from pages.kit import state
from pages.kit.fragments import inside

_POLLING = "_polling"
"""Name in the session: the pages, each with its open view, on which a running sweep was found."""


def _open_view(name: str) -> tuple[str, str]:
    return name, state.recall(f"{name}.view", "", str)


def polls(name: str) -> bool:
    """Whether a part of this page's open view is known to draw itself at intervals (`Page.polls`)."""
    return _open_view(name) in st.session_state.get(_POLLING, ())


class Page:
    """The page's name, the sequence's source, the theme of this run, and the places above the picture.

    `top` holds question and answer, `dials` the row of dials. Both are reserved above the picture before the answer is known,
    because the answer depends on the dials. On a phone the dials come below the picture.
    """

    def __init__(self, name: str, source: Source, presenting: bool) -> None:
        self.name = name
        self.source = source
        self.presenting = presenting
        self.top = st.container(key="page-top")
        self.dials = st.container(key="page-dials")
        guests = tuple((kind.key, kind.family) for kind in mechanisms().values())
        self.theme = Theme(mode="dark" if st.context.theme.type == "dark" else "light", presenting=presenting, guests=guests)

    def polls(self) -> None:
        """Declare that a part of the body is a fragment that draws itself at intervals.

        The body is no fragment then, because no fragment stands in another. Where it is one, the run begins anew without.
        """
        if inside():
            st.session_state[_POLLING] = {*st.session_state.get(_POLLING, ()), _open_view(self.name)}
            st.rerun()

    @property
    def tokens(self) -> int:
        """The number of tokens of the sequence. Raises: ValueError, one sentence, when the source gives no sequence."""
        return sequence_of(self.source).n

    @property
    def causal(self) -> bool:
        """Whether the source is read under a causal mask."""
        settings = self.source.settings if self.source.kind == "synthetic" else self.source
        return bool(settings.causal)
