"""The hierarchy page's picture: one query's mass from paragraph to token, exact above the mechanism's, and the text below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.figures.hierarchical import SELECTED, icicle_chart, role_colours
from longattn_core.charts.maps import visible
from longattn_core.charts.style.altair import specification
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.studies.base.study import Result
from longattn_core.studies.hierarchical import DescentFinding
from longattn_core.studies.hierarchical.tree import speller
from pages.kit import state
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.context import Page
from pages.kit.figure import exported, legend
from pages.kit.figure_menu import figure_menu
from pages.kit.map_card import explain_pair
from pages.kit.sections import predict
from pages.kit.text import _, data, escaped, prose, quoted
from pages.kit.vega import vega

_QUERY, _FOCUS = "hierarchical.query", "hierarchical.focus"


def chosen_query(page: Page) -> int | None:
    """The query that the visitor chose; else the one that the sample is known for; else the last token (None)."""
    default = None
    if page.source.kind == "text" and page.source.sample is not None:
        looks = {entry["file"]: entry["look"]["query"] for entry in data("texts/index.json")}
        default = looks.get(page.source.sample)
    query = state.recall(_QUERY, default, _place)
    return query if query is not None and query < page.tokens else None


def _place(text: str) -> int:
    place = int(text)
    if not 0 <= place < 65536:
        raise ValueError("no such token")
    return place


def answers(descent: Result, found: DescentFinding) -> dict[str, Any]:
    """The numbers and names that the page's sentences may hold, safe to stand in Markdown."""
    query, spell = int(descent.arrays["query"]), speller(descent.study.source)
    names, plurals = descent.words["names"].split("\n"), descent.words["plurals"].split("\n")
    return {
        "query": quoted(spell(query, query)),
        "outer": found.outer,
        "outers": plurals[0],
        "inners": plurals[1],
        "inner": names[1],
        "target": escaped(found.target),
        "chosen": escaped(found.chosen),
        "exact": found.exact,
        "given": found.given,
        "rival": found.rival,
        "best": quoted(spell(found.best, found.best)),
        "best_exact": found.best_exact,
        "best_given": found.best_given,
        "kept": found.best_given / found.best_exact if found.best_exact else 0.0,
        "sinks": found.sink_share,
        "measured": found.measured,
        "targets": found.targets,
        "lost": found.lost_share,
        "arrive": found.arrive_share,
    }


def descent_picture(page: Page, mechanism: Hierarchical, descent: Result, found: DescentFinding | None) -> None:
    """The icicles, the way back up, the text; a click goes into a box or chooses a query."""
    tokens, query = [str(token) for token in descent.arrays["tokens"]], int(descent.arrays["query"])
    weights = descent.arrays["mechanism" if found is not None else "exact"]
    if found is not None:
        _icicles(page, mechanism, descent, found)
    key = state.recall("hierarchical.key", None, _place)
    if found is not None and key is not None and key < len(tokens):
        explain_pair(page, mechanism, query, key, tokens)
    title = mechanism.label if found is not None else _("Exact attention")
    token_text(
        TextPicture(tokens=tokens, weights=weights, selected=query, causal_from=query if page.causal else None),
        key="hierarchical text",
        theme=page.theme,
        height=168,
        caption=_("{title}: what the framed word gives each token. Click a word to let it look back.").format(title=title),
        alt=_("The text, tinted by the weights of token {query}.").format(query=query),
        on_token=_look_back,
    )


def guess(page: Page, descent: Result, found: DescentFinding) -> None:
    """A question before its answer: how many descents arrive; where no word has a target, how much one query reads."""
    numbers = answers(descent, found)
    if found.targets:
        arrive = found.arrive_share
        predict(
            page,
            "arrive",
            [_("under a quarter"), _("a quarter to three quarters"), _("over three quarters")],
            right=0 if arrive < 0.25 else 1 if arrive <= 0.75 else 2,
            **numbers,
        )
        return
    items, seen = len(descent.tables["items"]), int((~np.isnan(descent.arrays["exact"])).sum())
    part = items / seen
    predict(
        page,
        "read",
        [_("under a tenth as many"), _("a tenth to a half"), _("more than half as many")],
        right=0 if part < 0.1 else 1 if part <= 0.5 else 2,
        items=items,
        visible=seen,
        part=part,
        **numbers,
    )


