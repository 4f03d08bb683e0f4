"""LongAttn Lab in the browser: `streamlit run app.py`, or `make app` for a server that warms up before it is asked."""

from pathlib import Path

import streamlit as st

from pages.kit.menu import links, navigation

chosen = navigation()
st.set_page_config(
    page_title="LongAttn Lab" if chosen.url_path == "" else f"{chosen.title} · LongAttn Lab",
    page_icon=Path(__file__).parent / "assets" / "icon.svg",
    layout="wide",
)
links()
chosen.run()
