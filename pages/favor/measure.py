"""Measure on the random-features page: maps, errors against features, norms and sharpness, breaks, heads, draws, fits."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.favor_heads import denominators_chart, heads_chart, kind_colours
from longattn_core.mechanisms.favor import Favor
from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.favor.denominators import Denominators, denominators_finding
from longattn_core.studies.favor.deviations import deviation_finding, deviations
from longattn_core.studies.favor.features import ErrorAgainstFeatures, features_finding
from longattn_core.studies.favor.heads import HeadsSuited, heads_finding
from longattn_core.studies.favor.kernel_errors import DRAWS, KernelErrors, pairs_near
from longattn_core.studies.favor.learned import LearnedAgainstDrawn, learned_finding
from longattn_core.studies.favor.redraws import Redraws, redraws_finding
from longattn_core.studies.favor.sampled import LONGEST
from longattn_core.studies.favor.sharpness import ErrorAgainstSharpness, sharpness_finding
from pages.favor.hero import plain, tex
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.map_card import maps_card
from pages.kit.sections import formula
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, escaped, prose

MEAN = _("mean of the visible values")


def favor_measure(page: Page, favor: Favor, pairs: Result) -> None:
    """One measurement at a time, chosen by a switch, so that no other is computed."""
    parts: dict[str, tuple[str, Callable[[], None]]] = {
        "features": (_("Features"), lambda: _features(page)),
        "maps": (_("Maps"), lambda: maps_card(page, favor)),
        "norms": (_("Norms"), lambda: _norms(page, favor, pairs)),
        "sharpness": (_("Sharpness"), lambda: _sharpness(page, favor)),
        "breaks": (_("Where it breaks"), lambda: _breaks(page, favor)),
        "heads": (_("Heads"), lambda: _heads(page, favor)),
        "draws": (_("Draws"), lambda: _draws(page, favor)),
        "learned": (_("Learned features"), lambda: _learned(page)),
    }
    chosen = state.choose(
        "favor.step.measure",
        _("Measurement"),
        list(parts),
        default="features",
        labels=lambda name: parts[name][0],
        style="segments",
        view=True,
    )
    parts[chosen][1]()


# ------------------------------------------------------------------------------------------------------- features


def _features(page: Page) -> None:
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
    sweep_card(page, study, lambda result: _output_error(page, result, way))
    st.markdown(f"**{_('Error of the kernel itself')}**")
    if not pairs_near(page.source, 0):
        st.info(prose("favor", "kernel_none"), icon=":material/block:")
        return
    kernel = KernelErrors(source=page.source, equal=study.equal)
    sweep_card(page, kernel, lambda result: _kernel_error(page, result, "independent" if way == "both" else way))


def _unit(equal: str) -> str:
    return _("directions m (number, logarithmic)") if equal == "m" else _("columns of the features (number, logarithmic)")


def _output_error(page: Page, result: Result, way: str) -> None:
    study, table = result.study, result.tables["output"]
    assert isinstance(study, ErrorAgainstFeatures)
    inks = kind_colours(page.theme)
    table = table if way == "both" else table[table["directions"] == way]
    if table.empty:
        st.caption(prose("favor", "features_wait"))
        return
    table = table.assign(
        curve=table["family"] + (", " + table["directions"]).where(table["directions"] == "independent", ""),
        loose=table["directions"] == "independent",
    )
    table.attrs["units"] = result.study.units if hasattr(result.study, "units") else {}
    control = float(result.tables["points"]["control"].iloc[0])
    colours = {f"{family}{suffix}": ink for family, ink in inks.items() for suffix in ("", ", independent")}
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="size", title=_unit(study.equal), log=True, ticks=list(study.counts)),
        y=CurveAxis(
            column="error", title=_("error of the output (relative, logarithmic)"), log=True, domain=_within(table, control)
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
    found = features_finding(result)
    unit = _("directions") if study.equal == "m" else _("columns")
    said = prose("favor", "features", n=min(page.tokens, LONGEST), seeds=study.seeds)
    if found is not None:
        said = (
            prose(
                "favor",
                f"features_{found.kind}",
                size=found.size,
                error=found.error,
                control=found.control,
                unit=unit,
                largest=found.largest,
                best=found.best,
                best_error=found.best_error,
            )
            + f"  \n{said}"
        )
    st.caption(said)


def _within(table: pd.DataFrame, control: float) -> tuple[float, float]:
    """The errors' range; intervals of few draws reach further and are cut."""
    low, high = float(table["error"].min()), float(table["error"].max())
    ends = [value for value in (low, high, control) if value > 0] or [1.0]
    return max(1e-9, min(ends) / 1.6), min(max(ends) * 1.6, 1e4)


