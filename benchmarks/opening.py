"""How fast the app opens and changes its pages: `python -m benchmarks.opening`, in headless Chromium on a server of its own.

First picture: from the start of the server's process, as `make app` starts it, to the first ribbon drawn, in a browser that is
already open and with everything installed. Page change: from the click in the menu to the end of the page's script, with the
last picture drawn. In the first round the server has not computed anything for a page; in later rounds it has, as for every
visitor except the first. The table has medians and the worst times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.browser import CHROMIUM, FLAGS, ROOT, TIMED, machine, served, settled, warmed

FIRST_PICTURE_S = 6.0
PAGE_CHANGE_MS = 400.0
"""The longest times for the first picture and for the median page change."""


def main() -> None:
    """Measure, print the table, write it as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=3, help="servers started for the first picture")
    parser.add_argument("--rounds", type=int, default=3, help="rounds through all pages")
    parser.add_argument("--json", type=Path, default=None, help="also write the measurements here")
    parser.add_argument("--chromium", default=CHROMIUM)
    given = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=given.chromium, args=list(FLAGS))
        starts = [first_picture(browser) for _start in range(given.starts)]
        rounds = page_changes(browser, given.rounds)
        browser.close()
    sys.stdout.write(table(starts, rounds))
    if given.json is not None:
        found = {"machine": machine(), "first_picture_s": starts, "page_change_ms": rounds}
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


def first_picture(browser: Browser) -> tuple[float, float]:
    """Seconds from the start of a server to its answer, and to the first picture in the browser."""
    view = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    view.set_default_timeout(60_000)
    began = time.perf_counter()
    process, address = served(ROOT / "app.py")
    try:
        ready = time.perf_counter() - began
        view.goto(address)
        view.wait_for_selector(".rb-grid canvas")
        drawn = time.perf_counter() - began
    finally:
        view.context.close()
        process.terminate()
        process.wait(timeout=20)
    return ready, drawn


def page_changes(browser: Browser, rounds: int) -> list[dict[str, float]]:
    """Milliseconds of the change to each page, one dictionary per round, by the name in the menu."""
    process, address = served(ROOT / "app.py")
    try:
        view = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        view.set_default_timeout(120_000)
        view.goto(address)
        warmed(view)
        links = view.locator(".st-key-menu [data-testid=stPageLink] a")
        names = [name.strip() for name in links.all_inner_texts()]
        # The page that is open comes last, because a link to it would change nothing.
        order = [*range(1, len(names)), 0]
        found: list[dict[str, float]] = []
        for _round in range(rounds):
            times: dict[str, float] = {}
            for index in order:
                view.evaluate(f"() => {{ window.__timed = ({TIMED.strip()})(); }}")
                links.nth(index).click()
                taken = view.evaluate("() => window.__timed")
                settled(view)
                if taken is not None:
                    times[names[index]] = float(taken)
            found.append(times)
        view.context.close()
    finally:
        process.terminate()
        process.wait(timeout=20)
    return found


def table(starts: list[tuple[float, float]], rounds: list[dict[str, float]]) -> str:
    """The measurements as Markdown."""
    first, later = rounds[0], rounds[1:]
    lines = [
        f"Opening and turning pages in headless Chromium, one session, on {machine()}.",
        "",
        "| | median | worst | aim |",
        "|---|--:|--:|--:|",
        row("server answers, s", [ready for ready, _drawn in starts], None, ".1f"),
        row("first picture after the server's start, s", [drawn for _ready, drawn in starts], FIRST_PICTURE_S, ".1f"),
        row("page change, never seen by this server, ms", list(first.values()), None, ".0f"),
        row("page change, seen before, ms", [x for times in later for x in times.values()], PAGE_CHANGE_MS, ".0f"),
        "",
        "| page | first visit, ms | later visits, median ms |",
        "|---|--:|--:|",
    ]
    for name, taken in first.items():
        again = [times[name] for times in later if name in times]
        lines.append(f"| {name} | {taken:.0f} | {statistics.median(again):.0f} |" if again else f"| {name} | {taken:.0f} | – |")
    return "\n".join(lines) + "\n"


def row(name: str, values: list[float], aim: float | None, form: str) -> str:
    """One line of the first table."""
    if not values:
        return f"| {name} | – | – | – |"
    aimed = "–" if aim is None else format(aim, form)
    return f"| {name} | {statistics.median(values):{form}} | {max(values):{form}} | {aimed} |"


if __name__ == "__main__":
    main()
