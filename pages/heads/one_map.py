"""One head's map under the mask, and why a pair that was clicked is visible or hidden."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.maps import attention_map_chart
from longattn_core.charts.pictures import MapPicture
from longattn_core.studies.heads.maps import HeadMap, pair_sentence
from pages.heads.chosen_head import chosen_head
from pages.heads.hero import MASKS, MaskRun
from pages.kit.components.attention_map import attention_map, view_of, window_for
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.text import _, escaped, prose

CELLS = 384


def one_map(page: Page, masked: MaskRun) -> None:
    """The chosen head's map under the mask, and the reason of the pair that was clicked."""
    st.caption(prose("heads", "map"))
    head, n, mask = chosen_head(page), masked.n, masked.study.mask
    window, _shape = window_for(view_of("map under a mask", full=(n, n)), full=(n, n), cells=CELLS)
    study = HeadMap(
        source=masked.study.source,
        mask=mask,
        padding=masked.study.padding,
        side=masked.study.side,
        head=head,
        queries=window.queries,
        keys=window.keys,
        cells=CELLS,
    )
    with st.spinner(_("Computing the map …")):
        result = run(study)
    tokens = [str(token) for token in result.arrays["tokens"]]
    title = _("Head {head}, mask: {mask}").format(head=head, mask=MASKS[mask])
    causal = mask in ("look_ahead", "both")
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
        query, key = pair
        sentence = pair_sentence(study, min(head, len(masked.result.arrays["heads"]) - 1), query, key)
        right.info(
            f"**{escaped(tokens[query])}** ({query}) → **{escaped(tokens[key])}** ({key})  \n{escaped(sentence)}",
            icon=":material/help:",
        )
    figure_menu(
        "one-map-under-a-mask",
        result,
        table=masked.result.tables["heads"],
        caption=prose("heads", "caption_mask", mask=MASKS[mask]),
        chart=lambda: attention_map_chart(picture, page.theme),
    )
