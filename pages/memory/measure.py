"""The three looks closer at memory: what is held at a step; maps, lags, sizes, recall; reach, cost and closed forms."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from longattn_core.charts.figures.memory import lags_chart, norms_chart, recall_chart, sizes_chart, standing_chart
from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.mechanism import NAMES
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.memory import MemoryComparison, MemoryLags, MemorySizes, StateLife, comparison_finding
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.map_card import maps_card
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose, quoted
from pages.memory.hero import NAME, standing_said


def measure(page: Page, mechanism: Memory) -> None:
    """Maps with why, attention by lag, all memories at one budget, error against size, recall of one word."""
    maps_card(page, mechanism)
    st.subheader(_("By distance"), anchor=False)
    _lags(page, mechanism)
    st.subheader(_("All seven at 64 keys or features"), anchor=False)
    sweep_card(page, MemoryComparison(source=page.source), lambda result: _standing(page, result))
    st.subheader(_("How much must be remembered?"), anchor=False)
    _sizes(page, mechanism)
    st.subheader(_("Does a running state find one word again?"), anchor=False)
    _recall(page, mechanism)


def _lags(page: Page, mechanism: Memory) -> None:
    with st.spinner(_("Counting by distance …")):
        result = run(MemoryLags(source=page.source, setting=Setting.of(mechanism)))
    bare = state.switch(f"{NAME}.bare", _("Leave out the sinks"), default=True, view=True)
    said = prose(NAME, "lags", bare=prose(NAME, "bare" if bare else "with_sinks"))
    table = result.tables["lags"]
    chart = lags_chart(table, page.theme, bare=bare, label=NAMES[mechanism.variant])
    figure(page, "by-lag", result, chart, table=table, caption=said, alt=said, shown=type(mechanism))
    st.caption(f"{said} {result.words['sample'].capitalize()}.")


def _standing(page: Page, result: Result) -> None:
    rows = result.tables["points"]
    found = comparison_finding(rows)
    st.markdown(standing_said(found))
    if found.kind == "unknown":
        return
    chart = standing_chart(rows, page.theme, control=found.control)
    figure(
        page,
        "seven-memories",
        result,
        chart,
        table=rows,
        shown=Memory,
        alt=standing_said(found),
        caption=_("Error of every memory at about 64 keys or features beside the mean of the visible values."),
    )


def _sizes(page: Page, mechanism: Memory) -> None:
    sequence = MemorySizes(source=page.source).sequence()
    worth = sequence.d * sequence.e / (sequence.d + sequence.e)
    said = prose(NAME, "sizes", state=worth, segment=min(mechanism.segment, sequence.n))
    # The size is what the sweep walks along: it is no part of the setting, so that moving it measures nothing anew.
    study = MemorySizes(source=page.source, setting=Setting.of(mechanism.with_dials(variant="cache", memory=64, slots=16)))
    sizes = {"cache": mechanism.memory, "compressed": mechanism.memory + mechanism.compressed, "slots": mechanism.slots}
    size = sizes.get(mechanism.variant, worth)

    def draw(result: Result) -> None:
        rows = result.tables["points"]
        rows = rows[rows["error"].notna()]
        if not len(rows):
            return
        chart = sizes_chart(rows, page.theme, control=float(rows["control"].iloc[0]), size=min(size, sequence.n))
        figure(page, "against-size", result, chart, table=rows, caption=said, alt=said, shown=Memory)

    st.caption(said)
    sweep_card(page, study, draw)


def _life(page: Page, mechanism: Memory) -> Result | None:
    study = StateLife(
        source=page.source, half_life=mechanism.half_life, beta=mechanism.beta, decays=mechanism.decays, seed=mechanism.seed
    )
    with st.spinner(_("Four running states read the text …")):
        result = run(study)
    if "recall" not in result.tables:
        st.info(result.words["refusal"], icon=":material/block:")
        return None
    return result


def _recall(page: Page, mechanism: Memory) -> None:
    result = _life(page, mechanism)
    if result is None:
        return
    table, planted = result.tables["recall"], int(result.arrays["planted"])
    word = quoted(str(result.arrays["tokens"][planted]))
    said = prose(NAME, "recall", word=word, planted=planted, recall_said=_recalled(table))
    st.markdown(said)
    figure(page, "recall-of-a-word", result, recall_chart(table, page.theme), table=table, caption=said, alt=said)
    norms, words = result.tables["norms"], prose(NAME, "norms")
    figure(page, "size-of-the-state", result, norms_chart(norms, page.theme), table=norms, caption=words, alt=words)
    st.caption(words)


def _recalled(recall: pd.DataFrame) -> str:
    """Who points nearer to the word's value than the mean of all values, at the end, by more than a hundredth."""
    last = recall[recall["age"] == recall["age"].max()]
    better = list(last.loc[last["cosine"] > last["control"] + 0.01, "label"])
    section = "recall_none" if not better else "recall_one" if len(better) == 1 else "recall_better"
    return prose(NAME, section, names=", ".join(better))
