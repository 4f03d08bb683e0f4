"""A real browser and a real server for the tests that need them: `open_page` and `serve`.

Chromium is found at the path in LONGATTN_CHROMIUM, at /usr/bin/chromium, or by name; without one these tests fail.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright import sync_api as playwright

from tests.support.paths import ROOT

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 60_000
"""Milliseconds after which a condition that never comes true fails the test: long, because the machine may be busy."""


def chromium_path() -> str | None:
    """Where Chromium is, or None."""
    named = os.environ.get("LONGATTN_CHROMIUM")
    if named:
        return named
    if Path("/usr/bin/chromium").exists():
        return "/usr/bin/chromium"
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """`serve(script)` runs a Streamlit script on 127.0.0.1 and gives its address; one server a script, ended after all."""
    addresses: dict[str, str] = {}
    with ExitStack() as ends:

        def start(script: str | Path, *options: str) -> str:
            name = " ".join([str(script), *options])
            if name not in addresses:
                addresses[name] = _started(Path(script), options, ends)
            return addresses[name]

        yield start


def _started(script: Path, options: tuple[str, ...], ends: ExitStack) -> str:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(script),
        f"--server.port={port}",
        "--server.address=127.0.0.1",
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        "--server.fileWatcherType=none",
        *options,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ends.callback(_ended, process)
    assert process.stdout is not None
    said = []
    # Streamlit prints its address once it listens: reading up to there waits exactly as long as it takes.
    for line in process.stdout:
        said.append(line)
        if f":{port}" in line:
            break
    else:
        raise RuntimeError("the server ended before it listened:\n" + "".join(said))
    threading.Thread(target=process.stdout.read, daemon=True).start()
    return f"http://127.0.0.1:{port}"


def _ended(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def chromium() -> Iterator["playwright.Browser"]:
    """One headless Chromium for all tests."""
    path = chromium_path()
    if path is None:
        pytest.fail("no Chromium: install it (on Debian: apt-get install chromium) or set LONGATTN_CHROMIUM to its path")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: "playwright.Browser") -> Iterator[Callable[..., "playwright.Page"]]:
    """`open_page(address, width=1440, height=1000, dark=False)` opens it in a context of its own and waits until it rests.

    `before` is JavaScript that runs ahead of the page's own. A script error or an error in the console fails the test at its end.
    """
    faults: list[str] = []
    with ExitStack() as ends:

        def opened(
            address: str, *, width: int = 1440, height: int = 1000, dark: bool = False, touch: bool = False, before: str = ""
        ) -> "playwright.Page":
            context = chromium.new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                has_touch=touch,
                reduced_motion="reduce",
            )
            ends.callback(context.close)
            context.set_default_timeout(PATIENCE)
            if before:
                context.add_init_script(before)
            page = context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda message: faults.append(message.text) if ours(message) else None)
            page.goto(address)
            at_rest(page)
            return page

        yield opened
    assert faults == []


def ours(message: "playwright.ConsoleMessage") -> bool:
    """Whether a console message is an error of ours: on a page's address Streamlit first asks below it for its server."""
    return message.type == "error" and "/_stcore/" not in message.location.get("url", "")


def at_rest(page: "playwright.Page") -> None:
    """Wait until the script has run and nothing is under way."""
    page.wait_for_selector("[data-test-script-state=notRunning]", state="attached")
    assert page.locator("[data-testid=stException]").count() == 0, page.locator("[data-testid=stException]").inner_text()


@pytest.fixture(autouse=True, scope="session")
def _patience() -> None:
    playwright.expect.set_options(timeout=PATIENCE)