def _kernel_error(page: Page, result: Result, way: str) -> None:
    study, table = result.study, result.tables["curves"]
    assert isinstance(study, KernelErrors)
    shown = table[table["directions"] == way]
    # A closed form at one size alone is no curve.
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
        x=CurveAxis(column="size", title=_unit(study.equal), log=True, ticks=list(study.counts)),
        y=CurveAxis(column="error", title=_("error of the kernel (relative, logarithmic)"), log=True, domain=_within(shown, 0.0)),
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
    said = prose("favor", "kernel", way=way, draws=DRAWS, pairs=int(points["pairs"].max()))
    if way == "orthogonal":
        said += " " + prose("favor", "kernel_orthogonal", d=study.sequence().d)
    st.caption(said)


# ----------------------------------------------------------------------------------------------- norms, sharpness


def _norms(page: Page, favor: Favor, pairs: Result) -> None:
    table = deviations(pairs)
    found = deviation_finding(table, favor.features)
    if found.kind == "other":
        st.info(prose("favor", "norms_other"), icon=":material/block:")
        return
    sine = favor.variant == "trigonometric"
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
        x=CurveAxis(column="norm", title=_("‖q−k‖²/√d of the pair (no unit)") if sine else _("‖q+k‖²/√d of the pair (no unit)")),
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
            f"norms_{found.kind}",
            norm=found.norm,
            m=favor.features,
            found=found.found,
            expected=plain(found.expected) if found.kind == "hopeless" else found.expected,
            needed=_features_of(found.needed),
        )
        + " "
        + prose("favor", "norms")
    )
    if favor.variant == "positive" and not favor.regularised:
        formula(page, "deviation", norm=f"{found.norm:.3g}", m=favor.features, expected=tex(found.expected))


def _features_of(count: float) -> str:
    return _("{count} directions").format(count=plain(count))


def _sharpness(page: Page, favor: Favor) -> None:
    study = ErrorAgainstSharpness(source=page.source, setting=Setting.of(favor))
    sweep_card(page, study, lambda result: _sharpness_drawn(page, result, favor))


def _sharpness_drawn(page: Page, result: Result, favor: Favor) -> None:
    study, table = result.study, result.tables["curves"]
    assert isinstance(study, ErrorAgainstSharpness)
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(
            column="beta",
            title=_("sharpness β (times the scores, logarithmic)"),
            log=True,
            ticks=[0.0625, 0.125, 0.25, 0.5, 1, 2],
        ),
        y=CurveAxis(column="error", title=_("error of the output (relative)"), domain=(0.0, _top(table))),
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
    found, said = sharpness_finding(result), prose("favor", "sharpness", m=favor.features, seeds=study.seeds)
    if found is not None:
        both = {
            name: ", ".join(f"{beta:g}" for beta in betas) for name, betas in (("better", found.better), ("worse", found.worse))
        }
        said = prose("favor", f"sharpness_{found.kind}", **both) + " " + said
    st.caption(said)


def _beta(page: Page) -> float:
    settings = page.source.settings if page.source.kind == "synthetic" else page.source
    return float(settings.sharpness)


def _top(table: pd.DataFrame) -> float:
    return min(1.15 * float(table["error"].max()), 6.0) or 1.0


# --------------------------------------------------------------------------------------- where it breaks, and heads


def _breaks(page: Page, favor: Favor) -> None:
    with st.spinner(_("Drawing three kinds of features …")):
        result = run(Denominators(source=page.source, setting=Setting.of(favor)))
    sums, found = result.tables["sums"], denominators_finding(result)
    figure(
        page,
        "denominators",
        result,
        denominators_chart(sums, page.theme),
        table=sums,
        shown=Favor,
        caption=f"Estimated sums of weights over the exact ones, m = {favor.features}. {result.study.sequence().origin}",
        alt=_("Sums of trigonometric weights: {negative:.0%} below zero.").format(negative=found.negative),
    )
    positive = "breaks_positive_small" if found.positive_small > 0 else "breaks_positive_clear"
    st.caption(
        prose(
            "favor",
            f"breaks_{found.kind}",
            negative=found.negative,
            small=found.small,
            largest=found.largest,
            error=found.error,
            positive_error=found.positive_error,
            positive=prose("favor", positive, positive_small=found.positive_small),
        )
        + "  \n"
        + prose("favor", "breaks", queries=int((sums["features"] == "positive").sum()), m=favor.features)
    )


