"""Hierarchy, step by step: one query's descent, level by level."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.hierarchical_measures import choices_chart
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.mechanism import NESTED
from longattn_core.studies.hierarchical.tree import tree_of
from pages.hierarchical.blocks import read_blocks
from pages.hierarchical.descent import DescentRun
from pages.kit.components.stepper import stepper
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose


def step(page: Page, descent: DescentRun) -> None:
    """The descent step by step: the cut, a choice at each level, and the row of weights that comes of it."""
    steps, levels = descent.result.tables["steps"], descent.result.tables["levels"]
    product = descent.mechanism.variant == "product"
    verb = _("choose a {name}") if product else _("read: {name}")
    stops = [_("cut the text"), *(verb.format(name=name) for name in levels["name"]), _("join the levels")]
    at = stepper("hierarchical.step", stops, theme=page.theme, label=_("The descent"))
    if at == 0:
        _cut(page, descent)
        return
    if at == len(stops) - 1:
        _joined(page, descent)
        return
    arrival = levels.iloc[at - 1].to_dict()
    candidates = steps[steps["level"] == arrival["level"]]
    if not len(candidates):
        st.markdown(prose(page.name, "step_none"))
        return
    names = _plural(str(arrival["name"])) if len(candidates) > 1 else str(arrival["name"])
    section = "step_read"
    if product:
        section = "step_tokens" if arrival["level"] == 0 else "step_choose"
    st.markdown(
        prose(page.name, section, arrives=arrival["arrives"], exact=arrival["exact"], candidates=len(candidates), names=names)
    )
    figure(
        page,
        "hierarchical-choice",
        descent.result,
        choices_chart(candidates, page.theme, title=_("share of what arrives at this step")),
        table=candidates,
        shown=Hierarchical,
        caption=f"One choice of the descent, among {len(candidates)} {names}: exact attention's shares and the mechanism's.",
        alt=_("Two bars a candidate: exact attention's share, and the hierarchy's."),
    )


def _plural(name: str) -> str:
    """A level's name for several of its groups; "group of 8" and "block of 8" end in a number."""
    several = name.replace("group", "groups").replace("block", "blocks")
    return f"{name}s" if several == name else several


def _joined(page: Page, descent: DescentRun) -> None:
    st.markdown(prose(page.name, "step_join"))
    token_text(
        TextPicture(
            tokens=descent.tokens,
            weights=descent.result.arrays["mechanism"],
            selected=descent.query,
            causal_from=descent.query if page.causal else None,
        ),
        key="hierarchical joined",
        theme=page.theme,
        caption=_("The weights of the framed word after all levels are joined."),
    )


def _cut(page: Page, descent: DescentRun) -> None:
    if descent.mechanism.variant not in NESTED:
        st.markdown(prose(page.name, "step_cut_blocks"))
        read_blocks(page, descent)
        return
    outer, inner = tree_of(page.source, descent.mechanism)[:2]
    st.markdown(prose(page.name, "step_cut", outers=outer.plural, inners=inner.plural))
    cuts = {
        int(first): (0.12, f"{inner.name} {number}") for number, first in enumerate(inner.first.tolist(), start=1) if first > 0
    }
    token_text(
        TextPicture(
            tokens=descent.tokens,
            groups=outer.of.numpy(),
            group_names=dict(enumerate(outer.labels)) if outer.count <= 12 else {},
            cuts=cuts,
            selected=descent.query,
        ),
        key="hierarchical cut",
        theme=page.theme,
        caption=_("{outers} in colours, a bar before each {inner}.").format(outers=outer.plural.capitalize(), inner=inner.name),
    )
