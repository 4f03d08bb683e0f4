"""Axes that several topics' charts share."""

from __future__ import annotations

import altair as alt


def token_axis(field: str, n: int, title: str = "token") -> alt.X:
    """The horizontal axis of a chart that lies under the whole text: positions 0 … n of tokens, without a grid."""
    return alt.X(
        f"{field}:Q", title=title, scale=alt.Scale(domain=[0, n], nice=False), axis=alt.Axis(format="d", tickCount=8, grid=False)
    )
