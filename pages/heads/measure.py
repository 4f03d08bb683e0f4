"""Heads and masks below the fold: the masks one by one, what every head does, and one map with its reasons."""

from __future__ import annotations

from typing import Any

import streamlit as st

from longattn_core.charts.figures.heads import LETTERS, survey_chart
from longattn_core.charts.maps import attention_map_chart
from longattn_core.charts.pictures import MapPicture
from longattn_core.charts.style.altair import specification, themed
from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.study import Result
from longattn_core.studies.heads.maps import HeadMap, pair_said
from longattn_core.studies.heads.masks import Masked
from longattn_core.studies.heads.roles import RULES, counted
from pages.heads.hero import MASKS, choose_head, chosen_head, survey
from pages.heads.theory import likeness_view
from pages.kit import state
from pages.kit.components.attention_map import attention_map, view_of, window_for
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, escaped, prose
from pages.kit.vega import vega

PICTURES = {"survey": _("What each head does"), "map": _("One map"), "likeness": _("Heads that share keys")}
CELLS = 384
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


def measure(page: Page, settings: dict[str, Any]) -> None:
    """One of three pictures."""
    picture = state.choose(
        "heads.picture", _("Picture"), list(PICTURES), default="survey", labels=PICTURES.__getitem__, style="segments", view=True
    )
    if picture == "survey":
        _survey(page)
    elif picture == "map":
        _map(page, settings)
    else:
        likeness_view(page)


def _survey(page: Page) -> None:
    source = page.source
    text = isinstance(source, TextSource)
    st.caption(prose("heads", "survey"))
    column = state.choose("heads.column", _("Coloured by"), list(COLUMNS), default="role", labels=COLUMNS.__getitem__, view=True)
    chosen = f"L{source.layer if isinstance(source, TextSource) else 0} H{chosen_head(page)}"

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
        counts = ", ".join(f"{role} {count}" for role, count in counted(heads).items())
        event = vega(
            specification(chart, page.theme),
            key="survey",
            on_select="rerun",
            selection_mode="head",
            words=_("{heads} heads: {counts}.").format(heads=len(heads), counts=counts),
        )
        _picked(page, event)
        letters = " · ".join(f"**{LETTERS.get(role, '–')}** {role} ({count})" for role, count in counted(heads).items())
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
    """A cell that was clicked becomes the head of every page, once: the selection stays in the chart."""
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


def _table(heads: Any, chosen: str) -> None:
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


def _map(page: Page, settings: dict[str, Any]) -> None:
    st.caption(prose("heads", "map"))
    place = chosen_head(page)
    first = run(Masked(**settings))
    n = int(first.arrays["n"])
    window, _shape = window_for(view_of("map under a mask", full=(n, n)), full=(n, n), cells=CELLS)
    study = HeadMap(**settings, head=place, queries=window.queries, keys=window.keys, cells=CELLS)
    with st.spinner(_("Computing the map …")):
        result = run(study)
    tokens = [str(token) for token in result.arrays["tokens"]]
    title = _("Head {head}, mask: {mask}").format(head=place, mask=MASKS[settings["mask"]])
    causal = settings["mask"] in ("look_ahead", "both")
    picture = MapPicture(values=result.arrays["map"], title=title, full=(n, n), window=window, causal=causal, tokens_rows=tokens)
    left, right = st.columns([1.5, 1], gap="large")
    with left:
        drawn = attention_map(
            picture, key="map under a mask", theme=page.theme, content=study.model_dump_json(exclude={"queries", "keys"})
        )
    if drawn.clicked is not None:
        st.session_state["_heads_pair"] = (drawn.clicked.row, drawn.clicked.col)
    pair = st.session_state.get("_heads_pair")
    if pair is None or max(pair) >= n:
        right.caption(prose("heads", "map_hint"))
    else:
        said = pair_said(study, min(place, len(first.arrays["heads"]) - 1), pair[0], pair[1])
        right.info(
            f"**{escaped(tokens[pair[0]])}** ({pair[0]}) → **{escaped(tokens[pair[1]])}** ({pair[1]})  \n{escaped(said)}",
            icon=":material/help:",
        )
    figure_menu(
        "one-map-under-a-mask",
        result,
        table=first.tables["heads"],
        caption=prose("heads", "caption_mask", mask=MASKS[settings["mask"]]),
        chart=lambda: attention_map_chart(picture, page.theme),
    )
