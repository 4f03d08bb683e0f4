"""Colours for groups without an order: buckets, segments, clusters, paths."""

from __future__ import annotations

from collections.abc import Sequence

from longattn_core.charts.style.colour import hexadecimal, rgb
from longattn_core.charts.style.theme import MECHANISM_COLOURS, Theme

STRENGTHS = (0.42, 0.68, 0.25)
"""How much of a hue is mixed into the page's background: eleven hues thrice, before a colour comes again."""


def group_colours(groups: Sequence[int], theme: Theme) -> dict[int, str]:
    """A quiet background colour for each group's number, the same for the same number; text on it stays legible.

    The mechanisms' hues are mixed into the background, neighbours in number far apart in hue. With more than 33 groups
    colours come again; the group's name where it is pointed at tells them apart.
    """
    hues = [theme.style(key).colour for key in MECHANISM_COLOURS if key != "exact"]
    spaced = [hues[(3 * index) % len(hues)] for index in range(len(hues))]
    found = {}
    for group in groups:
        strength = STRENGTHS[(group // len(spaced)) % len(STRENGTHS)]
        hue, ground = rgb(spaced[group % len(spaced)]), rgb(theme.background)
        found[group] = hexadecimal([round(strength * h + (1 - strength) * g) for h, g in zip(hue, ground, strict=True)])
    return found
