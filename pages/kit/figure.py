"""The figure card: every figure can be taken home as picture, data, study and code."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pandas as pd
import streamlit as st

from longattn_core.contracts import Mechanism
from longattn_core.export.images import chart_to_png, chart_to_svg
from longattn_core.studies.study import Result
from pages.kit.words import _


def figure_menu(
    name: str, result: Result, *, chart: Callable[[], object], table: Callable[[], pd.DataFrame],
    caption: str, shown: type[Mechanism] | None = None,
) -> None:  # fmt: skip
    """The ⋯ menu of a figure: SVG, PNG, CSV (units in the headings), the study as JSON, three lines of Python, a
    caption, and, where one mechanism is shown, its paper and the code that ran.

    `chart` and `table` are called only when a file is asked for.
    """
    with st.popover("⋯", help=_("Take this figure home: picture, data, study, code"), key=f"menu of {name}"):
        row = st.container(horizontal=True)
        with row:
            _download("SVG", name, "svg", "image/svg+xml", lambda: chart_to_svg(chart()))
            _download("PNG", name, "png", "image/png", lambda: chart_to_png(chart()))
            _download("CSV", name, "csv", "text/csv", lambda: csv_with_units(table()))
            _download(_("Study"), name, "json", "application/json", result.study.to_json)
        st.caption(_("The same figure's numbers, in three lines of Python"))
        st.code(result.study.to_python(), language="python", wrap_lines=True)
        st.caption(_("Caption"))
        st.code(f"{caption} LongAttn Lab, {_versions(result)}.", language=None, wrap_lines=True)
        if shown is not None:
            st.caption(f"{_('Source')}: {shown.paper}")
            with st.expander(_("The code that ran")):
                st.code(inspect.getsource(inspect.getmodule(shown) or shown), language="python")


def csv_with_units(table: pd.DataFrame) -> str:
    """A table as CSV, each column's unit in its heading: `overlap [share]`."""
    units = table.attrs.get("units", {})
    return table.rename(columns={c: f"{c} [{units[c]}]" for c in table.columns if c in units}).to_csv(index=False)


def _download(label: str, name: str, ending: str, mime: str, make: Callable[[], str | bytes]) -> None:
    def content() -> bytes:
        made = make()
        return made.encode() if isinstance(made, str) else made

    st.download_button(
        label, content, file_name=f"{name}.{ending}", mime=mime, key=f"{name}.{ending}", on_click="ignore"
    )


def _versions(result: Result) -> str:
    made = result.provenance
    return f"torch {made.versions['torch']}, {made.machine}"
