"""Heads and masks below the fold: what every head does, one map with its reasons, and heads that share keys."""

from __future__ import annotations

from pages.heads.hero import MaskRun
from pages.heads.likeness import likeness_picture
from pages.heads.one_map import one_map
from pages.heads.survey import survey_picture
from pages.kit import state
from pages.kit.context import Page
from pages.kit.text import _

PICTURES = {"survey": _("What each head does"), "map": _("One map"), "likeness": _("Heads that share keys")}


def measure(page: Page, masked: MaskRun) -> None:
    """One of three pictures."""
    picture = state.choose(
        "heads.picture", _("Picture"), list(PICTURES), default="survey", labels=PICTURES.__getitem__, style="segments", view=True
    )
    if picture == "survey":
        survey_picture(page)
    elif picture == "map":
        one_map(page, masked)
    else:
        likeness_picture(page)
