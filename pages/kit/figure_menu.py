"""The figure card: every figure can be taken home as picture, data, study and code."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pandas as pd
import streamlit as st

from longattn_core.contracts.mechanism import Mechanism
from longattn_core.export.images import image, plotly_images
from longattn_core.studies.base.study import Result
from pages.kit.fragments import fragment
from pages.kit.text import _


def figure_menu(
    name: str,
    result: Result,
    *,
    chart: Callable[[], object],
    table: pd.DataFrame | Callable[[], pd.DataFrame],
    caption: str,
    shown: type[Mechanism] | None = None,
) -> None:
    """The ⋯ menu of a figure: SVG, PNG, CSV (units in the headings), the study as JSON, three lines of Python, a
    caption, and, where one mechanism is shown, its paper and the code that ran.

    The menu is filled only when it is opened: then `chart` is called. A `table` at hand is written at once; one that must
    be made first is made when its file is asked for.
    """

    def draw() -> None:
        menu = st.popover(
            "⋯", help=_("Take this figure home: picture, data, study, code"), key=f"menu of {name}", on_change="rerun"
        )
        if menu.open:
            with menu:
                _filled(name, result, chart, table, caption, shown)

    fragment(draw)


def _filled(
    name: str,
    result: Result,
    chart: Callable[[], object],
    table: pd.DataFrame | Callable[[], pd.DataFrame],
    caption: str,
    shown: type[Mechanism] | None,
) -> None:
    row = st.container(horizontal=True)
    with row:
        _pictures(name, chart)
        # What is written at once keeps its link while a sweep draws the figure anew; what is made when it is asked
        # for gets a new link with every drawing, and a press on the old one comes to nothing.
        written = (lambda: csv_with_units(table())) if callable(table) else csv_with_units(table)
        _download("CSV", name, "csv", "text/csv", written)
        _download(_("Study"), name, "json", "application/json", result.study.to_json())
    st.caption(_("The same figure's numbers, in three lines of Python"))
    st.code(result.study.to_python(), language="python", wrap_lines=True)
    st.caption(_("Caption"))
    st.code(f"{caption} LongAttn Lab, {_versions(result)}.", language=None, wrap_lines=True)
    if shown is not None:
        st.caption(f"{_('Source')}: {shown.paper}")
        with st.expander(_("The code that ran")):
            st.code(inspect.getsource(inspect.getmodule(shown) or shown), language="python")


def _pictures(name: str, chart: Callable[[], object]) -> None:
    """SVG and PNG; a Plotly figure, whose pictures need a browser on the server, goes out as a page of its own too."""
    drawn = chart()
    if hasattr(drawn, "to_plotly_json") and hasattr(drawn, "to_html"):
        _download("HTML", name, "html", "text/html", lambda: drawn.to_html(include_plotlyjs=True))
        if not plotly_images():
            return
    _download("SVG", name, "svg", "image/svg+xml", lambda: image(drawn, "svg"))
    _download("PNG", name, "png", "image/png", lambda: image(drawn, "png"))


def csv_with_units(table: pd.DataFrame) -> str:
    """A table as CSV, each column's unit in its heading: `overlap [share]`."""
    units = table.attrs.get("units", {})
    return table.rename(columns={c: f"{c} [{units[c]}]" for c in table.columns if c in units}).to_csv(index=False)


def _download(label: str, name: str, ending: str, mime: str, content: str | Callable[[], str | bytes]) -> None:
    st.download_button(label, content, file_name=f"{name}.{ending}", mime=mime, key=f"{name}.{ending}", on_click="ignore")


def _versions(result: Result) -> str:
    made = result.provenance
    return f"torch {made.versions['torch']}, {made.machine}"
