"""A server and a headless Chromium, for what is timed in a browser."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
CHROMIUM = os.environ.get("LONGATTN_CHROMIUM", "/usr/bin/chromium")

AHEAD_MS = 6000.0
"""How long a server computes in advance after its first answer (`pages/kit/server/startup.py`)."""

TIMED = """
() => new Promise(done => {
  const app = document.querySelector('[data-test-script-state]');
  const began = performance.now();
  let ran = false;
  const look = () => {
    const state = app.getAttribute('data-test-script-state');
    if (state !== 'notRunning') ran = true;
    else if (ran) {
      watch.disconnect();
      requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
    }
  };
  const watch = new MutationObserver(look);
  watch.observe(app, { attributes: true, attributeFilter: ['data-test-script-state'] });
  const still = () => {
    // A move that changes nothing on the server ends here, and is not counted.
    const waited = performance.now() - began;
    if ((!ran && waited > 4000) || waited > 60000) { watch.disconnect(); done(null); }
    else setTimeout(still, 200);
  };
  still();
})
"""


def served(script: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server for a script on 127.0.0.1. It answers before it is warm (see `warmed`)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _attempt in range(2400):
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                return process, address
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise RuntimeError("the server did not answer within two minutes")


def warmed(view: Page) -> None:
    """Wait until the server has computed what it prepares for its visitors."""
    settled(view)
    view.wait_for_timeout(AHEAD_MS)


def settled(view: Page) -> None:
    """Wait until the script has run, and one more second, in which a page may run again by itself."""
    view.wait_for_selector("[data-testid=stMain] h1")
    view.wait_for_selector("[data-test-script-state=notRunning]", state="attached")
    view.wait_for_timeout(1000)
    view.wait_for_selector("[data-test-script-state=notRunning]", state="attached")


def machine() -> str:
    """The machine of this measurement, in words."""
    cores = os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"
