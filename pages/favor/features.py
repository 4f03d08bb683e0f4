"""Features: errors of the output and of the kernel against the number of features."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.favor_heads import kind_colours
from longattn_core.mechanisms.favor import Favor
from longattn_core.studies.base.study import Result
from longattn_core.studies.favor.features import ErrorAgainstFeatures, features_finding
from longattn_core.studies.favor.kernel_errors import DRAWS, KernelErrors, pairs_near
from longattn_core.studies.favor.sampled import LONGEST
from pages.favor.axes import MEAN, error_domain, size_title
from pages.kit import state
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose


def features(page: Page) -> None:
    """Errors of the output and of the kernel against the number of features, at equal m or at equal width."""
    left, right = st.columns(2)
    with left:
        sizes = {"m": _("equal m"), "width": _("equal number of columns")}
        equal = state.choose(
            "favor.step.equal", _("Compare at"), list(sizes), default="m", labels=sizes.__getitem__, style="segments", view=True
        )
    with right:
        ways = {"both": _("both"), "orthogonal": _("orthogonal"), "independent": _("independent")}
        way = state.choose(
            "favor.step.way", _("Directions"), list(ways), default="both", labels=ways.__getitem__, style="segments", view=True
        )
    st.markdown(f"**{_('Error of the output')}**")
    study = ErrorAgainstFeatures(source=page.source, equal="width" if equal == "width" else "m")
    sweep_card(page, study, lambda result: _output_error(page, study, result, way))
    st.markdown(f"**{_('Error of the kernel itself')}**")
    if not pairs_near(page.source, 0):
        st.info(prose("favor", "kernel_none"), icon=":material/block:")
        return
    kernel = KernelErrors(source=page.source, equal=study.equal)
    sweep_card(page, kernel, lambda result: _kernel_error(page, kernel, result, "independent" if way == "both" else way))


def _output_error(page: Page, study: ErrorAgainstFeatures, result: Result, way: str) -> None:
    table = result.tables["output"]
    inks = kind_colours(page.theme)
    table = table if way == "both" else table[table["directions"] == way]
    if table.empty:
        st.caption(prose("favor", "features_wait"))
        return
    table = table.assign(
        curve=table["family"] + (", " + table["directions"]).where(table["directions"] == "independent", ""),
        loose=table["directions"] == "independent",
    )
    table.attrs["units"] = study.units
    control = float(result.tables["points"]["control"].iloc[0])
    colours = {f"{family}{suffix}": ink for family, ink in inks.items() for suffix in ("", ", independent")}
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="size", title=size_title(study.equal), log=True, ticks=list(study.counts)),
        y=CurveAxis(
            column="error", title=_("error of the output (relative, logarithmic)"), log=True, domain=error_domain(table, control)
        ),
        series=CurveSeries(column="curve", band=("low", "high"), dashed="loose", colours=colours),
        rules=((control, MEAN),) if control > 0 else (),
        height=420,
    )
    figure(
        page,
        "error-against-features",
        result,
        chart,
        table=table,
        shown=Favor,
        caption=f"Error of the output against the number of features. {study.sequence().origin}",
        alt=_("{count} kinds of features; the mean of the visible values errs by {control:.2f}.").format(
            count=table["curve"].nunique(), control=control
        ),
    )
    finding = features_finding(result)
    unit = _("directions") if study.equal == "m" else _("columns")
    words = prose("favor", "features", n=min(page.tokens, LONGEST), seeds=study.seeds)
    if finding is not None:
        words = (
            prose(
                "favor",
                f"features_{finding.kind}",
                size=finding.size,
                error=finding.error,
                control=finding.control,
                unit=unit,
                largest=finding.largest,
                best=finding.best,
                best_error=finding.best_error,
            )
            + f"  \n{words}"
        )
    st.caption(words)


def _kernel_error(page: Page, study: KernelErrors, result: Result, way: str) -> None:
    table = result.tables["curves"]
    shown = table[table["directions"] == way]
    # A closed form at a single size makes no curve.
    alone = shown.groupby(["family", "source"])["size"].transform("nunique") < 2
    shown = shown[~(alone & (shown["source"] == "closed form"))]
    if shown.empty:
        st.caption(prose("favor", "features_wait"))
        return
    inks = kind_colours(page.theme)
    shown = shown.assign(
        curve=shown["family"] + (", " + shown["source"]).where(shown["source"] == "closed form", ""),
        formula=shown["source"] == "closed form",
    )
    shown.attrs["units"] = table.attrs["units"]
    colours = {f"{family}{suffix}": ink for family, ink in inks.items() for suffix in ("", ", closed form")}
    chart = curves_chart(
        shown,
        page.theme,
        x=CurveAxis(column="size", title=size_title(study.equal), log=True, ticks=list(study.counts)),
        y=CurveAxis(
            column="error", title=_("error of the kernel (relative, logarithmic)"), log=True, domain=error_domain(shown, 0.0)
        ),
        series=CurveSeries(column="curve", band=("low", "high"), dashed="formula", colours=colours),
    )
    figure(
        page,
        "kernel-error-against-features",
        result,
        chart,
        table=shown,
        shown=Favor,
        caption=f"Relative error of the kernel's estimate, {way} directions, beside the closed form. {study.sequence().origin}",
        alt=_("Measured and expected error of the kernel for three kinds of features."),
    )
    points = result.tables["points"]
    words = prose("favor", "kernel", way=way, draws=DRAWS, pairs=int(points["pairs"].max()))
    if way == "orthogonal":
        words += " " + prose("favor", "kernel_orthogonal", d=study.sequence().d)
    st.caption(words)
