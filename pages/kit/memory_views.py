"""The three looks closer at memory: what is held at a step; maps, lags, sizes, recall; reach, cost and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.memory import (
    lags_chart,
    norms_chart,
    reach_chart,
    recall_chart,
    rewriting_chart,
    sizes_chart,
    slots_chart,
    spans_of,
    standing_chart,
    status_colours,
    status_names,
    survival_chart,
)
from longattn_core.mechanisms.memory import NAMES, Memory
from longattn_core.studies.memory import (
    STATUSES,
    MemoryLags,
    MemoryReach,
    MemorySizes,
    MemoryStanding,
    Rewriting,
    SlotsHeld,
    StateLife,
    standing,
)
from longattn_core.studies.study import Result, Setting
from pages.kit import state
from pages.kit.cards import figure, maps_card
from pages.kit.compute import run
from pages.kit.lesson import formula
from pages.kit.memory_hero import NAME, STATES, standing_said
from pages.kit.page import Page
from pages.kit.sweeps import sweep_card
from pages.kit.token_text import token_text
from pages.kit.words import _, prose, quoted

REACHES = {"none": _("segments alone"), "cache": _("cache"), "rule": _("rule: layers × M"), "blended": _("slots or a state")}


def step(here: Page, result: Result, mechanism: Memory, at: int) -> None:
    """The text in the colours of the memory at this step, and what slots or a state hold."""
    arrays, variant = result.arrays, mechanism.variant
    segment = int(arrays["stops"][at])
    spans, n = arrays["spans"][segment], len(arrays["tokens"])
    both_ways = variant in STATES and not here.causal
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
    names, inks = status_names(variant), status_colours(here.theme)
    space = "" if result.study.source.kind == "text" else " "
    mass = arrays["mass"][at]
    token_text(
        [f"{space}{token}" for token in arrays["tokens"]],
        key="memory text",
        theme=here.theme,
        groups=held,
        group_names={i: names[status] for i, status in enumerate(STATUSES)},
        group_colours={i: inks[status] for i, status in enumerate(STATUSES)},
        notes=[_("exact attention from this segment: {share:.2%}").format(share=share) for share in mass],
        height=420,
        alt=", ".join(f"{names[status]}: {sizes[status]} tokens" for status in STATUSES if sizes[status]),
    )
    if variant == "slots":
        _slots(here, mechanism, segment, named)
    elif variant in STATES:
        _rewriting(here, mechanism)


def _slots(here: Page, mechanism: Memory, segment: int, named: str) -> None:
    st.subheader(_("What each slot holds"), anchor=False)
    result = run(SlotsHeld(source=here.source, setting=Setting.of(mechanism), segment=segment))
    if "slots" not in result.tables:
        st.info(prose(NAME, "slots_none"))
        return
    table = result.tables["slots"]
    said = prose(NAME, "slots", segment=named, spread=float(table["spread"].mean()), newest=float(table["last segment"].mean()))
    figure(
        here,
        "slots",
        result,
        slots_chart(result.arrays["held"], here.theme, start=int(result.arrays["start"])),
        table=table,
        caption=said,
        alt=said,
        shown=type(mechanism),
    )
    st.caption(said)


def _rewriting(here: Page, mechanism: Memory) -> None:
    st.subheader(_("The same key again"), anchor=False)
    result = run(
        Rewriting(
            source=here.source, half_life=mechanism.half_life, beta=mechanism.beta, decays=mechanism.decays, seed=mechanism.seed
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
        here,
        "same-key-again",
        result,
        rewriting_chart(table, here.theme),
        table=table,
        caption=said,
        alt=said,
        shown=type(mechanism),
    )
    st.caption(said)


def measure(here: Page, mechanism: Memory) -> None:
    """Maps with why, attention by lag, all memories at one budget, error against size, recall of one word."""
    maps_card(here, mechanism)
    st.subheader(_("By distance"), anchor=False)
    _lags(here, mechanism)
    st.subheader(_("All seven at 64 keys or features"), anchor=False)
    sweep_card(here, MemoryStanding(source=here.source), lambda result: _standing(here, result))
    st.subheader(_("How much must be remembered?"), anchor=False)
    _sizes(here, mechanism)
    st.subheader(_("Does a running state find one word again?"), anchor=False)
    _recall(here, mechanism)


def _lags(here: Page, mechanism: Memory) -> None:
    with st.spinner(_("Counting by distance …")):
        result = run(MemoryLags(source=here.source, setting=Setting.of(mechanism)))
    bare = state.switch(f"{NAME}.bare", _("Leave out the sinks"), default=True)
    said = prose(NAME, "lags", bare=prose(NAME, "bare" if bare else "with_sinks"))
    table = result.tables["lags"]
    chart = lags_chart(table, here.theme, bare=bare, label=NAMES[mechanism.variant])
    figure(here, "by-lag", result, chart, table=table, caption=said, alt=said, shown=type(mechanism))
    st.caption(f"{said} {result.words['sample'].capitalize()}.")


def _standing(here: Page, result: Result) -> None:
    rows = result.tables["points"]
    found = standing(rows)
    st.markdown(standing_said(found))
    if found.kind == "unknown":
        return
    chart = standing_chart(rows, here.theme, control=found.control)
    figure(
        here,
        "seven-memories",
        result,
        chart,
        table=rows,
        shown=Memory,
        alt=standing_said(found),
        caption=_("Error of every memory at about 64 keys or features beside the mean of the visible values."),
    )


def _sizes(here: Page, mechanism: Memory) -> None:
    sequence = MemorySizes(source=here.source).sequence()
    worth = sequence.d * sequence.e / (sequence.d + sequence.e)
    said = prose(NAME, "sizes", state=worth, segment=min(mechanism.segment, sequence.n))
    # The size is what the sweep walks along: it is no part of the setting, so that moving it measures nothing anew.
    study = MemorySizes(source=here.source, setting=Setting.of(mechanism.with_dials(variant="cache", memory=64, slots=16)))
    sizes = {"cache": mechanism.memory, "compressed": mechanism.memory + mechanism.compressed, "slots": mechanism.slots}
    size = sizes.get(mechanism.variant, worth)

    def draw(result: Result) -> None:
        rows = result.tables["points"]
        rows = rows[rows["error"].notna()]
        if not len(rows):
            return
        chart = sizes_chart(rows, here.theme, control=float(rows["control"].iloc[0]), size=min(size, sequence.n))
        figure(here, "against-size", result, chart, table=rows, caption=said, alt=said, shown=Memory)

    st.caption(said)
    sweep_card(here, study, draw)


def _life(here: Page, mechanism: Memory) -> Result | None:
    study = StateLife(
        source=here.source, half_life=mechanism.half_life, beta=mechanism.beta, decays=mechanism.decays, seed=mechanism.seed
    )
    with st.spinner(_("Four running states read the text …")):
        result = run(study)
    if "recall" not in result.tables:
        st.info(result.words["refusal"], icon=":material/block:")
        return None
    return result


def _recall(here: Page, mechanism: Memory) -> None:
    result = _life(here, mechanism)
    if result is None:
        return
    table, planted = result.tables["recall"], int(result.arrays["planted"])
    word = quoted(str(result.arrays["tokens"][planted]))
    said = prose(NAME, "recall", word=word, planted=planted, recall_said=_recalled(table))
    st.markdown(said)
    figure(here, "recall-of-a-word", result, recall_chart(table, here.theme), table=table, caption=said, alt=said)
    norms, words = result.tables["norms"], prose(NAME, "norms")
    figure(here, "size-of-the-state", result, norms_chart(norms, here.theme), table=norms, caption=words, alt=words)
    st.caption(words)


def _recalled(recall: pd.DataFrame) -> str:
    """Who points nearer to the word's value than the mean of all values, at the end, by more than a hundredth."""
    last = recall[recall["age"] == recall["age"].max()]
    better = list(last.loc[last["cosine"] > last["control"] + 0.01, "label"])
    section = "recall_none" if not better else "recall_one" if len(better) == 1 else "recall_better"
    return prose(NAME, section, names=", ".join(better))


