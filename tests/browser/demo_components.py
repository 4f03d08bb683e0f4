"""A small page with the browser parts on made-up weights: what the browser tests drive."""

import numpy as np
import streamlit as st

from longattn_core.charts.cells import RibbonRow, pool_cells
from longattn_core.charts.pictures import MapPicture, RibbonsPicture
from longattn_core.charts.style.theme import Theme
from pages.kit.components.attention_map import attention_map, view_of, window_for
from pages.kit.components.ribbons import ribbons
from tests.browser import NASTY, N

st.set_page_config(layout="wide", page_title="demo")
theme = Theme(mode="dark" if st.query_params.get("dark") else "light")
st.session_state.runs = st.session_state.get("runs", 0) + 1
step = st.slider("dial", 0, 3, 0)

query_of = np.arange(N)[:, None]
exact = np.where(np.arange(N) <= query_of, 1.0 + (np.arange(N) * 7 + query_of * 3 + step) % 11, 0.0)
exact[40, 5] = 4000.0
exact /= exact.sum(1, keepdims=True)
window = np.where((query_of - np.arange(N) < 8), exact, np.nan)
tokens = [f" word{i}" for i in range(N)]
tokens[5] = NASTY
tokens[6] = "\n"

if st.query_params.get("part") == "map":
    # The dial's last step shortens the text: a map of another size.
    if step == 3:
        exact, window, tokens = exact[:48, :48], window[:48, :48], tokens[:48]
    full = exact.shape
    places = st.columns(2)
    for place, name, values in zip(places, ("exact", "window"), (exact, window), strict=True):
        with place:
            span, shape = window_for(view_of(name, full=full), full=full, cells=32)
            pooled = pool_cells(values[slice(*span.queries), slice(*span.keys)], shape)
            result = attention_map(
                MapPicture(values=pooled, title=name, full=full, window=span, causal=True, tokens_rows=tokens),
                key=name,
                theme=theme,
                link="pair",
                content=f"{name} {step}",
                size=352,
            )
            if result.clicked:
                st.session_state.clicked = f"{name} {result.clicked.row} {result.clicked.col}"
            st.text(f"{name} shows {span.r0} {span.r1} {span.c0} {span.c1} in {shape[0]}")
    st.text(f"clicked {st.session_state.get('clicked')}")
else:
    query = st.session_state.setdefault("query", N - 1)
    hidden = st.query_params.get("hide") == "1"
    rows = [
        RibbonRow(key="exact", title="Exact", weights=exact[query], facts=(("overlap", "1.00"),)),
        RibbonRow(key="window", title="Window", weights=window[query], badges=("none drawn",), hidden=hidden),
        RibbonRow(key="low_rank", title="Linformer", refusal="It cannot hide the future."),
        RibbonRow(key="newcomer", title="Newcomer", weights=np.full(N, 1 / N)),
    ]
    result = ribbons(
        RibbonsPicture(rows=rows, tokens=tokens, query=query, marked=5),
        key="ribbons",
        theme=theme,
        predict=("finds it", "loses it"),
        on_query=lambda token: st.session_state.update(query=token),
        on_clicked=lambda cell: st.session_state.update(clicked=f"{cell.mechanism} {cell.key}"),
    )
    st.text(f"query {query}")
    st.text(f"clicked {st.session_state.get('clicked')}")
    st.text(f"guesses {dict(result.guesses)}")
st.text(f"runs {st.session_state.runs}")
