"""Cost, step by step: what one length costs every mechanism, as sums."""

from __future__ import annotations

import numpy as np
import streamlit as st

from longattn_core.charts.figures.cost import multiples_chart
from longattn_core.studies.cost.curves import LENGTHS
from pages.cost.hero import NAMES, Costs
from pages.kit.components.stepper import stepper
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose


def step(page: Page, costs: Costs) -> None:
    """One length a frame: each mechanism as a multiple of exact attention."""
    lengths = list(LENGTHS)
    start = int(np.abs(np.log2(lengths) - np.log2(costs.n)).argmin())
    at = lengths[stepper("cost.step", [f"{n:,}" for n in lengths], theme=page.theme, start=start, label=_("tokens n"))]
    what = costs.what if costs.what != "time" else "multiply_adds"
    points = costs.result.tables["points"]
    row = points[(points["n"] == at) & points["approximates"]]
    exact = float(row.loc[row["key"] == "exact", what].iloc[0])
    table = row[row["key"] != "exact"].assign(multiple=lambda t: t[what] / exact)[["key", "label", "multiple"]]
    table.attrs["units"] = {"multiple": "of exact attention's"}
    below = int((table["multiple"] < 1).sum())
    figure(
        page,
        "multiples",
        costs.result,
        multiples_chart(table, page.theme),
        table=table,
        title=_("{what} at {n:,} tokens").format(what=NAMES[what].capitalize(), n=at),
        caption=_("{what} of each mechanism at {n:,} tokens, as a multiple of exact attention's.").format(
            what=NAMES[what].capitalize(), n=at
        ),
        alt=_("At {n:,} tokens {below} of {count} mechanisms lie below exact attention.").format(
            n=at, below=below, count=int(table["multiple"].notna().sum())
        ),
    )
    st.caption(prose("cost", "step", n=at, exact=large(exact), what=NAMES[what], below=below))


def large(value: float) -> str:
    """A count in a sentence, three digits and a word: 16.8 million."""
    for size, word in ((1e12, _("trillion")), (1e9, _("billion")), (1e6, _("million"))):
        if value >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}"
