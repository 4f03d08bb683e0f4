"""Patterns measured: against the width, beside one another, in the whole model, which queries attend, and the maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from longattn_core.charts.figures.window import (
    active_chart,
    error_chart,
    pattern_pictures,
    patterns_chart,
    recall_chart,
    swaps_chart,
    verdict_colours,
)
from longattn_core.charts.style.altair import themed
from longattn_core.mechanisms.probsparse.mechanism import ProbSparse
from longattn_core.mechanisms.window import Window
from longattn_core.studies.base.recall_point import LONGEST
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.window.active_queries import ActiveQueries
from longattn_core.studies.window.finding import active_finding, swap_finding
from longattn_core.studies.window.patterns import Patterns
from longattn_core.studies.window.swaps import Swaps
from longattn_core.studies.window.widths import WindowWidths
from pages.kit import state
from pages.kit.components.token_text import MOST_TOKENS, TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.dials import dials
from pages.kit.figure import figure
from pages.kit.figure_menu import figure_menu
from pages.kit.map_card import maps_card
from pages.kit.query_run import spaced_tokens
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, escaped, prose
from pages.window.hero import LedgerRun
from pages.window.step import KEYS, small_map

PICTURE = 150
"""Pixels across of a pattern's small map."""


def measure(page: Page, ledger: LedgerRun) -> None:
    """One of five measurements at a time: only what is chosen is computed."""
    parts: dict[str, tuple[str, Callable[[Page, LedgerRun], None]]] = {
        "widths": (_("How wide"), _widths),
        "swaps": (_("In the whole model"), _swaps),
        "patterns": (_("Other patterns"), _patterns),
        "active": (_("Which queries attend"), _active),
        "maps": (_("Maps"), _maps),
    }
    chosen = state.choose(
        "window.what",
        _("Measured"),
        list(parts),
        default="widths",
        labels=lambda name: parts[name][0],
        style="segments",
        view=True,
    )
    parts[chosen][1](page, ledger)


def _widths(page: Page, ledger: LedgerRun) -> None:
    st.caption(prose("window", "widths"))
    _cut(page)
    sweep_card(page, WindowWidths(source=page.source), lambda result: _width_curves(page, ledger, result))


def _cut(page: Page) -> None:
    """Say so where a long text was cut."""
    if page.tokens > LONGEST:
        st.caption(prose("window", "cut", most=LONGEST, n=page.tokens))


def _width_curves(page: Page, ledger: LedgerRun, result: Result) -> None:
    now = float(ledger.mechanism.width)
    control = float(result.words.get("control", "nan"))
    points = result.tables["points"]
    figure(
        page,
        "window-recall",
        result,
        recall_chart(result.tables["curves"], page.theme, now=now),
        table=points,
        shown=Window,
        title=_("Weight found"),
        caption=_("Weight found against the window's width, beside the share of pairs looked at."),
        alt=_("Curves of the weight found against the width, from {low:.0%} to {high:.0%}.").format(
            low=float(points["recall"].min()), high=float(points["recall"].max())
        ),
    )
    figure(
        page,
        "window-error",
        result,
        error_chart(result.tables["errors"], page.theme, control=control, now=now),
        table=points,
        shown=Window,
        title=_("Error of the output"),
        caption=_("Relative error of the output against the window's width, with and without the first tokens."),
        alt=_("Curves of the error against the width; the mean of the visible values has {control:.2f}.").format(control=control),
    )


def _swaps(page: Page, ledger: LedgerRun) -> None:
    mechanism = ledger.mechanism
    study = Swaps(source=page.source, width=min(512, mechanism.width), sinks=min(64, mechanism.sinks))
    sweep_card(page, study, lambda result: _swapped(page, result))


def _swapped(page: Page, result: Result) -> None:
    finding, table = swap_finding(result), result.tables["swaps"]
    words = result.words
    text = prose("window", f"swaps_{words['text']}", tokens=words["tokens"])
    expected = words["expected"].strip() or _("a space")
    st.caption(prose("window", "swaps", text=text, expected=escaped(expected)))
    left, right = st.columns([3, 2], gap="large")
    with left:
        figure(
            page,
            "swap-perplexity",
            result,
            swaps_chart(
                table, page.theme, column="perplexity", ends=("least", "most"), title=_("perplexity (logarithmic)"), log=True
            ),
            table=table,
            shown=Window,
            title=_("Perplexity"),
            caption=_("Perplexity with a pattern in every layer."),
            alt=", ".join(f"{row['name']}: {row['perplexity']:.1f}" for row in table.to_dict("records")),
        )
    with right:
        figure(
            page,
            "swap-probability",
            result,
            swaps_chart(
                table,
                page.theme,
                column="probability",
                ends=("lowest", "highest"),
                title=_("probability"),
                log=False,
                names=False,
            ),
            table=table,
            shown=Window,
            title=_("Does it still know “{token}”?").format(token=escaped(expected)),
            caption=_("Probability of the token that the unchanged model expects next."),
            alt=", ".join(f"{row['name']}: {row['probability']:.3f}" for row in table.to_dict("records")),
        )
    if finding.kind != "waiting":
        st.markdown(
            prose(
                "window",
                f"swap_{finding.kind}",
                name=finding.name,
                perplexity=finding.perplexity,
                exact=finding.exact,
                expected=finding.expected,
                probability=finding.probability,
            )
        )
    if all(np.isfinite(value) for value in (finding.hashed, finding.combined, finding.alone)):
        part = "part_hash" if finding.combined < 0.97 * finding.alone else "part_none"
        st.markdown(
            prose(
                "window",
                "swap_combined",
                hashed=finding.hashed,
                combined=finding.combined,
                alone=finding.alone,
                part=prose("window", part),
            )
        )


