"""The home page below the fold: the maps of one mechanism, fidelity against cost, and the numbers behind the ribbons."""

from __future__ import annotations

import streamlit as st

from longattn_core.studies.base.run import SAMPLE
from longattn_core.studies.base.study import Result
from pages.kit.context import Page
from pages.kit.text import _, prose
from pages.side_by_side.frontier import frontier
from pages.side_by_side.maps import maps


def measure(page: Page, comparison: Result) -> None:
    """All three, one below the other."""
    st.subheader(_("Every query at once"), anchor="maps")
    st.caption(prose("side_by_side", "maps"))
    maps(page)
    st.subheader(_("Fidelity against cost"), anchor="cost")
    frontier(page)
    _table(page, comparison)
    st.caption(prose("side_by_side", "said"))


def _table(page: Page, comparison: Result) -> None:
    """The numbers behind the ribbons, in a fold."""
    table = comparison.tables["mechanisms"]
    with st.expander(_("The numbers behind the ribbons")):
        st.caption(prose("side_by_side", "table", sample=min(SAMPLE, page.tokens)))
        names = {
            "label": _("mechanism"),
            "looked": _("looked at"),
            "unit": _("what"),
            "weight": _("weight on the marked key"),
            "overlap": _("overlap"),
            "error": _("error"),
            "control": _("mean of visible values"),
            "parameters": _("parameters"),
        }
        st.dataframe(
            table[list(names)].rename(columns=names),
            hide_index=True,
            column_config={
                names[c]: st.column_config.NumberColumn(format="%.3f") for c in ("weight", "overlap", "error", "control")
            },
        )
