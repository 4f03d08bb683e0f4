"""What a server does before its first visitor: heavy imports in a safe order, the model, the default page's studies."""

from __future__ import annotations

import asyncio
import gc
import sys
from importlib import import_module
from threading import Event, Thread

from starlette.types import ASGIApp, Receive, Scope, Send

TURN = 0.001
"""Seconds after which a thread that computes in Python lets another one go on: a page need not wait long for a sweep."""

PAUSE = 2.0
"""Seconds between one study that is computed ahead and the next."""

imported = Event()
"""Set when all is imported: from then on sessions may begin."""

ending = Event()
"""Set when the server ends: torch would not survive a thread that is still inside it, so the process waits for the step
that runs, and no other is begun."""


def start_up(home: str) -> None:
    """Import what is heavy, freeze the collector, then compute the default text's first pictures.

    `home` is the package of the page that opens first, `pages.side_by_side`: it has a text and studies in `first_studies.py`.

    The order of the imports matters: importing plotly before numpy from several sessions at once has failed, so no
    session begins before they are done (`app.py` sees to that). The model reads the first text meanwhile, because its
    products need no interpreter. The collector rests meanwhile: what is imported stays, and looking through it again
    and again takes a tenth of the time. Freezing moves it out of the collector's sight, which Streamlit calls after
    every run. Without the weights the synthetic sequences still work, so their absence is no error here.
    """
    sys.setswitchinterval(TURN)
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
        # Whoever came first has the first picture drawn by now; what follows would take its time from that.
        if ending.wait(PAUSE):
            return
        run(study)


class SessionsWait:
    """Scripts, styles and pictures pass at once; a session, which is a websocket, when all is imported."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, now or then."""
        if scope["type"] == "websocket" and not imported.is_set():
            await asyncio.to_thread(imported.wait)
        await self.app(scope, receive, send)