def _patterns(page: Page, ledger: LedgerRun) -> None:
    with st.spinner(_("Measuring the patterns …")):
        result = run(Patterns(source=page.source, keys=KEYS))
    table = result.tables["patterns"]
    st.caption(prose("window", "patterns", outside=ledger.outside))
    _cut(page)
    figure(
        page,
        "patterns",
        result,
        patterns_chart(table, page.theme),
        table=table,
        shown=Window,
        caption=_("Patterns at about {keys} keys a query: weight found against pairs looked at.").format(keys=KEYS),
        alt=", ".join(
            f"{row['name']}: {row['recall without sinks']:.0%} / {row['share without sinks']:.0%}"
            for row in table.to_dict("records")
        ),
    )
    _pictures(page, result)


def _pictures(page: Page, result: Result) -> None:
    """The patterns' small maps, as many beside one another as the screen holds."""
    table, seen = result.tables["patterns"], result.arrays["seen"]
    st.caption(prose("window", "pictures"))
    with st.container(horizontal=True, gap="small", key="window-pictures"):
        for index, (name, idea) in enumerate(zip(table["name"], table["idea"], strict=True)):
            with st.container(width=PICTURE + 16):
                small_map(page, name, idea, seen[index], size=PICTURE)
    figure_menu(
        "pattern-pictures",
        result,
        shown=Window,
        chart=lambda: themed(
            pattern_pictures(list(table["name"]), list(table["idea"]), seen, page.theme, causal=page.causal), page.theme
        ),
        table=table,
        caption=_("What each pattern looks at: queries downwards, keys across."),
    )


def _active(page: Page, ledger: LedgerRun) -> None:
    st.markdown(prose("window", "active"))
    with st.expander(_("Dials of ProbSparse")):
        mechanism = dials(ProbSparse, "m.probsparse", columns=3, skip=frozenset({"measure"}))
    with st.spinner(_("Measuring every query …")):
        result = run(ActiveQueries(source=page.source, setting=Setting.of(mechanism)))
    if refusal := result.words.get("refusal"):
        st.info(refusal, icon=":material/block:")
        return
    finding, table = active_finding(result), result.tables["queries"]
    verdict = "" if finding.error < finding.control else _(": no better than looking at nothing")
    st.markdown(
        prose(
            "window",
            f"active_{finding.kind}",
            both=finding.both,
            rightful=finding.rightful,
            found=finding.both / max(1, finding.rightful),
            chance=finding.chance,
            error=finding.error,
            control=finding.control,
            verdict=verdict,
        )
    )
    figure(
        page,
        "probsparse-measure",
        result,
        active_chart(table, page.theme),
        table=table,
        shown=ProbSparse,
        caption=_("Each query's measure on the sampled keys against its measure on all of them."),
        alt=_("A scatter of {count} queries; {active} attend.").format(count=len(table), active=finding.active),
    )
    if page.tokens <= MOST_TOKENS:
        _measured_text(page, result)


def _measured_text(page: Page, result: Result) -> None:
    table = result.tables["queries"]
    measures = result.arrays["measure"]
    verdicts = dict(zip(table["position"], table["verdict"], strict=True))
    ranks = {int(p): r for p, r in zip(table["position"], table["exact"].rank(ascending=False).astype(int), strict=True)}
    notes = [
        ""
        if place not in verdicts
        else _("{verdict}; rank {rank} of {of}, measure {value:.2f}").format(
            verdict=verdicts[place], rank=ranks[place], of=len(table), value=float(measures[place])
        )
        for place in range(len(measures))
    ]
    inks = verdict_colours(page.theme)
    groups = np.full(len(measures), -1)
    for index, verdict in enumerate(inks):
        groups[table.loc[table["verdict"] == verdict, "position"].to_numpy()] = index
    token_text(
        TextPicture(
            tokens=spaced_tokens(result),
            groups=groups,
            group_names={index: _(name) for index, name in enumerate(inks)},
            group_colours=dict(enumerate(inks.values())),
            notes=notes,
        ),
        key="probsparse text",
        theme=page.theme,
        link="",
        height=240,
        caption=prose("window", "active_text"),
    )


def _maps(page: Page, ledger: LedgerRun) -> None:
    st.caption(prose("window", "maps"))
    maps_card(page, ledger.mechanism)
