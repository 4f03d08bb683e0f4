"""The curves of cost against n as this page draws them: their axes, the measured times, and the names on a phone."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from longattn_core.charts.figures.cost import cost_chart
from longattn_core.studies.base.study import Result
from longattn_core.studies.cost import BreakEven, break_even
from longattn_core.studies.cost.curves import LENGTHS
from pages.kit.context import Page
from pages.kit.figure import figure, legend
from pages.kit.text import _

TICKS = LENGTHS[::2]
AXES: dict[str, str] = {
    "multiply_adds": _("multiply-adds (logarithmic)"),
    "bytes_moved": _("bytes moved (logarithmic)"),
    "bytes_held": _("bytes held at once (logarithmic)"),
    "milliseconds": _("milliseconds (logarithmic)"),
}


def crossings_of(crossings: pd.DataFrame, what: str) -> pd.DataFrame:
    """The crossings of one quantity, with their units."""
    chosen = crossings[crossings["quantity"] == what]
    chosen.attrs.update(crossings.attrs)
    return chosen


def timed(known: Result, n: int) -> BreakEven:
    """Which mechanisms pay by the clock, as far as it has run."""
    if "times" not in known.tables:
        return BreakEven(kind="waiting", n=n, readable=0)
    return break_even(known.tables["times"], known.tables["crossings"], "estimate", n)


def times_picture(page: Page, known: Result, n: int, name: str) -> None:
    """Milliseconds against n: measured where a line is solid, by formula where it is dashed."""
    if "times" not in known.tables:
        return
    times = known.tables["times"]
    table = without_gaps(times).assign(milliseconds=lambda t: 1000 * t["estimate"])
    table.attrs["units"] = {**times.attrs["units"], "milliseconds": "ms"}
    measured = times.loc[~times["dashed"], "n"]
    figure(
        page,
        name,
        known,
        cost_chart(
            table,
            known.tables["crossings"],
            page.theme,
            what="milliseconds",
            n=n,
            ticks=TICKS,
            y_title=AXES["milliseconds"],
            y_format=",~r",
        ),
        table=table,
        caption=_("Milliseconds against n, one head of width 64, {threads} thread(s); dashed: by formula.").format(
            threads=known.provenance.threads
        ),
        alt=_("Milliseconds against n for {count} mechanisms, measured up to {n:,} tokens.").format(
            count=times["label"].nunique(), n=int(measured.max()) if len(measured) else 0
        ),
    )
    names_on_a_phone(page, times, "estimate", name)


def without_gaps(times: pd.DataFrame) -> pd.DataFrame:
    """The table with each curve's last measured point a second time, as the first of its dashed part: no gap between the two."""
    unmeasured = set(times.loc[times["dashed"] & times["estimate"].notna(), "label"])
    measured = times[~times["dashed"] & times["label"].isin(unmeasured)].sort_values("n")
    last = measured.groupby("label", sort=False).tail(1).assign(dashed=True)
    return pd.concat([times, last], ignore_index=True)


def names_on_a_phone(page: Page, table: pd.DataFrame, what: str, name: str) -> None:
    """The curves' colours in a line of their own where their names do not fit beside their ends."""
    kinds = table.loc[table[what] > 0, ["key", "label"]].drop_duplicates()
    with st.container(key=f"phone-only-{name}"):
        legend(page, [(page.theme.style(key).colour, label, "") for key, label in kinds.itertuples(index=False)])
