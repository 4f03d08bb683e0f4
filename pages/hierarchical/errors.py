"""How far a hierarchy's output is from exact attention's: over the cost of each way of joining levels, and by group size."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.hierarchical_measures import variants_chart
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.mechanism import NESTED
from longattn_core.studies.base.study import Result
from longattn_core.studies.hierarchical import GroupError, Variants
from longattn_core.studies.hierarchical.error import OWN
from longattn_core.studies.hierarchical.tree import tree_of
from pages.hierarchical.descent import DescentRun
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose


def cost(page: Page, descent: DescentRun) -> None:
    """Error of each way of joining levels over its cost, and the same as a table."""
    with st.spinner(_("Measuring …")):
        result = run(Variants(source=page.source, setting=descent.setting))
    table = result.tables["variants"]
    without = _sinks_switch()
    error, control = (f"{name} without sinks" if without else name for name in ("error", "control"))
    st.caption(prose(page.name, "cost"))
    figure(
        page,
        "hierarchical-cost",
        result,
        variants_chart(table, page.theme, error=error, control=control),
        table=table,
        caption="Error of each way of joining levels over its cost beside exact attention.",
        shown=Hierarchical,
        alt=_("Points: each way of joining levels by its cost and its error; a dashed line for the mean of the visible values."),
    )
    st.dataframe(
        table[["label", "parameters", "looked", "share", "cost", "bytes_peak", error, control, "overlap", "refusal"]],
        hide_index=True,
        column_config={
            "label": _("levels joined"),
            "parameters": _("parameters"),
            "looked": st.column_config.NumberColumn(_("keys and groups a query"), format="%.1f"),
            "share": st.column_config.NumberColumn(_("of the visible"), format="percent"),
            "cost": st.column_config.NumberColumn(_("operations, of exact"), format="percent"),
            "bytes_peak": st.column_config.NumberColumn(_("memory held, bytes"), format="compact"),
            error: st.column_config.NumberColumn(_("error"), format="%.2f"),
            control: st.column_config.NumberColumn(_("mean of visible values"), format="%.2f"),
            "overlap": st.column_config.NumberColumn(_("overlap"), format="%.2f"),
            "refusal": _("why not"),
        },
    )


def group_error(page: Page, mechanism: Hierarchical) -> None:
    """Error against the size of the groups, for two levels, three, and blocks."""
    without = _sinks_switch()
    y = "error without sinks" if without else "error"
    outers = tree_of(page.source, mechanism)[0].plural
    st.caption(prose(page.name, "error", outers=outers))
    study = GroupError(
        source=page.source, joined=mechanism.variant if mechanism.variant in NESTED else "product", counts=mechanism.counts
    )

    def draw(result: Result) -> None:
        table = result.tables["points"]
        control = float(table["control without sinks" if without else "control"].iloc[0])
        rules = [(control, _("mean of the visible values"))]
        own = table[table["label"] == OWN]
        if len(own):
            rules.append((float(own[y].iloc[0]), _("the text's own {outers}").format(outers=outers)))
        swept = table[table["size"] > 0]
        if not len(swept):
            st.info(_("The sequence is too short to cut it into groups of two."))
            return
        figure(
            page,
            "hierarchical-error",
            result,
            curves_chart(
                swept,
                page.theme,
                x=CurveAxis(column="size", title=_("tokens in a group, or in the near block (logarithmic)"), log=True),
                y=CurveAxis(column=y, title=_("relative error of the output")),
                series=CurveSeries(column="label"),
                rules=rules,
            ),
            table=table,
            caption="Error against the size of the groups, with the control.",
            shown=Hierarchical,
            alt=_("Lines of the output's error against the group size, for two levels, three, and blocks."),
        )

    sweep_card(page, study, draw)


def _sinks_switch() -> bool:
    return state.switch(
        "hierarchical.plain",
        _("Leave the sinks out"),
        default=False,
        help=_("The error of what the other keys add: a sink takes much weight and adds next to nothing."),
        view=True,
    )
