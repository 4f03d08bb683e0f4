"""How fast a page answers a dial: `python -m benchmarks.interaction`, in headless Chromium against a server of its own.

For every page and length a dial is moved back and forth with the keyboard, first through values that nobody asked for
yet, and the time from the key to the end of the script with its last picture drawn is measured in the browser. The
median and the worst of the moves are printed as a Markdown table; background sweeps are not waited for.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)
BUDGET = {512: 300.0, 4096: 1500.0}
"""Milliseconds that a move may take at the median."""

SLIDERS = "[data-testid=stMain] [data-testid=stSlider]"

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


def main() -> None:
    """Measure, print the table, write it as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--pages", nargs="*", default=None, help="file names of pages without their ending; all of them by default"
    )
    parser.add_argument("--lengths", nargs="*", type=int, default=[512, 4096])
    parser.add_argument("--moves", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, help="also write the measurements here")
    parser.add_argument("--chromium", default=os.environ.get("LONGATTN_CHROMIUM", "/usr/bin/chromium"))
    given = parser.parse_args()
    pages = given.pages or [path.stem for path in sorted((ROOT / "pages").glob("[a-z]*.py"))]
    process, address = served()
    try:
        rows = [row for n in given.lengths for row in measured(address, pages, n, given.moves, given.chromium)]
    finally:
        process.terminate()
        process.wait(timeout=20)
    sys.stdout.write(table(rows))
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1), encoding="utf-8")


def served() -> tuple[subprocess.Popen[bytes], str]:
    """A warm server of its own on 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "streamlit", "run", str(ROOT / "serve.py"), f"--server.port={port}", "--server.address=127.0.0.1",
        "--server.headless=true", "--browser.gatherUsageStats=false", "--server.fileWatcherType=none",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _attempt in range(240):
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                return process, address
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise RuntimeError("the server did not answer within two minutes")


def measured(address: str, pages: list[str], n: int, moves: int, chromium: str) -> list[dict[str, object]]:
    """One row a page: median and worst time of the moves, in milliseconds."""
    rows = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for name in pages:
            sample = "story.txt" if n <= 512 else "long_story.txt"
            place = "" if name == "side_by_side" else name
            view = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
            view.set_default_timeout(300_000)
            view.goto(f"{address}/{place}?source=text&sample={sample}&n={n}&revealed=1")
            settled(view)
            sys.stderr.write(f"{name} at {n}\n")
            dial, times = first_dial(view), []
            seen, at = {0}, 0
            # To the right, and back beyond where it stood: only values that nobody asked for before are counted.
            for step in (1,) * moves + (-1,) * (2 * moves) if dial else ():
                at += step
                view.evaluate(f"() => {{ window.__timed = ({TIMED.strip()})(); }}")
                view.locator(SLIDERS).first.locator("input[type=range]").press(
                    "ArrowRight" if step > 0 else "ArrowLeft"
                )
                taken = view.evaluate("() => window.__timed")
                settled(view)
                if taken is not None and at not in seen:
                    times.append(float(taken))
                seen.add(at)
            rows.append({
                "page": name, "n": n, "dial": dial, "median_ms": statistics.median(times) if times else None,
                "worst_ms": max(times) if times else None, "moves": len(times), "budget_ms": BUDGET.get(n),
            })  # fmt: skip
            view.context.close()
        browser.close()
    return rows


def settled(view: Page) -> None:
    """Wait until the script has run, and for the second behind it in which a page may go on by itself."""
    view.wait_for_selector("[data-testid=stMain] h1")
    view.wait_for_selector("[data-test-script-state=notRunning]", state="attached")
    view.wait_for_timeout(1000)
    view.wait_for_selector("[data-test-script-state=notRunning]", state="attached")


def first_dial(view: Page) -> str:
    """The label of the first slider of the page's own, or nothing."""
    sliders = view.locator(SLIDERS)
    return sliders.first.inner_text().splitlines()[0] if sliders.count() else ""


def machine() -> str:
    """What it was measured on."""
    cores = os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"


def table(rows: list[dict[str, object]]) -> str:
    """The measurements as Markdown."""
    lines = [
        f"Dial to repaint in headless Chromium, one session, on {machine()}.", "",
        "| page | n | dial | median ms | worst ms | budget ms |", "|---|--:|---|--:|--:|--:|",
    ]  # fmt: skip
    for row in rows:
        figures = ["–" if row[name] is None else f"{row[name]:.0f}" for name in ("median_ms", "worst_ms", "budget_ms")]
        lines.append(f"| {row['page']} | {row['n']:,} | {row['dial'] or '–'} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
