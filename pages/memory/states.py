"""The four running states on the page's sequence, of which two views show parts."""

from __future__ import annotations

from typing import Any

import streamlit as st

from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.base.study import Result
from longattn_core.studies.memory import StateLife
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.text import _


def state_dials(mechanism: Memory) -> dict[str, Any]:
    """The dials that only running states have, as the studies of states take them."""
    return mechanism.model_dump(include={"half_life", "beta", "decays", "seed"})


def state_life(page: Page, mechanism: Memory) -> Result | None:
    """How long the four states keep what was written; where there is no mask, the refusal is shown and None returned."""
    with st.spinner(_("Four running states read the text …")):
        result = run(StateLife(source=page.source, **state_dials(mechanism)))
    if "refusal" in result.words:
        st.info(result.words["refusal"], icon=":material/block:")
        return None
    return result