def _look_back(token: int) -> None:
    state.put({_QUERY: str(token)})
    state.forget("hierarchical.key")
    state.forget(_FOCUS)


def _icicles(page: Page, mechanism: Hierarchical, descent: Result, found: DescentFinding) -> None:
    nodes = descent.tables["nodes"]
    focus = _focus(nodes)
    _crumbs(nodes, focus)
    levels = " → ".join(descent.words["names"].split("\n"))
    titles = {"exact": _("Exact attention: {levels}").format(levels=levels), "mechanism": _named(mechanism)}
    drawn = {column: title for column, title in titles.items() if focus < 0 or float(nodes[column].iloc[focus]) > 0}
    chart = icicle_chart(nodes, page.theme, best=found.best, titles=drawn, focus=focus)
    mark = f"icicle {focus} {int(descent.arrays['query'])}"

    def clicked() -> None:
        _go(st.session_state.get(mark), nodes, focus)

    words = _("Icicles of the attention of token {query}, exact above, {title} below. {target} gets {exact:.0%} and {given:.0%}.")
    vega(
        specification(chart, page.theme),
        key=mark,
        on_select=clicked,
        selection_mode=SELECTED,
        words=words.format(
            query=int(descent.arrays["query"]), title=mechanism.label, target=found.target, exact=found.exact, given=found.given
        ),
    )
    _key(page, descent, found)
    figure_menu(
        "hierarchical-descent",
        descent,
        chart=lambda: exported(page, chart),
        table=nodes,
        shown=type(mechanism),
        caption=f"Attention of one token by paragraph, sentence, word and token: exact, and {mechanism.label}. "
        f"A box's width is its share. {descent.words['origin']}",
    )


def _named(mechanism: Hierarchical) -> str:
    """The mechanism's name with its badge: where its parameters come from."""
    return mechanism.label if mechanism.parameters == "none" else f"{mechanism.label} · {mechanism.parameters}"


def _focus(nodes: pd.DataFrame) -> int:
    """The row of the group that the visitor went into, −1 for the whole text."""

    def parse(text: str) -> int:
        depth, group = (int(part) for part in text.split("."))
        found = nodes.index[(nodes["depth"] == depth) & (nodes["group"] == group)]
        return int(found[0])

    focus = state.recall(_FOCUS, -1, lambda text: _first(parse, text))
    return focus if focus >= 0 and float(nodes["exact"].iloc[focus] + nodes["mechanism"].iloc[focus]) > 0 else -1


def _first(parse: Any, text: str) -> int:
    try:
        return int(parse(text))
    except IndexError:
        return -1


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
    state.remember(_FOCUS, f"{int(nodes['depth'].iloc[row])}.{int(nodes['group'].iloc[row])}", view=True)


def _leave() -> None:
    state.remember(_FOCUS, None, view=True)


def _go(sent: Any, nodes: pd.DataFrame, focus: int) -> None:
    """Follow a click: into a box, out of the top one, or, on a token, to the reason of its weight."""
    row = clicked_node(sent, len(nodes))
    if row is None:
        return
    if int(nodes["depth"].iloc[row]) == int(nodes["depth"].max()):
        state.remember("hierarchical.key", int(nodes["first"].iloc[row]), view=True)
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


def _key(page: Page, descent: Result, found: DescentFinding) -> None:
    """What the colours of the boxes mean, in words beside a patch of each."""
    colours = role_colours(page.theme)
    query, spell = int(descent.arrays["query"]), speller(descent.study.source)

    def token(place: int) -> str:
        return f"“{visible(spell(place, place))}”"

    words = {
        "target": _("the way to {best}, which exact attention weighs most (sinks left out)").format(best=token(found.best)),
        "own": _("the groups that {query} stands in").format(query=token(query)),
        "sink": _("a sink: takes weight, adds next to nothing"),
    }
    if not len(descent.arrays["sinks"]):
        del words["sink"]
    legend(page, [(colours[role], text, "") for role, text in words.items()])
    st.caption(prose("hierarchical", "hero", query=quoted(spell(query, query))))
