"""Side by side: one token looks back over the text; what does each mechanism let it see?"""

from __future__ import annotations

from pages.kit.context import Page
from pages.kit.page import show_page
from pages.side_by_side.hero import hero
from pages.side_by_side.measure import measure


def body(page: Page) -> None:
    """One question to all mechanisms, their maps, and what each costs."""
    comparison = hero(page)
    if not page.presenting:
        measure(page, comparison)


show_page("side_by_side", body, polling=True)
