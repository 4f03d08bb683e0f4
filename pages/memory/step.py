"""Memory, step by step: what is written and read at one segment."""

from __future__ import annotations

import numpy as np
import streamlit as st

from longattn_core.charts.figures.memory import status_colours, status_names
from longattn_core.charts.figures.memory_measures import slots_chart
from longattn_core.charts.figures.memory_states import rewriting_chart
from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.memory import STATUSES, Rewriting, SlotsHeld
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose
from pages.memory.hero import MemoryRun
from pages.memory.states import state_dials


def step(page: Page, memory: MemoryRun, at: int) -> None:
    """The text in the colours of the memory at this step, and what slots or a state hold."""
    timeline, mechanism = memory.timeline(page), memory.mechanism
    segment = int(timeline.stops[at])
    spans = timeline.spans[segment]
    places = {str(status): place for place, status in enumerate(STATUSES)}
    groups, sizes = np.full(timeline.n, -1, dtype=np.int64), dict.fromkeys(places, 0)
    for status, start, stop in timeline.runs(segment):
        groups[start:stop] = places[status]
        sizes[status] += stop - start
    named = _("tokens {start:,} to {stop:,}").format(start=int(spans[2]), stop=int(spans[3]) - 1)
    st.markdown(
        prose(
            page.name,
            f"step_{mechanism.variant}",
            segment=named,
            gone=sizes["gone"],
            blended=sizes["blended"],
            rate=mechanism.rate,
            compressed=mechanism.compressed,
            life=float(memory.result.arrays["life"]),
            beta=mechanism.beta,
        )
    )
    names, inks = status_names(mechanism.variant), status_colours(page.theme)
    token_text(
        TextPicture(
            tokens=memory.spaced,
            groups=groups,
            group_names={i: names[status] for i, status in enumerate(STATUSES)},
            group_colours={i: inks[status] for i, status in enumerate(STATUSES)},
            notes=[_("exact attention from this segment: {share:.2%}").format(share=share) for share in timeline.mass[at]],
        ),
        key="memory text",
        theme=page.theme,
        height=420,
        alt=", ".join(f"{names[status]}: {sizes[status]} tokens" for status in STATUSES if sizes[status]),
    )
    if mechanism.variant == "slots":
        _slots(page, memory, segment, named)
    elif memory.is_state:
        _rewriting(page, mechanism)


def _slots(page: Page, memory: MemoryRun, segment: int, named: str) -> None:
    st.subheader(_("What each slot holds"), anchor=False)
    result = run(SlotsHeld(source=page.source, setting=memory.setting, segment=segment))
    if "slots" not in result.tables:
        st.info(prose(page.name, "slots_none"))
        return
    table, start = result.tables["slots"], int(result.arrays["start"])
    spread, newest = float(table["spread"].mean()), float(table["last segment"].mean())
    words = prose(page.name, "slots", segment=named, spread=spread, newest=newest)
    chart = slots_chart(result.arrays["held"], page.theme, start=start)
    figure(page, "slots", result, chart, table=table, caption=words, alt=words, shown=Memory)
    st.caption(words)


def _rewriting(page: Page, mechanism: Memory) -> None:
    st.subheader(_("The same key again"), anchor=False)
    result = run(Rewriting(source=page.source, **state_dials(mechanism)))
    table = result.tables["writes"]
    last = table[(table["variant"] == "delta")].iloc[-1]
    words = prose(
        page.name,
        "rewriting",
        writes=int(table["writes"].max()),
        gap=int(result.arrays["gap"]),
        beta=mechanism.beta,
        newest=float(last["newest"]),
    )
    chart = rewriting_chart(table, page.theme)
    figure(page, "same-key-again", result, chart, table=table, caption=words, alt=words, shown=Memory)
    st.caption(words)
