"""Hierarchy, step by step: one query's descent, level by level."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.hierarchical import choices_chart
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.mechanism import NESTED
from longattn_core.studies.base.study import Result
from longattn_core.studies.hierarchical.tree import tree_of
from pages.hierarchical.measure import _blocks
from pages.kit.components.stepper import stepper
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose


def step_view(page: Page, mechanism: Hierarchical, descent: Result) -> None:
    """The descent frame by frame: the cut, a choice at each level, and the row of weights that comes of it."""
    steps, levels = descent.tables["steps"], descent.tables["levels"]
    nested = mechanism.variant in NESTED
    stops = [_("cut the text")]
    for name in levels["name"]:
        verb = _("choose a {name}") if mechanism.variant == "product" else _("read: {name}")
        stops.append(verb.format(name=name))
    stops.append(_("join the levels"))
    at = stepper("hierarchical.step", stops, theme=page.theme, label=_("The descent"))
    tokens, query = [str(token) for token in descent.arrays["tokens"]], int(descent.arrays["query"])
    causal_from = query if page.causal else None
    if at == 0:
        _cut(page, mechanism, descent, nested)
        return
    if at == len(stops) - 1:
        st.markdown(prose(page.name, "step_join"))
        token_text(
            TextPicture(tokens=tokens, weights=descent.arrays["mechanism"], selected=query, causal_from=causal_from),
            key="hierarchical joined",
            theme=page.theme,
            caption=_("The weights of the framed word after all levels are joined."),
        )
        return
    arrival = levels.iloc[at - 1].to_dict()
    candidates = steps[steps["level"] == arrival["level"]]
    if not len(candidates):
        st.markdown(prose(page.name, "step_none"))
        return
    name = str(arrival["name"])
    plural = name if len(candidates) == 1 else name.replace("group", "groups").replace("block", "blocks")
    if plural == name and len(candidates) > 1:
        plural = f"{name}s"
    last = arrival["level"] == 0
    section = "step_read"
    if mechanism.variant == "product":
        section = "step_tokens" if last else "step_choose"
    st.markdown(
        prose(page.name, section, arrives=arrival["arrives"], exact=arrival["exact"], candidates=len(candidates), names=plural)
    )
    figure(
        page,
        "hierarchical-choice",
        descent,
        choices_chart(candidates, page.theme, title=_("share of what arrives at this step")),
        table=candidates,
        shown=type(mechanism),
        caption=f"One choice of the descent, among {len(candidates)} {plural}: exact attention's shares and the mechanism's.",
        alt=_("Two bars a candidate: exact attention's share, and the hierarchy's."),
    )


def _cut(page: Page, mechanism: Hierarchical, descent: Result, nested: bool) -> None:
    tokens, query = [str(token) for token in descent.arrays["tokens"]], int(descent.arrays["query"])
    if not nested:
        st.markdown(prose(page.name, "step_cut_blocks"))
        _blocks(page, mechanism, descent)
        return
    outer, inner = tree_of(page.source, mechanism)[:2]
    st.markdown(prose(page.name, "step_cut", outers=outer.plural, inners=inner.plural))
    cuts = {
        int(first): (0.12, f"{inner.name} {number}") for number, first in enumerate(inner.first.tolist(), start=1) if first > 0
    }
    token_text(
        TextPicture(
            tokens=tokens,
            groups=outer.of.numpy(),
            group_names=dict(enumerate(outer.labels)) if outer.count <= 12 else {},
            cuts=cuts,
            selected=query,
        ),
        key="hierarchical cut",
        theme=page.theme,
        caption=_("{outers} in colours, a bar before each {inner}.").format(outers=outer.plural.capitalize(), inner=inner.name),
    )
