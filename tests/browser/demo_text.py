"""A small page with the text as a picture, a map that is linked to it, and a stepper: what the browser tests drive."""

import numpy as np
import streamlit as st

from longattn_core.charts.pictures import MapPicture
from longattn_core.charts.style.theme import Theme
from pages.kit import state
from pages.kit.components.attention_map import attention_map
from pages.kit.components.stepper import stepper
from pages.kit.components.token_text import TextPicture, token_text
from tests.browser import NASTY, N

st.set_page_config(layout="wide", page_title="demo")
state.enter("demo")
theme = Theme()
tokens = [f" word{i}" for i in range(N)]
tokens[5] = NASTY
tokens[6] = "\n"

token_text(
    TextPicture(
        tokens=tokens,
        groups=np.arange(N) // 16,
        group_names={g: f"group {g}" for g in range(N // 16)},
        cuts={16: (1.0, "the first cut severs all"), 32: (0.1, "the second a tenth")},
        notes=[f"note {i}" for i in range(N)],
        selected=N - 1,
    ),
    key="groups",
    theme=theme,
    link="pair",
    on_token=lambda token: st.session_state.update(chosen=token),
)
st.text(f"chosen {st.session_state.get('chosen')}")
weights = np.where(np.arange(N) % 2 == 0, np.linspace(0, 1, N), np.nan)
token_text(TextPicture(tokens=tokens, weights=weights, causal_from=N - 9), key="weights", theme=theme, link="other")
attention_map(
    MapPicture(values=np.tril(np.full((N, N), 0.01)), title="map", causal=True, tokens_rows=tokens),
    key="map",
    theme=theme,
    link="pair",
)
at = stepper("demo.step", ["hash", NASTY, "cut", "attend"], theme=theme)
st.text(f"at {at}")
state.mirror()
