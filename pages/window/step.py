"""A pattern built up part by part: window, gaps, first tokens, global tokens, random and chosen blocks, a hash."""

from __future__ import annotations

import altair as alt
import numpy as np
import streamlit as st

from longattn_core.charts.figures.window import pattern_picture
from longattn_core.charts.style.altair import specification, themed
from longattn_core.mechanisms.window import Window
from longattn_core.studies.window.patterns import Patterns
from pages.kit.components.stepper import stepper
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.text import _, prose
from pages.kit.vega import vega
from pages.window.hero import LedgerRun

KEYS = 64
STEPS = (
    ("window", "window"),
    ("window, dilated", "dilated"),
    ("window + sinks", "sinks"),
    ("global tokens", "global"),
    ("BigBird", "bigbird"),
    ("chosen blocks", "selected"),
    ("chosen + window", "chosen_window"),
    ("hash + sinks + window", "hash"),
)
"""The patterns in their order, by name, and the section that tells of each."""


def step(page: Page, ledger: LedgerRun) -> None:
    """One pattern a frame: its picture, its sentence and its numbers on this head."""
    stops = [_("window"), _("gaps"), _("first tokens"), _("global"), _("random blocks"), _("chosen blocks"), _("both"), _("hash")]
    at = stepper("window.step", stops, theme=page.theme, label=_("Patterns, part by part"))
    name, section = STEPS[at]
    with st.spinner(_("Measuring the patterns …")):
        result = run(Patterns(source=page.source, keys=KEYS))
    table = result.tables["patterns"]
    row = table[table["name"] == name].iloc[0]
    picture, words = st.columns([1, 2], gap="large", vertical_alignment="center")
    with words:
        st.markdown(prose("window", f"step_{section}"))
        st.markdown(
            prose(
                "window",
                "step_numbers",
                keys=KEYS,
                found=row["recall without sinks"],
                looked=row["share without sinks"],
                error=row["error"],
                control=row["control"],
                outside=ledger.outside,
            )
        )
    with picture:
        index = int(np.flatnonzero(table["name"] == name)[0])
        small_map(page, name, str(row["idea"]), result.arrays["seen"][index], size=260)
        figure_menu(
            f"pattern-{section}",
            result,
            shown=Window,
            chart=lambda: themed(_picture(page, name, str(row["idea"]), result.arrays["seen"][index], 260), page.theme),
            table=table,
            caption=_("What the pattern “{name}” looks at: queries downwards, keys across.").format(name=name),
        )


def small_map(page: Page, name: str, idea: str, seen: np.ndarray, *, size: int) -> None:
    """One pattern's map, as large as it is asked for: a square must not be stretched to its column."""
    drawn = specification(_picture(page, name, idea, seen, size), page.theme)
    vega(
        # The title stands above the square and not inside its height.
        {**drawn, "autosize": "pad"},
        width="content",
        key=f"picture {name}",
        words=_("A map of the pairs that the pattern “{name}” looks at: {idea}.").format(name=name, idea=idea),
    )


def _picture(page: Page, name: str, idea: str, seen: np.ndarray, size: int) -> alt.Chart:
    return pattern_picture(name, idea, seen, page.theme, causal=page.causal, size=size)
