"""The script that Streamlit runs for each session: the browser's title, the menu, and the page that was asked for.

It stands below `pages/` on purpose. Beside a folder `pages`, Streamlit takes a script for the old kind of multipage app and
does not find a page that the first visitor of a server asks for by its address.
"""

import streamlit as st

from pages.kit.menu import links, navigation
from pages.kit.text import ASSETS

chosen = navigation()
st.set_page_config(
    page_title="LongAttn Lab" if chosen.url_path == "" else f"{chosen.title} · LongAttn Lab",
    page_icon=ASSETS / "icon.svg",
    layout="wide",
)
links()
chosen.run()
