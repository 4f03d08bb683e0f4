"""A Vega-Lite chart on a page, with a description for screen readers that does not make the browser rebuild the chart."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from pages.kit.text import _


def vega(drawn: Mapping[str, Any], *, key: str, words: str, **options: Any) -> Any:
    """Draw a chart's specification; `words` say to a screen reader what it shows. Returns what Streamlit returns.

    Streamlit puts its own `alt` into the specification. Words with numbers of the run would change the specification whenever a
    dial moves, and the browser compiles and builds a chart anew whose specification changes: three to five times as long as
    taking over new data. So the chart has one constant sentence, and the words come before it.
    """
    st.html(f'<p class="for-the-ear">{escape(words)}</p>')
    tables = {name: _as_arrow(table) for name, table in drawn.get("datasets", {}).items()}
    return st.vega_lite_chart(
        {**drawn, "datasets": tables},
        key=key,
        theme=None,
        alt=_("A chart; the sentence before it says what it shows."),
        **options,
    )


def _as_arrow(table: Any) -> Any:
    """A table in the format that Streamlit sends, without its row numbers.

    In Streamlit's own conversion pyarrow starts a pool of threads for each table, which takes three times as long.
    """
    # Imported with the first chart, so that a server starts sooner.
    import pyarrow as pa

    if not isinstance(table, pd.DataFrame):
        return table
    try:
        return pa.Table.from_pandas(table, nthreads=1, preserve_index=False)
    except (pa.ArrowException, OverflowError):
        # Streamlit can convert columns that mix types.
        return table
