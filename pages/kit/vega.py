"""A Vega-Lite chart on a page, with words for those who cannot see it that do not build it anew."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from pages.kit.text import _


def vega(drawn: Mapping[str, Any], *, key: str, words: str, **options: Any) -> Any:
    """Draw a chart's specification; `words` say what it shows, to a screen reader only. Returns what Streamlit returns.

    Streamlit's own `alt` becomes a part of the specification. Words with the run's numbers would change it at every move
    of a dial, and a chart whose specification changes is compiled and built anew: three to five times as long as the
    new data alone. So the chart carries one sentence for good, and the words stand before it.
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
    """A table as Streamlit sends it, without its row numbers.

    Left to Streamlit, pyarrow starts a pool of threads for each table, which takes three times as long as turning it.
    """
    # With the first chart, not with this file.
    import pyarrow as pa

    if not isinstance(table, pd.DataFrame):
        return table
    try:
        return pa.Table.from_pandas(table, nthreads=1, preserve_index=False)
    except (pa.ArrowException, OverflowError):
        # Columns of several types are Streamlit's to mend.
        return table
