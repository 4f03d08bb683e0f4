"""What one query reads near fine, far coarse, block by block."""

from __future__ import annotations

import numpy as np
import streamlit as st

from longattn_core.charts.figures.hierarchical_measures import blocks_chart
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.studies.base.study import Setting
from longattn_core.studies.hierarchical import Descent
from pages.hierarchical.descent import DescentRun
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.query_run import QueryRun
from pages.kit.text import _, prose


def near_far(page: Page, descent: DescentRun) -> None:
    """What the query would read near fine, far coarse, whatever the setting."""
    mechanism = descent.mechanism
    blocks = mechanism if mechanism.variant == "near_far" else mechanism.with_dials(variant="near_far")
    result = run(Descent(source=page.source, setting=Setting.of(blocks), query=descent.query))
    read_blocks(page, QueryRun(mechanism=blocks, result=result))


def read_blocks(page: Page, descent: QueryRun) -> None:
    """The blocks that the query of a `Descent` reads."""
    result, query = descent.result, descent.query
    items = result.tables["items"]
    visible = int((~np.isnan(result.arrays["exact"])).sum())
    st.caption(prose(page.name, "blocks", query=descent.name(query), items=len(items), visible=visible))
    figure(
        page,
        "hierarchical-blocks",
        result,
        blocks_chart(items, page.theme, query=query, n=query + 1 if page.causal else page.tokens),
        table=items,
        shown=Hierarchical,
        caption=f"What one query reads, near blocks token by token, far ones by their means ({descent.mechanism.label}).",
        alt=_("Blocks that one query reads: single tokens near it, longer and longer blocks further away."),
    )
