"""Memory in formulas: how far layers reach, and what a memory costs."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.memory_measures import reach_chart
from longattn_core.charts.figures.memory_states import survival_chart
from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.memory import MemoryReach
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, latex_count, latex_percent, prose
from pages.memory.hero import MemoryRun
from pages.memory.states import state_life

REACHES = {"none": _("segments alone"), "cache": _("cache"), "rule": _("rule: layers × M"), "blended": _("slots or a state")}


def theory(page: Page, memory: MemoryRun) -> None:
    """Reach through layers, cost, and how fast states forget, with the numbers of this run."""
    st.subheader(_("How far back after several layers?"), anchor=False)
    _reach(page, memory)
    st.subheader(_("What it costs"), anchor=False)
    whole = memory.result.tables["whole"].iloc[0]
    counted, exact = int(whole["cost"]), int(whole["exact cost"])
    name = "cost_state" if memory.is_state else "cost_window"
    formula(page, name, counted=latex_count(counted), exact=latex_count(exact), share=latex_percent(counted / exact))
    st.caption(prose(page.name, "cost_less" if counted < exact else "cost_more"))
    st.subheader(_("How fast a state forgets"), anchor=False)
    mechanism = memory.mechanism
    gamma = 2 ** (-1 / mechanism.half_life)
    formula(page, "states", half=f"{mechanism.half_life:.3g}", gamma=f"{gamma:.4f}", beta=f"{mechanism.beta:.2f}")
    life = state_life(page, mechanism)
    if life is not None:
        table, words = life.tables["survival"], prose(page.name, "survival")
        figure(page, "what-is-left", life, survival_chart(table, page.theme), table=table, caption=words, alt=words)
        st.caption(words)


def _reach(page: Page, memory: MemoryRun) -> None:
    layers = state.slide("memory.layers", _("Layers"), list(range(1, 31)), default=8, parse=int, view=True)
    result = run(MemoryReach(source=page.source, setting=memory.setting, layers=layers))
    table, arrays = result.tables["reach"], result.arrays
    last = table[table["layer"] == layers].set_index("kind")["back"]
    back, rule = int(last["cache"]), int(last["rule"])
    formula(
        page,
        "reach",
        last=latex_count(int(arrays["last"])),
        segment=latex_count(int(arrays["segment"])),
        memory=latex_count(int(arrays["memory"])),
        back=latex_count(back),
        layers=layers,
    )
    st.markdown(prose(page.name, "reach_divides" if bool(arrays["divides"]) else "reach_not", rule=rule, back=back))
    names = REACHES | {"compressed": _("cache and summaries")}
    words = prose(page.name, "reach")
    figure(
        page,
        "reach-against-layers",
        result,
        reach_chart(table, page.theme, n=page.tokens, names=names),
        table=table,
        caption=words,
        alt=", ".join(f"{names[kind]}: {int(last[kind])} tokens" for kind in names),
        shown=Memory,
    )
    st.caption(words)
