"""Memory, measured: maps, attention by distance, all memories at one budget, error against size, recall of one word."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from longattn_core.charts.figures.memory_measures import comparison_chart, lags_chart, sizes_chart
from longattn_core.charts.figures.memory_states import norms_chart, recall_chart
from longattn_core.mechanisms.memory import Memory
from longattn_core.mechanisms.memory.mechanism import NAMES
from longattn_core.studies.base.study import Result, Setting, sequence_of
from longattn_core.studies.memory import MemoryComparison, MemoryLags, MemorySizes, comparison_finding
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.map_card import maps_card
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose, quoted
from pages.memory.hero import MemoryRun, comparison_words
from pages.memory.states import state_life


def measure(page: Page, memory: MemoryRun) -> None:
    """Maps with why, attention by lag, all memories at one budget, error against size, recall of one word."""
    mechanism = memory.mechanism
    maps_card(page, mechanism)
    st.subheader(_("By distance"), anchor=False)
    _lags(page, mechanism)
    st.subheader(_("All seven at 64 keys or features"), anchor=False)
    sweep_card(page, MemoryComparison(source=page.source), lambda result: _comparison(page, result))
    st.subheader(_("How much must be remembered?"), anchor=False)
    _sizes(page, mechanism)
    st.subheader(_("Does a running state find one word again?"), anchor=False)
    _recall(page, mechanism)


def _lags(page: Page, mechanism: Memory) -> None:
    with st.spinner(_("Counting by distance …")):
        result = run(MemoryLags(source=page.source, setting=Setting.of(mechanism)))
    without_sinks = state.switch("memory.bare", _("Leave out the sinks"), default=True, view=True)
    words = prose(page.name, "lags", bare=prose(page.name, "bare" if without_sinks else "with_sinks"))
    table = result.tables["lags"]
    chart = lags_chart(table, page.theme, without_sinks=without_sinks, label=NAMES[mechanism.variant])
    figure(page, "by-lag", result, chart, table=table, caption=words, alt=words, shown=Memory)
    st.caption(f"{words} {result.words['sample'].capitalize()}.")


def _comparison(page: Page, result: Result) -> None:
    rows = result.tables["points"]
    finding = comparison_finding(rows)
    words = comparison_words(finding)
    st.markdown(words)
    if finding.kind == "unknown":
        return
    chart = comparison_chart(rows, page.theme, control=finding.control)
    figure(
        page,
        "seven-memories",
        result,
        chart,
        table=rows,
        shown=Memory,
        alt=words,
        caption=_("Error of every memory at about 64 keys or features beside the mean of the visible values."),
    )


def _sizes(page: Page, mechanism: Memory) -> None:
    sequence = sequence_of(page.source)
    worth = sequence.d * sequence.e / (sequence.d + sequence.e)
    words = prose(page.name, "sizes", state=worth, segment=min(mechanism.segment, sequence.n))
    # The sweep varies the size, so the setting holds none: a moved size measures nothing anew.
    study = MemorySizes(source=page.source, setting=Setting.of(mechanism.with_dials(variant="cache", memory=64, slots=16)))
    sizes = {"cache": mechanism.memory, "compressed": mechanism.memory + mechanism.compressed, "slots": mechanism.slots}
    size = sizes.get(mechanism.variant, worth)

    def draw(result: Result) -> None:
        rows = result.tables["points"]
        rows = rows[rows["error"].notna()]
        if not len(rows):
            return
        chart = sizes_chart(rows, page.theme, control=float(rows["control"].iloc[0]), size=min(size, sequence.n))
        figure(page, "against-size", result, chart, table=rows, caption=words, alt=words, shown=Memory)

    st.caption(words)
    sweep_card(page, study, draw)


def _recall(page: Page, mechanism: Memory) -> None:
    result = state_life(page, mechanism)
    if result is None:
        return
    table, planted = result.tables["recall"], int(result.arrays["planted"])
    word = quoted(str(result.arrays["tokens"][planted]))
    words = prose(page.name, "recall", word=word, planted=planted, recall_said=_recalled(table))
    st.markdown(words)
    figure(page, "recall-of-a-word", result, recall_chart(table, page.theme), table=table, caption=words, alt=words)
    norms, size_words = result.tables["norms"], prose(page.name, "norms")
    figure(page, "size-of-the-state", result, norms_chart(norms, page.theme), table=norms, caption=size_words, alt=size_words)
    st.caption(size_words)


def _recalled(recall: pd.DataFrame) -> str:
    """Which states point nearer to the word's value at the end than the mean of all values, by more than a hundredth."""
    last = recall[recall["age"] == recall["age"].max()]
    better = list(last.loc[last["cosine"] > last["control"] + 0.01, "label"])
    section = "recall_none" if not better else "recall_one" if len(better) == 1 else "recall_better"
    return prose("memory", section, names=", ".join(better))
