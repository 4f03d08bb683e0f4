"""What a server does before its first visitor: heavy imports in a safe order, the model, the studies of the first page."""

from __future__ import annotations

import asyncio
import gc
import sys
from importlib import import_module
from threading import Event, Thread

from starlette.types import ASGIApp, Receive, Scope, Send

SWITCH_INTERVAL = 0.001
"""Seconds after which Python switches from one computing thread to another, so that a page does not wait long for a sweep."""

PAUSE = 2.0
"""Seconds between two studies that are computed before anybody asks."""

imported = Event()
"""Set when everything is imported: from then on sessions may begin."""

ending = Event()
"""Set when the server ends; no further study is begun then. Torch crashes when the process ends while a thread is inside it."""


def start_up(home: str) -> None:
    """Import the heavy packages, freeze the garbage collector, then compute the first pictures of the default text.

    `home` is the package of the page that opens first, `pages.side_by_side`: its `first_studies.py` has a text and studies.

    Importing plotly before numpy from several sessions at once has failed, so no session begins before the imports are done
    (`SessionsWait`). The model reads the first text at the same time, because matrix products release the interpreter. The
    garbage collector is off meanwhile: all that is imported stays, and the collector's passes took a tenth of the time. Freezing
    takes these objects out of all later passes, and Streamlit collects after every run. Without the model's weights the synthetic
    sequences still work, so missing weights are no error here.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.disable()
    try:
        import numpy as np  # noqa: F401
        import torch

        torch.set_num_threads(1)
        from longattn_core.language_model.weights import weights_available
        from longattn_core.studies.base.study import sequence_of

        first = import_module(f"{home}.first_studies")

        if weights_available():
            Thread(target=sequence_of, args=(first.FIRST_TEXT,), name="first text").start()
        from longattn_core.registry import mechanisms
        from pages.kit.compute import run

        mechanisms()
        front, *others = first.first_studies()
        if weights_available():
            Thread(target=run, args=(front,), name="first study").start()
        import altair as alt  # noqa: F401

        import_module(f"{home}.hero")

        gc.freeze()
    finally:
        gc.enable()
        imported.set()
    for study in others if weights_available() else ():
        # The pause lets the first visitor's picture be drawn first.
        if ending.wait(PAUSE):
            return
        run(study)


class SessionsWait:
    """Middleware that holds a session, which is a websocket, until everything is imported; files pass at once."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, now or after the imports."""
        if scope["type"] == "websocket" and not imported.is_set():
            await asyncio.to_thread(imported.wait)
        await self.app(scope, receive, send)
