"""Three maps under one cross-hair: exact, one mechanism, and the signed difference; click a pair to ask why."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.cells import Window
from longattn_core.charts.maps import attention_map_chart
from longattn_core.charts.pictures import MapPicture
from longattn_core.charts.style.scales import Kind
from longattn_core.contracts.mechanism import Mechanism, Reduce
from longattn_core.studies.base.maps import Maps
from longattn_core.studies.base.run import why
from longattn_core.studies.base.study import Result, Setting
from pages.kit import state
from pages.kit.components.attention_map import attention_map, view_of, window_for
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.text import _, escaped

CELLS = 512
QUICK = 4096
"""Tokens up to which the maps are there before a bar of progress could be read."""


def maps_card(page: Page, mechanism: Mechanism) -> None:
    """Exact attention, the mechanism, and the signed difference under one cross-hair; a click asks why.

    The choice of scale and of what a cell shows stands above the maps and is kept for all pages.
    """
    row = st.columns(2, vertical_alignment="bottom")
    with row[0]:
        scale = state.choose(
            "scale",
            _("Colour scale"),
            ["log", "linear"],
            default="log",
            style="segments",
            labels={"log": _("logarithmic"), "linear": _("linear")}.__getitem__,
            view=True,
        )
    with row[1]:
        reduce = state.choose(
            "reduce",
            _("A cell shows"),
            ["max", "mean"],
            default="max",
            style="segments",
            labels={"max": _("the largest"), "mean": _("the mean")}.__getitem__,
            help=_("Where one cell of the picture stands for several pairs: their largest weight, or their mean."),
            view=True,
        )
    n = page.tokens
    view = view_of("map of exact", full=(n, n))
    window, _shape = window_for(view, full=(n, n), cells=CELLS)
    study = Maps(
        source=page.source, setting=Setting.of(mechanism), queries=window.queries, keys=window.keys, cells=CELLS, reduce=reduce
    )
    place = st.empty()

    def show(share: float, words: str) -> None:
        place.progress(min(share, 1.0), text=_("Computing the maps: {part} …").format(part=_(words)))

    with st.spinner(_("Computing the maps …")):
        result = run(study, show if n > QUICK else None)
    place.empty()
    if refusal := result.words.get("mechanism refusal"):
        st.info(refusal, icon=":material/block:")
        return
    _draw(page, result, mechanism, n, window, cast("Kind", scale), cast("Reduce", reduce))


def _draw(page: Page, result: Result, mechanism: Mechanism, n: int, window: Window, scale: Kind, reduce: Reduce) -> None:
    tokens = [str(token) for token in result.arrays["tokens"]]
    titles = {"exact": _("Exact attention"), "mechanism": mechanism.label, "difference": _("Mechanism − exact")}
    titles = {name: title for name, title in titles.items() if name in result.arrays}
    for said in ("exact refusal", "sample"):
        if said in result.words:
            st.caption(result.words[said])
    _one_map_on_a_phone(titles)
    pictures = {
        name: MapPicture(
            values=result.arrays[name],
            title=title,
            full=(n, n),
            window=window,
            reduce=reduce,
            scale="difference" if name == "difference" else scale,
            causal=page.causal,
            tokens_rows=tokens,
        )
        for name, title in titles.items()
    }
    asked = None
    for place, name in zip(st.columns(len(titles), gap="medium"), titles, strict=True):
        with place, st.container(key=f"map-of-{name}"):
            drawn = attention_map(
                pictures[name],
                key=f"map of {name}",
                theme=page.theme,
                link="maps",
                content=f"{page.source.model_dump_json()} {mechanism!r} {name}",
                strips=False,
            )
            asked = drawn.clicked or asked
    if asked is not None:
        st.session_state["_pair"] = (asked.row, asked.col)
    pair = st.session_state.get("_pair")
    if pair is not None and max(pair) < n:
        explain_pair(page, mechanism, pair[0], pair[1], tokens)
    figure_menu(
        f"maps-{mechanism.key}",
        result,
        shown=type(mechanism),
        chart=lambda: attention_map_chart(pictures["mechanism"], page.theme),
        table=lambda: cells_table(result),
        caption=f"{mechanism.label} beside exact attention on {result.study.sequence().origin}.",
    )


def _one_map_on_a_phone(titles: dict[str, str]) -> None:
    """Where three maps do not fit side by side, show the chosen one: the server does not know the screen, a style sheet does."""
    with st.container(key="phone-only"):
        face = state.choose(
            "face", _("Map"), list(titles), default="mechanism", labels=titles.__getitem__, style="segments", view=True
        )
    hidden = ", ".join(f".stColumn:has(.st-key-map-of-{name})" for name in titles if name != face)
    st.html(f"<style>@media (max-width: 640px) {{ {hidden} {{ display: none; }} }}</style>" if hidden else "<style></style>")


def explain_pair(page: Page, mechanism: Mechanism, query: int, key: int, tokens: list[str]) -> None:
    """The sentence why the mechanism does or does not see the pair, with both weights."""
    said = why(page.source, mechanism, 0, query, key)
    pair = f"**{escaped(tokens[query].strip())}** ({query}) → **{escaped(tokens[key].strip())}** ({key})"
    if isinstance(said, str):
        st.info(said, icon=":material/block:")
        return
    weights = _("exact {exact:.3g}, {name} {weight:.3g}").format(exact=said.exact, name=mechanism.label, weight=said.weight)
    st.info(f"{pair} · {weights}  \n{escaped(said.text)}", icon=":material/help:")


def cells_table(result: Result) -> pd.DataFrame:
    """Every drawn cell as a row: its first query and key with their tokens, and the three values."""
    queries, keys = result.arrays["queries"], result.arrays["keys"]
    names = [name for name in ("exact", "mechanism", "difference") if name in result.arrays]
    height, width = result.arrays[names[0]].shape
    tops = queries[0] + (queries[1] - queries[0]) * np.arange(height) // height
    sides = keys[0] + (keys[1] - keys[0]) * np.arange(width) // width
    row, column = (part.ravel() for part in np.meshgrid(tops, sides, indexing="ij"))
    tokens = result.arrays["tokens"]
    table = pd.DataFrame(
        {
            "query": row,
            "query token": tokens[row],
            "key": column,
            "key token": tokens[column],
            **{name: result.arrays[name].ravel() for name in names},
        }
    )
    table = table.dropna(subset=names, how="all")
    table.attrs["units"] = {"query": "position", "key": "position", **dict.fromkeys(names, "share")}
    return table
