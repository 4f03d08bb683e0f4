"""LongAttn Lab in the browser: `streamlit run app.py`, which is what `make app` does.

The server answers at once, so that a browser can load the app and the scripts of its pages. Meanwhile it imports what is heavy
and reads the first text; sessions wait until all is imported.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from pages.kit.server.preload import PreloadScripts
from pages.kit.server.startup import SessionsWait, ending, start_up
from pages.kit.server.tcp_nodelay import set_tcp_nodelay


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
    """Start up in a thread of its own; the server's socket is bound by now, and not yet open."""
    set_tcp_nodelay()
    Thread(target=start_up, args=("pages.side_by_side",), name="start up").start()
    yield {}
    ending.set()


app = st.App(
    Path(__file__).parent / "pages" / "kit" / "main.py",
    lifespan=lifespan,
    middleware=[Middleware(PreloadScripts), Middleware(SessionsWait)],
)
