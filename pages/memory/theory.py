"""Memory in formulas: how far layers reach, and what a memory costs."""

from __future__ import annotations

import math

import streamlit as st

from longattn_core.charts.figures.memory import reach_chart, survival_chart
from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.memory import MemoryReach
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose
from pages.memory.hero import NAME, STATES
from pages.memory.measure import _life

REACHES = {"none": _("segments alone"), "cache": _("cache"), "rule": _("rule: layers × M"), "blended": _("slots or a state")}


def theory(page: Page, result: Result, mechanism: Memory) -> None:
    """Reach through layers, cost, and how fast states forget, with today's numbers."""
    st.subheader(_("How far back after several layers?"), anchor=False)
    _reach(page, mechanism)
    st.subheader(_("What it costs"), anchor=False)
    whole = result.tables["whole"].iloc[0]
    counted, exact = int(whole["cost"]), int(whole["exact cost"])
    name = "cost_state" if mechanism.variant in STATES else "cost_window"
    share = f"{counted / exact:.1%}".replace("%", r"\,\%")
    formula(page, name, counted=_count(counted), exact=_count(exact), share=share)
    st.caption(prose(NAME, "cost_less" if counted < exact else "cost_more"))
    st.subheader(_("How fast a state forgets"), anchor=False)
    gamma = 2 ** (-1 / mechanism.half_life)
    formula(page, "states", half=f"{mechanism.half_life:.3g}", gamma=f"{gamma:.4f}", beta=f"{mechanism.beta:.2f}")
    life = _life(page, mechanism)
    if life is not None:
        table, said = life.tables["survival"], prose(NAME, "survival")
        figure(page, "what-is-left", life, survival_chart(table, page.theme), table=table, caption=said, alt=said)
        st.caption(said)


def _reach(page: Page, mechanism: Memory) -> None:
    layers = state.slide(f"{NAME}.layers", _("Layers"), list(range(1, 31)), default=8, parse=int, view=True)
    result = run(MemoryReach(source=page.source, setting=Setting.of(mechanism), layers=layers))
    table, arrays = result.tables["reach"], result.arrays
    last = table[table["layer"] == layers].set_index("kind")["back"]
    back, rule = int(last["cache"]), int(last["rule"])
    formula(
        page,
        "reach",
        last=_count(int(arrays["last"])),
        segment=_count(int(arrays["segment"])),
        memory=_count(int(arrays["memory"])),
        back=_count(back),
        layers=layers,
    )
    st.markdown(prose(NAME, "reach_divides" if bool(arrays["divides"]) else "reach_not", rule=rule, back=back))
    names = REACHES | {"compressed": _("cache and summaries")}
    said = prose(NAME, "reach")
    figure(
        page,
        "reach-against-layers",
        result,
        reach_chart(table, page.theme, n=page.tokens, names=names),
        table=table,
        caption=said,
        alt=", ".join(f"{names[kind]}: {int(last[kind])} tokens" for kind in names),
        shown=Memory,
    )
    st.caption(said)


def _count(number: float) -> str:
    """A whole number as LaTeX sets it, thousands apart."""
    return f"{round(number):,}".replace(",", r"\,") if math.isfinite(number) else r"\infty"
