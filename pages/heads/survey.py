"""What each head of the model does: the survey of all heads as a picture, with the names and their rules."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from longattn_core.charts.figures.heads_survey import LETTERS, survey_chart
from longattn_core.charts.style.altair import specification, themed
from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.study import Result
from longattn_core.studies.heads.roles import RULES, role_counts
from longattn_core.studies.heads.survey import HeadSurvey
from pages.heads.chosen_head import choose_head, chosen_head, chosen_layer
from pages.kit import state
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose
from pages.kit.vega import vega

COLUMNS = {
    "role": _("its name"),
    "near": _("weight within 8 tokens"),
    "previous": _("weight on the token before"),
    "same word": _("weight on the same word"),
    "induction": _("weight on what followed the same word"),
    "sinks": _("weight on sinks"),
    "effective": _("effective tokens"),
    "effective without sinks": _("effective tokens without sinks"),
    "rank without sinks": _("rank without sinks"),
}


def survey(page: Page) -> HeadSurvey:
    """The survey of all heads on the source's text, whatever its head."""
    return HeadSurvey(source=page.source)


def known_roles(page: Page) -> dict[int, str]:
    """What the heads of this layer are called, as far as they have been measured."""
    known = survey(page).known()
    if known is None:
        return {}
    table = known.tables["heads"]
    own = table[table["layer"] == chosen_layer(page)]
    return {int(head): str(role) for head, role in zip(own["head"], own["role"], strict=True)}


def survey_picture(page: Page) -> None:
    """Every head as a cell, coloured by its name or by a measured number; a click makes it the head of every page."""
    text = isinstance(page.source, TextSource)
    st.caption(prose("heads", "survey"))
    column = state.choose("heads.column", _("Coloured by"), list(COLUMNS), default="role", labels=COLUMNS.__getitem__, view=True)
    chosen = f"L{chosen_layer(page)} H{chosen_head(page)}"

    def draw(result: Result) -> None:
        heads = result.tables["heads"]
        chart = survey_chart(
            heads,
            page.theme,
            chosen=chosen,
            value=column,
            layers=30 if text else 1,
            title=_("layer") if text else _("one layer: the heads of this sequence"),
        )
        counts = role_counts(heads)
        event = vega(
            specification(chart, page.theme),
            key="survey",
            on_select="rerun",
            selection_mode="head",
            words=_("{heads} heads: {counts}.").format(
                heads=len(heads), counts=", ".join(f"{role} {count}" for role, count in counts.items())
            ),
        )
        _picked(page, event)
        letters = " · ".join(f"**{LETTERS.get(role, '–')}** {role} ({count})" for role, count in counts.items())
        st.markdown(letters)
        with st.container(horizontal=True):
            figure_menu(
                "what-heads-do",
                result,
                chart=lambda: themed(chart, page.theme).properties(width=900),
                table=heads,
                caption=prose("heads", "caption_survey"),
            )
        _table(heads, chosen)

    sweep_card(page, survey(page), draw)


def _picked(page: Page, event: Any) -> None:
    """Make the head of a clicked cell the head of every page. Once a click: the chart reports its selection at every run."""
    points = (getattr(event, "selection", None) or {}).get("head") or []
    if not points or not isinstance(points, list):
        return
    try:
        layer, head = int(points[0]["layer"]), int(points[0]["head"])
    except (KeyError, TypeError, ValueError):
        return
    if st.session_state.get("_survey_picked") == (layer, head) or not (0 <= layer < 30 and 0 <= head < 64):
        return
    st.session_state["_survey_picked"] = (layer, head)
    if not isinstance(page.source, TextSource) or head < 9:
        choose_head(page, head, layer)
        st.rerun()


def _table(heads: pd.DataFrame, chosen: str) -> None:
    """The chosen head's name with its rule, and in a fold all heads' numbers and the rules."""
    shown = {
        "name": _("head"),
        "role": _("name"),
        "traits": _("also"),
        "near": _("within 8"),
        "previous": _("token before"),
        "same word": _("same word"),
        "induction": _("what followed"),
        "sinks": _("sinks"),
        "sink count": _("number of sinks"),
        "effective": _("effective tokens"),
        "effective without sinks": _("without sinks"),
        "rank": _("rank"),
        "rank without sinks": _("rank without sinks"),
    }
    own = heads[heads["name"] == chosen]
    if not own.empty:
        row = own.iloc[0]
        also = f" ({row['traits']})" if row["traits"] else ""
        st.markdown(
            _("**{name}** is called *{role}*{also}: {rule}.").format(
                name=chosen, role=row["role"], also=also, rule=RULES[row["role"]]
            )
        )
    with st.expander(_("All numbers, and the rules of the names")):
        st.dataframe(
            heads[list(shown)].rename(columns=shown),
            hide_index=True,
            column_config={
                shown[name]: st.column_config.NumberColumn(format="%.2f")
                for name in ("near", "previous", "same word", "induction", "sinks", "effective", "effective without sinks")
            },
        )
        st.markdown("\n".join(f"- *{role}*: {rule}" for role, rule in RULES.items()))