def theory(here: Page, result: Result, mechanism: Memory) -> None:
    """Reach through layers, cost, and how fast states forget, with today's numbers."""
    st.subheader(_("How far back after several layers?"), anchor=False)
    _reach(here, mechanism)
    st.subheader(_("What it costs"), anchor=False)
    whole = result.tables["whole"].iloc[0]
    counted, exact = int(whole["cost"]), int(whole["exact cost"])
    name = "cost_state" if mechanism.variant in STATES else "cost_window"
    share = f"{counted / exact:.1%}".replace("%", r"\,\%")
    formula(here, name, counted=_count(counted), exact=_count(exact), share=share)
    st.caption(prose(NAME, "cost_less" if counted < exact else "cost_more"))
    st.subheader(_("How fast a state forgets"), anchor=False)
    gamma = 2 ** (-1 / mechanism.half_life)
    formula(here, "states", half=f"{mechanism.half_life:.3g}", gamma=f"{gamma:.4f}", beta=f"{mechanism.beta:.2f}")
    life = _life(here, mechanism)
    if life is not None:
        table, said = life.tables["survival"], prose(NAME, "survival")
        figure(here, "what-is-left", life, survival_chart(table, here.theme), table=table, caption=said, alt=said)
        st.caption(said)


def _reach(here: Page, mechanism: Memory) -> None:
    layers = state.slide(f"{NAME}.layers", _("Layers"), list(range(1, 31)), default=8, parse=int)
    result = run(MemoryReach(source=here.source, setting=Setting.of(mechanism), layers=layers))
    table, arrays = result.tables["reach"], result.arrays
    last = table[table["layer"] == layers].set_index("kind")["back"]
    back, rule = int(last["cache"]), int(last["rule"])
    formula(
        here,
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
        here,
        "reach-against-layers",
        result,
        reach_chart(table, here.theme, n=here.tokens, names=names),
        table=table,
        caption=said,
        alt=", ".join(f"{names[kind]}: {int(last[kind])} tokens" for kind in names),
        shown=Memory,
    )
    st.caption(said)


def _count(number: float) -> str:
    """A whole number as LaTeX sets it, thousands apart."""
    return f"{round(number):,}".replace(",", r"\,") if math.isfinite(number) else r"\infty"
