"""The head that is chosen on the left, and how a press on this page chooses another for all pages."""

from __future__ import annotations

from longattn_core.sequences.sources import TextSource, UploadedSource
from pages.kit import state
from pages.kit.context import Page


def chosen_head(page: Page) -> int:
    """The number of the chosen head within its layer or file; 0 for a synthetic sequence."""
    source = page.source
    if isinstance(source, TextSource):
        return source.heads[0]
    return (source.head or 0) if isinstance(source, UploadedSource) else 0


def chosen_layer(page: Page) -> int:
    """The layer of the chosen head; 0 for a source without layers."""
    return page.source.layer if isinstance(page.source, TextSource) else 0


def choose_head(page: Page, head: int, layer: int | None = None) -> None:
    """Make a head the head of every page; a synthetic sequence has no choice of heads."""
    source = page.source
    if isinstance(source, TextSource):
        state.put({"head": f"{source.layer if layer is None else layer}.{head}"})
    elif isinstance(source, UploadedSource):
        state.put({"uploadhead": str(head)})
