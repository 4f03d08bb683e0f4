"""Measure on the random-features page: maps, errors against features, norms and sharpness, breaks, heads, draws, fits."""

from __future__ import annotations

from collections.abc import Callable

from pages.favor.draws import draws, learned
from pages.favor.features import features
from pages.favor.heads import breaks, heads
from pages.favor.hero import Estimated
from pages.favor.scores import norms, sharpness
from pages.kit import state
from pages.kit.context import Page
from pages.kit.map_card import maps_card
from pages.kit.text import _


def measure(page: Page, estimated: Estimated) -> None:
    """One measurement at a time, chosen by a switch, so that no other is computed."""
    parts: dict[str, tuple[str, Callable[[], None]]] = {
        "features": (_("Features"), lambda: features(page)),
        "maps": (_("Maps"), lambda: maps_card(page, estimated.favor)),
        "norms": (_("Norms"), lambda: norms(page, estimated)),
        "sharpness": (_("Sharpness"), lambda: sharpness(page, estimated)),
        "breaks": (_("Where it breaks"), lambda: breaks(page, estimated)),
        "heads": (_("Heads"), lambda: heads(page, estimated)),
        "draws": (_("Draws"), lambda: draws(page, estimated)),
        "learned": (_("Learned features"), lambda: learned(page)),
    }
    chosen = state.choose(
        "favor.step.measure",
        _("Measurement"),
        list(parts),
        default="features",
        labels=lambda name: parts[name][0],
        style="segments",
        view=True,
    )
    parts[chosen][1]()
