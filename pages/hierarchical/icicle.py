"""The icicles of one query's mass, exact attention's above the mechanism's; a click goes into a box or explains a token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from longattn_core.charts.figures.hierarchical import SELECTED, icicle_chart, role_colours
from longattn_core.charts.maps import visible
from longattn_core.charts.style.altair import specification
from longattn_core.mechanisms.hierarchical import Hierarchical
from pages.hierarchical.descent import FOCUS, KEY, DescentRun
from pages.kit import state
from pages.kit.context import Page
from pages.kit.figure import exported, legend
from pages.kit.figure_menu import figure_menu
from pages.kit.text import _, escaped, prose
from pages.kit.vega import vega


def icicles(page: Page, descent: DescentRun) -> None:
    """The icicles with the way back up, what their colours mean, and their menu."""
    nodes, finding, label = descent.result.tables["nodes"], descent.finding, descent.mechanism.label
    focus = _focus(nodes)
    _crumbs(nodes, focus)
    levels = " → ".join(descent.names)
    titles = {"exact": _("Exact attention: {levels}").format(levels=levels), "mechanism": _named(descent.mechanism)}
    drawn = {column: title for column, title in titles.items() if focus < 0 or float(nodes[column].iloc[focus]) > 0}
    chart = icicle_chart(nodes, page.theme, best=finding.best, titles=drawn, focus=focus)
    mark = f"icicle {focus} {descent.query}"

    def clicked() -> None:
        _go(st.session_state.get(mark), nodes, focus)

    words = _("Icicles of the attention of token {query}, exact above, {title} below. {target} gets {exact:.0%} and {given:.0%}.")
    vega(
        specification(chart, page.theme),
        key=mark,
        on_select=clicked,
        selection_mode=SELECTED,
        words=words.format(query=descent.query, title=label, target=finding.target, exact=finding.exact, given=finding.given),
    )
    _key(page, descent)
    figure_menu(
        "hierarchical-descent",
        descent.result,
        chart=lambda: exported(page, chart),
        table=nodes,
        shown=Hierarchical,
        caption=f"Attention of one token by paragraph, sentence, word and token: exact, and {label}. "
        f"A box's width is its share. {descent.result.words['origin']}",
    )


def _named(mechanism: Hierarchical) -> str:
    """The mechanism's name with its badge: where its parameters come from."""
    return mechanism.label if mechanism.parameters == "none" else f"{mechanism.label} · {mechanism.parameters}"


def _focus(nodes: pd.DataFrame) -> int:
    """The row of the group that the visitor went into, −1 for the whole text."""

    def parse(text: str) -> int:
        depth, group = (int(part) for part in text.split("."))
        rows = nodes.index[(nodes["depth"] == depth) & (nodes["group"] == group)]
        return int(rows[0]) if len(rows) else -1

    focus = state.recall(FOCUS, -1, parse)
    return focus if focus >= 0 and float(nodes["exact"].iloc[focus] + nodes["mechanism"].iloc[focus]) > 0 else -1


def _crumbs(nodes: pd.DataFrame, focus: int) -> None:
    """The way from the whole text down to where the visitor is, each a button."""
    if focus < 0:
        return
    path = [focus]
    while (parent := int(nodes["parent"].iloc[path[-1]])) >= 0:
        path.append(parent)
    with st.container(horizontal=True, key="hierarchical-crumbs"):
        st.button(_("The whole text"), key="crumb top", type="tertiary", on_click=_leave)
        for row in reversed(path[1:]):
            label = f"› {escaped(visible(str(nodes['label'].iloc[row]), 24))}"
            st.button(label, key=f"crumb {row}", type="tertiary", on_click=_enter, args=(nodes, row))


def _enter(nodes: pd.DataFrame, row: int) -> None:
    state.remember(FOCUS, f"{int(nodes['depth'].iloc[row])}.{int(nodes['group'].iloc[row])}", view=True)


def _leave() -> None:
    state.remember(FOCUS, None, view=True)


def _go(sent: Any, nodes: pd.DataFrame, focus: int) -> None:
    """Follow a click: into a box, out of the top one, or, on a token, to the explanation of its weight."""
    row = clicked_node(sent, len(nodes))
    if row is None:
        return
    if int(nodes["depth"].iloc[row]) == int(nodes["depth"].max()):
        state.remember(KEY, int(nodes["first"].iloc[row]), view=True)
    elif row != focus:
        _enter(nodes, row)
    elif (parent := int(nodes["parent"].iloc[row])) >= 0:
        _enter(nodes, parent)
    else:
        _leave()


def clicked_node(sent: Any, count: int) -> int | None:
    """The row of the box that was clicked, or None where the browser sent no such row (joined boxes have none)."""
    selection = sent.get("selection") if isinstance(sent, Mapping) else None
    points = selection.get(SELECTED) if isinstance(selection, Mapping) else None
    if not isinstance(points, list) or not points or not isinstance(points[0], Mapping):
        return None
    row = points[0].get("id")
    known = isinstance(row, int) and not isinstance(row, bool) and 0 <= row < count
    return row if known else None


def _key(page: Page, descent: DescentRun) -> None:
    """What the colours of the boxes mean, in words beside a patch of each."""
    colours = role_colours(page.theme)
    best, query = _between_marks(descent, descent.finding.best), _between_marks(descent, descent.query)
    words = {
        "target": _("the way to {best}, which exact attention weighs most (sinks left out)").format(best=best),
        "own": _("the groups that {query} stands in").format(query=query),
        "sink": _("a sink: takes weight, adds next to nothing"),
    }
    if not len(descent.result.arrays["sinks"]):
        del words["sink"]
    legend(page, [(colours[role], text, "") for role, text in words.items()])
    st.caption(prose("hierarchical", "hero", query=descent.spelled(descent.query)))


def _between_marks(descent: DescentRun, token: int) -> str:
    """What a token spells, between quotation marks."""
    return f"“{visible(descent.spell(token))}”"
