"""The server that warms up: what is not a session passes at once, a session when all is imported."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from pages.kit.server import startup as warm


def test_a_session_waits_until_all_is_imported_and_files_do_not(monkeypatch):
    monkeypatch.setattr(warm, "imported", Event())
    passed = []

    async def app(scope, receive, send):
        passed.append(scope["type"])

    async def visit():
        waits = warm.SessionsWait(app)
        session = asyncio.create_task(waits({"type": "websocket"}, None, None))
        await asyncio.wait({session}, timeout=0.05)
        await waits({"type": "http"}, None, None)
        assert passed == ["http"]
        warm.imported.set()
        await session
        await waits({"type": "websocket"}, None, None)

    # In a thread of its own: where browser tests ran before, this one has a loop that runs already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, visit()).result()
    assert passed == ["http", "websocket", "websocket"]


def test_sessions_begin_even_when_an_import_fails(monkeypatch):
    monkeypatch.setattr(warm, "imported", Event())
    monkeypatch.setattr(warm.sys, "setswitchinterval", lambda _seconds: None)

    def broken(count):
        raise ImportError("no such library")

    monkeypatch.setattr("torch.set_num_threads", broken)
    with pytest.raises(ImportError, match="no such library"):
        warm.start_up("pages.side_by_side")
    assert warm.imported.is_set(), "visitors would wait for ever"
    assert gc.isenabled()
