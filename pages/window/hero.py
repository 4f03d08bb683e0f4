"""The ledger of the window page: each query's weight by the part that sees it, and the text as one query sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from longattn_core.charts.figures.window import PART_NAMES, ledger_chart, part_colours, queries_a_bar
from longattn_core.mechanisms.window import Window
from longattn_core.studies.base.recall_point import SettingPoint, measured
from longattn_core.studies.base.study import Setting
from longattn_core.studies.window.finding import LedgerFinding, ledger_finding
from longattn_core.studies.window.ledger import MOST, PARTS, Ledger
from pages.kit import state
from pages.kit.components.token_text import MOST_TOKENS, TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure, legend
from pages.kit.query_run import QueryRun, outside
from pages.kit.sections import answer, predict
from pages.kit.text import _, ngettext, prose, token_count

NEAR = 0.1
"""An error within this share of the control's is called about the same."""
FIRST = 4
"""The first tokens that the comparison keeps."""


@dataclass(frozen=True, kw_only=True)
class LedgerRun(QueryRun):
    """One run of the page: the mechanism, its ledger, and what it says."""

    mechanism: Window
    finding: LedgerFinding

    @property
    def outside(self) -> str:
        """The words that say that sinks are left out, where the head has any."""
        count = 0 if self.refused else len(self.result.arrays["sinks"])
        return outside(count)

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers that the page's sentences may name."""
        return {
            "recall": self.finding.recall,
            "share": self.finding.share,
            "outside": self.outside,
            "error": self.finding.error,
            "control": self.finding.control,
        }


def ledger_run(page: Page, mechanism: Window) -> LedgerRun:
    """Keep the ledger of one pattern, for the query that was chosen."""
    query = state.recall("window.query", None, int)
    place = query if query is not None and 0 <= query < min(page.tokens, 65536) else None
    result = run(Ledger(source=page.source, setting=Setting.of(mechanism), query=place))
    return LedgerRun(mechanism=mechanism, result=result, finding=ledger_finding(result))


def hero(page: Page, ledger: LedgerRun) -> None:
    """The answer, the ledger over all queries, and the text as the asked query sees it."""
    finding = ledger.finding
    if ledger.refused:
        answer(page, "refused", reason=ledger.result.words["refusal"])
        return
    asked = prose(
        "window",
        f"asked_{finding.asked}",
        query=ledger.name(ledger.query),
        key=ledger.name(int(ledger.result.arrays["marked"])),
        weight=finding.weight,
        distance=token_count(finding.distance),
        lost=finding.asked_lost,
    )
    answer(page, finding.kind, asked=asked, parts=_parts(ledger), chance=_chance(finding), **ledger.numbers)
    table = ledger.result.tables["ledger"]
    there = set(table["part"].unique())
    present = [name for name in PARTS if name in there]
    inks = part_colours(page.theme)
    legend(page, [(inks[name], _(PART_NAMES[name]), "") for name in present])
    figure(
        page,
        "ledger",
        ledger.result,
        ledger_chart(table, page.theme, query=ledger.query, token=str(ledger.result.arrays["tokens"][ledger.query])),
        table=table,
        shown=Window,
        caption=_("Exact attention's weight by the part of “{label}” that sees it, query by query.").format(
            label=ledger.mechanism.label
        ),
        alt=_("Stacked bars over the queries. On average {parts}").format(parts=_parts(ledger)),
    )
    n = page.tokens
    sampled = (
        "" if n <= MOST else _("{count} queries of the text, {sample}.").format(count=MOST, sample=ledger.result.words["sample"])
    )
    together = queries_a_bar(table["query"].nunique())
    bar = ngettext("One bar a query", "Each bar is the mean of {count} neighbouring queries", max(1, together)).format(
        count=together
    )
    worse = "error_better" if finding.error < finding.control else "error_worse"
    st.caption(f"{prose('window', 'ledger', bar=bar, sample=sampled)} {prose('window', worse, **ledger.numbers)}")
    if page.presenting:
        return
    if n > MOST_TOKENS:
        st.info(prose("window", "text_long", most=MOST_TOKENS))
    else:
        _text(page, ledger, present)


