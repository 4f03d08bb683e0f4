"""Memory, step by step: what is written and read at one segment."""

from __future__ import annotations

import numpy as np
import streamlit as st

from longattn_core.charts.figures.memory import rewriting_chart, slots_chart, spans_of, status_colours, status_names
from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.memory import STATUSES, Rewriting, SlotsHeld
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose
from pages.memory.hero import NAME, STATES


def step(page: Page, result: Result, mechanism: Memory, at: int) -> None:
    """The text in the colours of the memory at this step, and what slots or a state hold."""
    arrays, variant = result.arrays, mechanism.variant
    segment = int(arrays["stops"][at])
    spans, n = arrays["spans"][segment], len(arrays["tokens"])
    both_ways = variant in STATES and not page.causal
    held = np.full(n, -1, dtype=np.int64)
    places = {str(status): place for place, status in enumerate(STATUSES)}
    sizes = dict.fromkeys(places, 0)
    for status, a, b in spans_of(spans, n, both_ways=both_ways):
        held[a:b] = places[status]
        sizes[status] += b - a
    named = _("tokens {start:,} to {stop:,}").format(start=int(spans[2]), stop=int(spans[3]) - 1)
    st.markdown(
        prose(
            NAME,
            f"step_{variant}",
            segment=named,
            gone=sizes["gone"],
            blended=sizes["blended"],
            rate=mechanism.rate,
            compressed=mechanism.compressed,
            life=float(arrays["life"]),
            beta=mechanism.beta,
        )
    )
    names, inks = status_names(variant), status_colours(page.theme)
    space = "" if result.study.source.kind == "text" else " "
    mass = arrays["mass"][at]
    token_text(
        TextPicture(
            tokens=[f"{space}{token}" for token in arrays["tokens"]],
            groups=held,
            group_names={i: names[status] for i, status in enumerate(STATUSES)},
            group_colours={i: inks[status] for i, status in enumerate(STATUSES)},
            notes=[_("exact attention from this segment: {share:.2%}").format(share=share) for share in mass],
        ),
        key="memory text",
        theme=page.theme,
        height=420,
        alt=", ".join(f"{names[status]}: {sizes[status]} tokens" for status in STATUSES if sizes[status]),
    )
    if variant == "slots":
        _slots(page, mechanism, segment, named)
    elif variant in STATES:
        _rewriting(page, mechanism)


def _slots(page: Page, mechanism: Memory, segment: int, named: str) -> None:
    st.subheader(_("What each slot holds"), anchor=False)
    result = run(SlotsHeld(source=page.source, setting=Setting.of(mechanism), segment=segment))
    if "slots" not in result.tables:
        st.info(prose(NAME, "slots_none"))
        return
    table = result.tables["slots"]
    said = prose(NAME, "slots", segment=named, spread=float(table["spread"].mean()), newest=float(table["last segment"].mean()))
    figure(
        page,
        "slots",
        result,
        slots_chart(result.arrays["held"], page.theme, start=int(result.arrays["start"])),
        table=table,
        caption=said,
        alt=said,
        shown=type(mechanism),
    )
    st.caption(said)


def _rewriting(page: Page, mechanism: Memory) -> None:
    st.subheader(_("The same key again"), anchor=False)
    result = run(
        Rewriting(
            source=page.source, half_life=mechanism.half_life, beta=mechanism.beta, decays=mechanism.decays, seed=mechanism.seed
        )
    )
    table = result.tables["writes"]
    last = table[(table["variant"] == "delta")].iloc[-1]
    said = prose(
        NAME,
        "rewriting",
        writes=int(table["writes"].max()),
        gap=int(result.arrays["gap"]),
        beta=mechanism.beta,
        newest=float(last["newest"]),
    )
    figure(
        page,
        "same-key-again",
        result,
        rewriting_chart(table, page.theme),
        table=table,
        caption=said,
        alt=said,
        shown=type(mechanism),
    )
    st.caption(said)
