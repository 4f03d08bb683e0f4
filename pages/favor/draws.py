"""Draws of the directions, and features that are learned in place of drawn."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.mechanisms.favor import Favor
from longattn_core.studies.base.study import Result
from longattn_core.studies.favor.learned import WIDTHS, LearnedAgainstDrawn, learned_finding
from longattn_core.studies.favor.redraws import Redraws, redraws_finding
from pages.favor.axes import MEAN, error_domain, size_title
from pages.favor.hero import Estimated
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, escaped, prose


def draws(page: Page, estimated: Estimated) -> None:
    """How far one draw's error differs from another's, and what joining draws gains."""
    favor = estimated.favor
    with st.spinner(_("Drawing the directions again …")):
        result = run(Redraws(source=page.source, setting=estimated.setting))
    finding, joined, each = redraws_finding(result), result.tables["joined"], result.tables["draws"]
    alone = _("this draw alone")
    single = each.rename(columns={"draw": "together"})[["together", "error"]].assign(way=alone)
    table = pd.concat([joined, single], ignore_index=True).assign(loose=lambda t: t["way"] == alone)
    table.attrs["units"] = joined.attrs["units"]
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="together", title=_("draw (number); joined: all draws up to it")),
        y=CurveAxis(
            column="error",
            title=_("error of the output (relative)"),
            domain=(0.0, max(1e-6, min(1.15 * max(float(table["error"].max()), finding.control), 12.0))),
        ),
        series=CurveSeries(
            column="way", dashed="loose", colours={alone: page.theme.muted}, keys={"all features in one ratio": "favor"}
        ),
        rules=((finding.control, MEAN),),
    )
    figure(
        page,
        "draws",
        result,
        chart,
        table=table,
        shown=Favor,
        caption=f"Error of single and of joined draws, {favor.label}, m = {favor.features}. {result.study.sequence().origin}",
        alt=_("{count} draws err between {low:.2f} and {high:.2f}.").format(
            count=finding.draws, low=finding.low, high=finding.high
        ),
    )
    st.caption(
        prose(
            "favor",
            f"draws_{finding.kind}",
            count=finding.draws,
            low=finding.low,
            high=finding.high,
            ratio=finding.ratio,
            outputs=finding.outputs,
            control=finding.control,
        )
        + " "
        + prose("favor", "draws", m=favor.features)
    )


def learned(page: Page) -> None:
    """Features that are fitted to the head against drawn ones of the same width."""
    sweep_card(page, LearnedAgainstDrawn(source=page.source), lambda result: _by_width(page, result))


def _by_width(page: Page, result: Result) -> None:
    table = result.tables["curves"]
    names = {"learned": _("learned (Hedgehog)"), "drawn": _("drawn, positive")}
    table = table.assign(curve=table["features"].map(names))
    table.attrs["units"] = {"error": "relative", "columns": "columns"}
    control = float(result.tables["points"]["control"].iloc[0])
    chart = curves_chart(
        table,
        page.theme,
        x=CurveAxis(column="columns", title=size_title("width"), log=True, ticks=WIDTHS),
        y=CurveAxis(
            column="error", title=_("error of the output (relative, logarithmic)"), log=True, domain=error_domain(table, control)
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
    finding = learned_finding(result)
    calibration = escaped(result.words.get("calibration", _("a sample of the head")))
    words = prose("favor", "learned", steps=Favor().steps, calibration=calibration)
    if finding is not None:
        words = (
            prose(
                "favor",
                f"learned_{finding.kind}",
                columns=finding.columns,
                learned=finding.learned,
                drawn=finding.drawn,
                control=finding.control,
            )
            + " "
            + words
        )
    st.caption(words)