def _parts(ledger: LedgerRun) -> str:
    """What the pattern sees by which part, and what it loses, as means over the queries."""
    finding, mechanism = ledger.finding, ledger.mechanism
    near = _("its window of {width}").format(width=mechanism.width) if windowed(mechanism) else _("its own block")
    said = [_("on average {near} sees {share:.0%} of a query's weight").format(near=near, share=finding.near)]
    if finding.first > 0:
        count = mechanism.sinks if mechanism.variant == "sinks" else mechanism.global_tokens
        said.append(_("the first {count} tokens hold {share:.0%}").format(count=count, share=finding.first))
    if finding.blocks > 0:
        which = _("chosen blocks") if mechanism.variant == "selected" else _("random blocks and whole rows")
        said.append(_("{which} hold {share:.0%}").format(which=which, share=finding.blocks))
    lost = _("{share:.0%} is lost").format(share=finding.lost)
    if finding.lost_sinks > 0.005:
        lost += _(" ({share:.0%} of it on sinks)").format(share=finding.lost_sinks / finding.lost)
    return f"{', '.join(said)}, {lost}."


def windowed(mechanism: Window) -> bool:
    """Whether the pattern has a sliding window at all."""
    return mechanism.variant != "selected" or mechanism.windowed


def _chance(finding: LedgerFinding) -> str:
    """What is said of recall beside the share of pairs, where it is hardly more."""
    return _(", hardly more than a blind choice would") if finding.recall <= 1.5 * finding.share else ""


def _text(page: Page, ledger: LedgerRun, present: list[str]) -> None:
    arrays = ledger.result.arrays
    inks = part_colours(page.theme)
    seen = arrays["seen by"]
    lost = PARTS.index("lost elsewhere")
    names = {index: _(PART_NAMES[name]) for index, name in enumerate(PARTS[:3])}
    exact = arrays["exact"]
    notes = ["" if np.isnan(weight) else _("exact weight {weight:.3g}").format(weight=float(weight)) for weight in exact]
    notes = [f"{_('not seen')} · {note}" if part == lost else note for part, note in zip(seen, notes, strict=True)]
    token_text(
        TextPicture(
            tokens=ledger.spaced,
            groups=np.where(seen == lost, -1, seen),
            group_names=names,
            group_colours={index: inks[name] for index, name in enumerate(PARTS[:3])},
            notes=notes,
            selected=ledger.query,
            causal_from=ledger.query if page.causal else None,
        ),
        key="window text",
        theme=page.theme,
        height=150,
        caption=prose("window", "text", query=str(arrays["tokens"][ledger.query]).strip()),
        on_token=lambda token: state.remember("window.query", token),
    )


def guess(page: Page, ledger: LedgerRun) -> None:
    """Guess how the window alone stands to looking at nothing. What is right is computed once somebody has guessed."""
    if ledger.refused:
        return
    width, control = ledger.mechanism.width, ledger.finding.control
    options = [_("clearly nearer to exact"), _("about the same"), _("further away than looking at nothing")]
    if state.recall("window.guess.alone", None, int) is None:
        predict(page, "alone", options, 0, width=width, control=control)
        return
    alone, beside = (
        float(measured(SettingPoint(source=page.source, setting=Setting(key="window", dials=dials)))["error"])
        for dials in ({"variant": "sliding", "width": width}, {"variant": "sinks", "width": width, "sinks": FIRST})
    )
    verdict = 0 if alone < (1 - NEAR) * control else 2 if alone > (1 + NEAR) * control else 1
    said = prose("window", f"verdict_{('better', 'same', 'worse')[verdict]}", control=control)
    why = prose("window", "why_sink" if beside < (1 - NEAR) * alone else "why_no_sink")
    predict(page, "alone", options, verdict, width=width, control=control, alone=alone, beside=beside, verdict=said, why=why)
