"""Norms and sharpness: how the estimates depend on the size of the scores."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.mechanisms.favor import Favor
from longattn_core.studies.base.study import Result
from longattn_core.studies.favor.deviations import deviation_finding, deviations
from longattn_core.studies.favor.sharpness import ErrorAgainstSharpness, sharpness_finding
from pages.favor.hero import Estimated
from pages.favor.numbers import plain, tex
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose


def norms(page: Page, estimated: Estimated) -> None:
    """How far single estimates deviate, against the norms of their pairs, beside the closed form."""
    favor, pairs = estimated.favor, estimated.pairs
    table = deviations(pairs)
    finding = deviation_finding(table, favor.features)
    if finding.kind == "other":
        st.info(prose("favor", "norms_other"), icon=":material/block:")
        return
    trigonometric = favor.variant == "trigonometric"
    names = {
        "half of the pairs stray less": _("half of the pairs stray less"),
        "measured": _("root mean square, measured"),
        "expected": _("root mean square, expected"),
    }
    drawn = table.assign(curve=table["curve"].map(names), formula=table["curve"] == "expected")
    ink = page.theme.style("favor").colour
    chart = curves_chart(
        drawn,
        page.theme,
        x=CurveAxis(
            column="norm", title=_("‖q−k‖²/√d of the pair (no unit)") if trigonometric else _("‖q+k‖²/√d of the pair (no unit)")
        ),
        y=CurveAxis(
            column="deviation",
            title=_("error over the kernel (logarithmic)"),
            log=True,
            format="~g" if float(drawn["deviation"].max()) < 1e4 else ".0e",
        ),
        series=CurveSeries(
            column="curve",
            band=("low", "high"),
            dashed="formula",
            colours={names["measured"]: ink, names["expected"]: ink, names["half of the pairs stray less"]: page.theme.text},
        ),
        rules=((1.0, _("1: as wrong as answering zero")),),
    )
    figure(
        page,
        "error-against-norm",
        pairs,
        chart,
        table=table,
        shown=Favor,
        caption=f"Relative error of the kernel's estimate against the norm of the pair, {favor.label}. {pairs.words['origin']}",
        alt=_("Error of single estimates against the norm of their pairs, with the closed form."),
    )
    st.caption(
        prose(
            "favor",
            f"norms_{finding.kind}",
            norm=finding.norm,
            m=favor.features,
            found=finding.median,
            expected=plain(finding.expected) if finding.kind == "hopeless" else finding.expected,
            needed=_("{count} directions").format(count=plain(finding.needed)),
        )
        + " "
        + prose("favor", "norms")
    )
    if favor.variant == "positive" and not favor.regularised:
        formula(page, "deviation", norm=f"{finding.norm:.3g}", m=favor.features, expected=tex(finding.expected))


def sharpness(page: Page, estimated: Estimated) -> None:
    """The error of the output as all scores are multiplied by β."""
    study = ErrorAgainstSharpness(source=page.source, setting=estimated.setting)
    sweep_card(page, study, lambda result: _over_sharpness(page, study, result, estimated.favor))


def _over_sharpness(page: Page, study: ErrorAgainstSharpness, result: Result, favor: Favor) -> None:
    table = result.tables["curves"]
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(
            column="beta",
            title=_("sharpness β (times the scores, logarithmic)"),
            log=True,
            ticks=[0.0625, 0.125, 0.25, 0.5, 1, 2],
        ),
        y=CurveAxis(
            column="error",
            title=_("error of the output (relative)"),
            domain=(0.0, min(1.15 * float(table["error"].max()), 6.0) or 1.0),
        ),
        series=CurveSeries(
            column="curve",
            band=("low", "high"),
            colours={"mean of visible values": page.theme.muted},
            keys={"random features": "favor"},
        ),
        marked=((float(_beta(page)), _("now")),),
    )
    figure(
        page,
        "error-against-sharpness",
        result,
        chart,
        table=table,
        shown=Favor,
        caption=f"Error of the output against sharpness, {favor.label}, m = {favor.features}. {study.sequence().origin}",
        alt=_("Error of random features and of the mean of the visible values against sharpness."),
    )
    finding, words = sharpness_finding(result), prose("favor", "sharpness", m=favor.features, seeds=study.seeds)
    if finding is not None:
        betas = {
            name: ", ".join(f"{beta:g}" for beta in values)
            for name, values in (("better", finding.better), ("worse", finding.worse))
        }
        words = prose("favor", f"sharpness_{finding.kind}", **betas) + " " + words
    st.caption(words)


def _beta(page: Page) -> float:
    """The sharpness that the page's source is read with."""
    settings = page.source.settings if page.source.kind == "synthetic" else page.source
    return float(settings.sharpness)
