"""Figures as they stand on a page: the chart in its theme with words for those who cannot see it, and its ⋯ menu."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from longattn_core.charts.style.altair import plotly_template, specification, themed
from longattn_core.contracts.mechanism import Mechanism
from longattn_core.studies.base.study import Result
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.map_card import maps_card
from pages.kit.vega import vega

__all__ = ["exported", "figure", "legend", "maps_card"]

EXPORT_WIDTH = 640
"""Pixels across of an exported curve: a column of a paper at twice its size."""
_BARE = {"displayModeBar": False, "scrollZoom": False}


def legend(page: Page, entries: Sequence[tuple[str, str, str]], title: str = "") -> None:
    """What the colours of a picture are, in one line that wraps: colour, name, and a number or nothing; all escaped."""
    patch = (
        f"display:inline-block;width:12px;height:12px;border-radius:2px;border:1px solid {page.theme.border};"
        "margin-right:6px;vertical-align:-1px"
    )
    whole = "display:inline-block;margin-right:18px"
    spans = [
        f'<span style="{whole}"><i style="{patch};background:{colour}"></i>{escape(name)} <b>{escape(said)}</b></span>'
        for colour, name, said in entries
    ]
    line = f"font-size:{page.theme.size('label'):g}px;line-height:1.7;color:{page.theme.text}"
    st.html(f'<div style="{line}">{escape(title)} {"".join(spans)}</div>')


def figure(
    page: Page,
    name: str,
    result: Result,
    chart: Any,
    *,
    table: pd.DataFrame,
    caption: str,
    alt: str,
    title: str = "",
    shown: type[Mechanism] | None = None,
    height: int | None = None,
) -> None:
    """Draw an Altair chart or a Plotly figure, and the menu to take it home with data, study, code and caption.

    `name` is its file's name and must be the only one of its page. `alt` says in words what the chart shows. `caption`
    is what an author writes below the figure; `title` stands above it on the page.
    """
    with st.container(key=f"figure-{name}"):
        if title:
            st.markdown(f"**{title}**")
        if hasattr(chart, "to_plotly_json"):
            chart.update_layout(template=plotly_template(page.theme))
            st.plotly_chart(chart, key=f"plot {name}", theme=None, config=_BARE, alt=alt, height=height or "content")
        else:
            vega(specification(chart, page.theme), key=f"plot {name}", words=alt)
        figure_menu(name, result, chart=lambda: exported(page, chart), table=table, caption=caption, shown=shown)


def exported(page: Page, chart: Any) -> Any:
    """The chart as it goes into a file: with the theme inside, and a width of its own."""
    if hasattr(chart, "to_plotly_json"):
        return chart
    drawn = themed(chart, page.theme)
    if not isinstance(getattr(drawn, "width", None), int | float) and not hasattr(drawn, "spec"):
        drawn = drawn.properties(width=EXPORT_WIDTH)
    return drawn