def _heads(page: Page, favor: Favor) -> None:
    study = HeadsSuited(source=page.source, setting=Setting.of(favor))
    sweep_card(page, study, lambda result: _heads_drawn(page, result, favor))


def _heads_drawn(page: Page, result: Result, favor: Favor) -> None:
    points = result.tables["points"]
    source = page.source
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
    found = heads_finding(points)
    section = "heads_none" if found.closer == 0 else f"heads_{found.kind}"
    said = prose(
        "favor",
        section,
        heads=found.heads,
        closer=found.closer,
        sinks=found.sinks,
        worse=found.worse,
        best=found.best,
        best_error=found.best_error,
        best_control=found.best_control,
        are=_("is") if found.closer == 1 else _("are"),
    )
    st.caption(f"{said} {prose('favor', 'heads', text=result.words['text'], m=favor.features)}")


# -------------------------------------------------------------------------------------------------- draws, learned


def _draws(page: Page, favor: Favor) -> None:
    with st.spinner(_("Drawing the directions again …")):
        result = run(Redraws(source=page.source, setting=Setting.of(favor)))
    found, joined, each = redraws_finding(result), result.tables["joined"], result.tables["draws"]
    alone = each.rename(columns={"draw": "together"})[["together", "error"]].assign(way=_("this draw alone"))
    table = pd.concat([joined, alone], ignore_index=True).assign(loose=lambda t: t["way"] == _("this draw alone"))
    table.attrs["units"] = joined.attrs["units"]
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="together", title=_("draw (number); joined: all draws up to it")),
        y=CurveAxis(
            column="error",
            title=_("error of the output (relative)"),
            domain=(0.0, max(1e-6, min(1.15 * max(float(table["error"].max()), found.control), 12.0))),
        ),
        series=CurveSeries(
            column="way",
            dashed="loose",
            colours={_("this draw alone"): page.theme.muted},
            keys={"all features in one ratio": "favor"},
        ),
        rules=((found.control, MEAN),),
    )
    figure(
        page,
        "draws",
        result,
        chart,
        table=table,
        shown=Favor,
        caption=f"Error of single and of joined draws, {favor.label}, m = {favor.features}. {result.study.sequence().origin}",
        alt=_("{count} draws err between {low:.2f} and {high:.2f}.").format(count=found.draws, low=found.low, high=found.high),
    )
    st.caption(
        prose(
            "favor",
            f"draws_{found.kind}",
            count=found.draws,
            low=found.low,
            high=found.high,
            ratio=found.ratio,
            outputs=found.outputs,
            control=found.control,
        )
        + " "
        + prose("favor", "draws", m=favor.features)
    )


def _learned(page: Page) -> None:
    sweep_card(page, LearnedAgainstDrawn(source=page.source), lambda result: _learned_drawn(page, result))


def _learned_drawn(page: Page, result: Result) -> None:
    table = result.tables["curves"]
    names = {"learned": _("learned (Hedgehog)"), "drawn": _("drawn, positive")}
    table = table.assign(curve=table["features"].map(names))
    table.attrs["units"] = {"error": "relative", "columns": "columns"}
    control = float(result.tables["points"]["control"].iloc[0])
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="columns", title=_unit("width"), log=True, ticks=[8, 16, 32, 64, 128, 256]),
        y=CurveAxis(
            column="error", title=_("error of the output (relative, logarithmic)"), log=True, domain=_within(table, control)
        ),
        series=CurveSeries(column="curve", band=("low", "high"), keys={names["drawn"]: "favor"}),
        rules=((control, MEAN),) if control > 0 else (),
    )
    figure(
        page,
        "learned-against-drawn",
        result,
        chart,
        table=table,
        shown=Favor,
        caption=f"Fitted against drawn features of the same width. {result.study.sequence().origin}",
        alt=_("Error of learned and of drawn features against their number."),
    )
    found = learned_finding(result)
    calibration = escaped(result.words.get("calibration", _("a sample of the head")))
    said = prose("favor", "learned", steps=Favor().steps, calibration=calibration)
    if found is not None:
        said = (
            prose(
                "favor",
                f"learned_{found.kind}",
                columns=found.columns,
                learned=found.learned,
                drawn=found.drawn,
                control=found.control,
            )
            + " "
            + said
        )
    st.caption(said)
