"""The server: `streamlit run serve.py`, which is what `make app` does.

It answers at once, so that a browser can load the app, and warms up meanwhile; sessions wait until all is imported.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pages.kit.warm import imported, warm_up


class SessionsWait:
    """Scripts, styles and pictures pass at once; a session, which is a websocket, when all is imported."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, now or then."""
        if scope["type"] == "websocket" and not imported.is_set():
            await asyncio.to_thread(imported.wait)
        await self.app(scope, receive, send)


@asynccontextmanager
async def warm(app: Any) -> AsyncIterator[dict[str, Any]]:
    """Warm up behind the server's back; a process that ends does not wait for it."""
    Thread(target=warm_up, name="warm up", daemon=True).start()
    yield {}


app = st.App("app.py", lifespan=warm, middleware=[Middleware(SessionsWait)])
