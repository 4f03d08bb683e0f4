"""The server: `streamlit run serve.py`, which is what `make app` does.

It answers at once, so that a browser can load the app and the scripts of its pages, and warms up meanwhile; sessions wait
until all is imported.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any

import streamlit as st
from starlette.middleware import Middleware

from pages.kit.server.preload import PreloadScripts
from pages.kit.server.startup import SessionsWait, ending, start_up
from pages.kit.server.tcp_nodelay import set_tcp_nodelay


@asynccontextmanager
async def warm(app: Any) -> AsyncIterator[dict[str, Any]]:
    """Warm up behind the server's back; its socket is bound by now, and not yet open."""
    set_tcp_nodelay()
    Thread(target=start_up, args=("pages.side_by_side",), name="warm up").start()
    yield {}
    ending.set()


app = st.App("app.py", lifespan=warm, middleware=[Middleware(PreloadScripts), Middleware(SessionsWait)])
