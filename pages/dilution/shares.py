"""The bars of the three shares, length by length, of one head or of three side by side."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from longattn_core.charts.figures.dilution import part_colours, shares_chart
from longattn_core.studies.base.study import Result
from longattn_core.studies.dilution.planted import CONTRASTS
from pages.kit.context import Page
from pages.kit.figure import figure, legend
from pages.kit.text import _, prose


def part_names(needle: str, rest: str = "") -> dict[str, str]:
    """What the needle, the sinks and the rest are called in a picture."""
    return {"needle": needle, "sinks": _("sinks"), "rest": rest or _("all other tokens")}


def parts_legend(page: Page, names: dict[str, str]) -> None:
    """The three parts with their colours, from the bottom of a bar to its top."""
    inks = part_colours(page.theme)
    legend(page, [(inks[part], f"“{name.strip() or '␣'}”" if part == "needle" else name, "") for part, name in names.items()])


def points_of(result: Result, head: str) -> pd.DataFrame:
    """The rows of one head, with their units."""
    points = result.tables["points"]
    chosen = points[points["head"] == head]
    chosen.attrs.update(points.attrs)
    return chosen


def shares_picture(
    page: Page,
    result: Result,
    points: pd.DataFrame,
    names: dict[str, str],
    lengths: list[int] | None,
    *,
    title: str,
    name: str,
    labels: bool = True,
) -> None:
    """One bar a length: what the needle, the sinks and the rest have of the weight."""
    alt = "; ".join(
        _("{n:,} tokens: {needle} {a:.0%}, sinks {b:.0%}, rest {c:.0%}").format(
            n=int(row["n"]), needle=names["needle"], a=row["needle"], b=row["sinks"], c=row["rest"]
        )
        for _index, row in points.sort_values("n").iterrows()
    )
    chart: Any = shares_chart(points, page.theme, names=names, lengths=lengths, labels=labels)
    figure(
        page,
        name,
        result,
        chart,
        table=points,
        alt=alt,
        title=title,
        caption=prose("dilution", "caption_shares", needle=names["needle"]),
    )


def shares_of_heads(page: Page, result: Result, head: str, names: dict[str, str], lengths: list[int]) -> None:
    """The chosen head, and beside it heads that never look for the fact."""
    words = (_("a diffuse head"), _("a local head"))
    contrasts = {f"L{layer} H{number}": word for (layer, number), word in zip(CONTRASTS, words, strict=True)}
    others = [name for name in contrasts if name != head and not points_of(result, name).empty]
    parts_legend(page, names)
    places = st.columns([2.4, *(1 for _name in others)], gap="medium")
    with places[0]:
        shares_picture(page, result, points_of(result, head), names, lengths, title=head, name="shares")
    for place, name in zip(places[1:], others, strict=True):
        with place:
            title = f"{name}, {contrasts[name]}"
            shares_picture(
                page, result, points_of(result, name), names, lengths, title=title, name=f"shares-{name}", labels=False
            )
