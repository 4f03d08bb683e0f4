"""How fast a page reacts to a dial: `python -m benchmarks.interaction`, in headless Chromium on a server of its own.

For every page and length the page's first dial is moved with the keyboard. The browser measures the time from the key to the end
of the script, with the last picture drawn; background sweeps are not waited for. The table has the median and the worst.

- Only values that were not computed before count. The first move does not, because the browser still compiles the scripts.
- The dial makes seven moves each way, where it has so many values, because the browser optimises what runs often.
- Each page has a server of its own: a sweep that another page has started would be measured too.
- The first row is a page with one slider and nothing else. It shows how fast the machine is at that moment: on a shared machine
  the same page may take twice as long a minute later.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.browser import CHROMIUM, FLAGS, ROOT, TIMED, machine, served, settled, warmed

BUDGET = {512: 300.0, 4096: 1500.0}
"""Milliseconds that the median move of one page may take, by the length."""
AIM = {512: 200.0, 4096: 600.0}
"""Milliseconds for the median over all pages, by the length."""

FLOOR = "one slider alone"
SETTINGS = {"heads": "&heads.mask=padding", "hierarchical": "&m.hierarchical.levels=1"}
"""Settings for pages that show no dial at first, or that begin at the end of their dial."""

SLIDERS = "[data-testid=stMain] [data-testid=stSlider]"


def main() -> None:
    """Measure, print the table, write it as JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", nargs="*", default=None, help="names of the pages' folders; all of them by default")
    parser.add_argument("--lengths", nargs="*", type=int, default=[512, 4096])
    parser.add_argument("--moves", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None, help="also write the measurements here")
    parser.add_argument("--chromium", default=CHROMIUM)
    given = parser.parse_args()
    pages = given.pages or [path.parent.name for path in sorted((ROOT / "pages").glob("*/page.py")) if path.parent.name != "kit"]
    rows = [measured(page, n, given.moves, given.chromium) for n in given.lengths for page in [FLOOR, *pages]]
    sys.stdout.write(table(rows))
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1), encoding="utf-8")


def measured(page: str, n: int, moves: int, chromium: str) -> dict[str, object]:
    """One row of the table: median and worst time of a page's moves, in milliseconds."""
    sys.stderr.write(f"{page} at {n}\n")
    process, address = served(ROOT / "benchmarks" / "floor.py" if page == FLOOR else ROOT / "app.py")
    sample = "story.txt" if n <= 512 else "long_story.txt"
    query = f"?source=text&sample={sample}&n={n}&revealed=1{SETTINGS.get(page, '')}"
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
            view = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
            view.set_default_timeout(300_000)
            view.goto(f"{address}/{'' if page in ('side_by_side', FLOOR) else page}{query}")
            warmed(view)
            dial = first_dial(view)
            times = moved(view, moves) if dial else []
            browser.close()
    finally:
        process.terminate()
        process.wait(timeout=20)
    return {
        "page": page,
        "n": n,
        "dial": dial,
        "median_ms": statistics.median(times) if times else None,
        "worst_ms": max(times) if times else None,
        "moves": len(times),
        "budget_ms": BUDGET.get(n),
    }


def moved(view: Page, moves: int) -> list[float]:
    """Milliseconds of each move to a new value: first to the right, then to the left beyond the first value."""
    dial = view.locator(SLIDERS).first.locator("input[type=range]")
    times, seen = [], {dial.input_value()}
    for key in ["ArrowRight"] * (moves + 1) + ["ArrowLeft"] * (2 * moves + 1):
        view.evaluate(f"() => {{ window.__timed = ({TIMED.strip()})(); }}")
        dial.press(key)
        taken = view.evaluate("() => window.__timed")
        settled(view)
        value = dial.input_value()
        if taken is not None and value not in seen:
            times.append(float(taken))
        seen.add(value)
    return times[1:]


def first_dial(view: Page) -> str:
    """The label of the first slider in the page's body; empty if there is none."""
    sliders = view.locator(SLIDERS)
    return sliders.first.inner_text().splitlines()[0] if sliders.count() else ""


def table(rows: list[dict[str, object]]) -> str:
    """The measurements as Markdown."""
    lines = [
        f"Dial to repaint in headless Chromium, one session, on {machine()}.",
        "",
        "| page | n | dial | median ms | worst ms | budget ms |",
        "|---|--:|---|--:|--:|--:|",
    ]
    for row in rows:
        figures = ["–" if row[name] is None else f"{row[name]:.0f}" for name in ("median_ms", "worst_ms", "budget_ms")]
        lines.append(f"| {row['page']} | {row['n']:,} | {row['dial'] or '–'} | {' | '.join(figures)} |")
    for n, aim in AIM.items():
        medians = [
            float(str(row["median_ms"]))
            for row in rows
            if row["n"] == n and row["page"] != FLOOR and row["median_ms"] is not None
        ]
        if medians:
            lines.append(f"| **median over pages** | {n:,} | | {statistics.median(medians):.0f} | | {aim:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
