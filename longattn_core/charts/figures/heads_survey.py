"""Every head of a model as a cell: its name by colour and letter, or a measured number."""

from __future__ import annotations

import altair as alt
import pandas as pd

from longattn_core.charts.style.altair import layered, selecting
from longattn_core.charts.style.theme import SIZES, Theme

__all__ = ["LETTERS", "role_colours", "survey_chart"]

ROLE_HUES = {
    "induction": "favor",
    "same word": "routed",
    "previous token": "lsh",
    "local": "probsparse",
    "sinks": "",
    "diffuse": "window",
    "high rank": "low_rank",
}
"""The mechanism whose colour each role takes; sinks are grey, and heads without a role have the colour of "never"."""
LETTERS = {
    "induction": "I",
    "same word": "W",
    "previous token": "P",
    "local": "L",
    "sinks": "S",
    "diffuse": "D",
    "high rank": "R",
}
"""The letter of each role: colour alone never says it."""
_FACTS = (
    ("near", "within 8 tokens", ".0%"),
    ("previous", "token before", ".0%"),
    ("same word", "same word", ".0%"),
    ("induction", "what followed it", ".0%"),
    ("sinks", "sinks", ".0%"),
    ("effective", "effective tokens", ".3~g"),
    ("rank", "rank", "d"),
    ("rank without sinks", "rank without sinks", "d"),
)


def role_colours(theme: Theme) -> dict[str, str]:
    """The colour of each role."""
    inks = {role: theme.style(key).colour if key else theme.border for role, key in ROLE_HUES.items()}
    return {**inks, "mixed": theme.never}


def survey_chart(
    heads: pd.DataFrame,
    theme: Theme,
    *,
    chosen: str,
    value: str = "role",
    title: str = "",
    layers: int | None = None,
    height: int = 300,
) -> alt.LayerChart | alt.FacetChart:
    """Every head as a cell, layers across and heads down: coloured by its name, or by a measured column.

    `chosen` ("L17 H3") is framed. The selection "head" holds the cell that was clicked. `layers` keeps places for those that are
    not measured yet.
    """
    inks = role_colours(theme)
    table = heads.copy()
    table["shown"] = table[value] if value != "role" else 0.0
    size = SIZES["tick"] * theme.zoom
    count = max(layers or 0, int(table["layer"].max()) + 1)
    x = alt.X(
        "layer:O",
        title=title or "layer",
        scale=alt.Scale(domain=list(range(count)), paddingInner=0.08),
        axis=alt.Axis(labelAngle=0, labelOverlap=True),
    )
    y = alt.Y("head:O", title="head", scale=alt.Scale(paddingInner=0.08))
    if value == "role":
        colour = alt.Color("role:N", scale=alt.Scale(domain=list(inks), range=list(inks.values())), legend=None)
    else:
        ramp = [theme.background, theme.style("window").colour]
        colour = alt.Color("shown:Q", scale=alt.Scale(range=ramp, domainMin=0), legend=None)
    tooltip = [
        alt.Tooltip("name:N", title="head"),
        alt.Tooltip("role:N", title="what it does"),
        alt.Tooltip("traits:N", title="also"),
        *(alt.Tooltip(f"{column}:Q", title=title, format=form) for column, title, form in _FACTS),
    ]
    pick = alt.selection_point(name="head", fields=["layer", "head"], on="click", empty=False, toggle=False)
    base = alt.Chart(table)
    cells = (
        base.mark_rect(stroke=theme.border, strokeWidth=0.4)
        .encode(x=x, y=y, color=colour, tooltip=tooltip)
        .properties(name="cells")
    )
    frame = (
        base.transform_filter(alt.FieldEqualPredicate(field="name", equal=chosen))
        .mark_rect(filled=False, stroke=theme.mark, strokeWidth=3)
        .encode(x=x, y=y, tooltip=tooltip)
    )
    drawn: list[alt.Chart] = [cells, frame]
    if value == "role":
        marks = base.transform_filter("datum.role != 'mixed'").transform_calculate(letter=_letter())
        drawn.append(
            marks.mark_text(fontSize=size, color=theme.text, opacity=0.9).encode(
                x=x, y=y, text=alt.Text("letter:N"), color=alt.Color("ink:N", scale=None), tooltip=tooltip
            )
        )
        table["ink"] = [theme.ink_on(inks[role]) for role in table["role"]]
    # Two colour scales stand in one picture: the cells' own, and the letters', which are colours already.
    rows = int(table["head"].max()) + 1
    return layered(
        *drawn,
        height=min(height, 60 + 34 * rows),
        width="container",
        resolve={"scale": {"color": "independent"}},
        params=[selecting(pick, "cells")],
    )


def _letter() -> str:
    return "{" + ", ".join(f"'{role}': '{letter}'" for role, letter in LETTERS.items()) + "}[datum.role]"
