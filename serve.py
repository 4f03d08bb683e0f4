"""The server: warm before the first visitor comes. `streamlit run serve.py`, which is what `make app` does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import streamlit as st


@asynccontextmanager
async def warm(app: Any) -> AsyncIterator[dict[str, Any]]:
    """Import what is heavy; the model and the first page are computed while the first browser loads the app."""
    from pages.kit.warm import warm_up

    warm_up()
    yield {}


app = st.App("app.py", lifespan=warm)
