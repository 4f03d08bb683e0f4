"""What random features do to whole heads: the sums that they divide by, and which heads of the model they suit."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.favor_heads import denominators_chart, heads_chart
from longattn_core.mechanisms.favor import Favor
from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.study import Result
from longattn_core.studies.favor.denominators import Denominators, denominators_finding
from longattn_core.studies.favor.heads import HeadsSuited, heads_finding
from pages.favor.hero import Estimated
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, ngettext, prose


def breaks(page: Page, estimated: Estimated) -> None:
    """The sums of weights that the outputs are divided by, for three kinds of features."""
    favor = estimated.favor
    with st.spinner(_("Drawing three kinds of features …")):
        result = run(Denominators(source=page.source, setting=estimated.setting))
    sums, finding = result.tables["sums"], denominators_finding(result)
    figure(
        page,
        "denominators",
        result,
        denominators_chart(sums, page.theme),
        table=sums,
        shown=Favor,
        caption=f"Estimated sums of weights over the exact ones, m = {favor.features}. {result.study.sequence().origin}",
        alt=_("Sums of trigonometric weights: {negative:.0%} below zero.").format(negative=finding.negative),
    )
    positive = "breaks_positive_small" if finding.positive_small > 0 else "breaks_positive_clear"
    st.caption(
        prose(
            "favor",
            f"breaks_{finding.kind}",
            negative=finding.negative,
            small=finding.small,
            largest=finding.largest,
            error=finding.error,
            positive_error=finding.positive_error,
            positive=prose("favor", positive, positive_small=finding.positive_small),
        )
        + "  \n"
        + prose("favor", "breaks", queries=int((sums["features"] == "positive").sum()), m=favor.features)
    )


def heads(page: Page, estimated: Estimated) -> None:
    """Which heads of the model these features suit."""
    study = HeadsSuited(source=page.source, setting=estimated.setting)
    sweep_card(page, study, lambda result: _by_head(page, result, estimated.favor))


def _by_head(page: Page, result: Result, favor: Favor) -> None:
    points, source = result.tables["points"], page.source
    marked = f"L{source.layer}H{source.heads[0]}" if isinstance(source, TextSource) else ""
    figure(
        page,
        "heads-suited",
        result,
        heads_chart(points, page.theme, marked=marked),
        table=points,
        shown=Favor,
        caption=f"Error less that of the mean of the visible values, by head, {favor.label}, m = {favor.features}.",
        alt=_("{count} heads by the norm of their pairs.").format(count=len(points)),
    )
    finding = heads_finding(points)
    section = "heads_none" if finding.closer == 0 else f"heads_{finding.kind}"
    words = prose(
        "favor",
        section,
        heads=finding.heads,
        closer=finding.closer,
        sinks=finding.sinks,
        worse=finding.worse,
        best=finding.best,
        best_error=finding.best_error,
        best_control=finding.best_control,
        are=ngettext("is", "are", finding.closer),
    )
    st.caption(f"{words} {prose('favor', 'heads', text=result.words['text'], m=favor.features)}")
