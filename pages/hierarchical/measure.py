"""Hierarchy, measured: maps by level, what levels count, where descents go wrong, blocks, cost and error."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.hierarchical_measures import outcomes_chart
from longattn_core.charts.pictures import MapPicture
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.mechanism import NESTED
from longattn_core.studies.hierarchical import Gates, LevelMaps
from longattn_core.studies.hierarchical.tree import tree_of
from longattn_core.studies.hierarchical.wrong_turns import ARRIVES
from pages.hierarchical.blocks import near_far
from pages.hierarchical.descent import DescentRun
from pages.hierarchical.errors import cost, group_error
from pages.kit import state
from pages.kit.components.attention_map import attention_map
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.map_card import maps_card
from pages.kit.text import _, prose


def measure(page: Page, descent: DescentRun) -> None:
    """One measurement at a time, so that nothing is computed that is not looked at."""
    views: dict[str, tuple[str, Callable[[], None]]] = {
        "maps": (_("Maps by level"), lambda: _maps(page, descent)),
        "gates": (_("What each level counts"), lambda: _gates(page, descent)),
        "wrong": (_("Where it goes wrong"), lambda: _wrong_turns(page, descent)),
        "blocks": (_("Near fine, far coarse"), lambda: near_far(page, descent)),
        "cost": (_("Cost of each way"), lambda: cost(page, descent)),
        "error": (_("Error and group size"), lambda: group_error(page, descent.mechanism)),
    }
    chosen = state.choose(
        "hierarchical.measure",
        _("Measured"),
        list(views),
        default="maps",
        labels=lambda name: views[name][0],
        style="segments",
        view=True,
    )
    views[chosen][1]()


def _maps(page: Page, descent: DescentRun) -> None:
    mechanism = descent.mechanism
    tree = tree_of(page.source, mechanism)
    names = {"outer": tree[0].plural, "inner": tree[1].plural, "joined": _("tokens (joined)")}
    level = state.choose(
        "hierarchical.map", _("Level"), list(names), default="outer", labels=names.__getitem__, style="segments", view=True
    )
    if level == "joined":
        st.caption(prose(page.name, "maps_joined"))
        maps_card(page, mechanism)
        return
    result = run(LevelMaps(source=page.source, setting=descent.setting, level=level))
    if "refusal" in result.words:
        st.info(result.words["refusal"], icon=":material/block:")
        return
    name = result.words["name"]
    st.caption(prose(page.name, "maps_levels", name=name, sample=result.words["sample"].capitalize()))
    labels = [str(label) for label in result.arrays["labels"]]
    titles = {"exact": _("Exact attention"), "mechanism": mechanism.label, "difference": _("Mechanism − exact")}
    # One under another on a phone, where Streamlit stacks columns.
    for place, (array, title) in zip(st.columns(3, gap="medium"), titles.items(), strict=True):
        with place:
            attention_map(
                MapPicture(
                    values=result.arrays[array],
                    title=title,
                    subtitle=_("{count} × {count} {names}").format(count=len(labels), names=result.words["plural"]),
                    scale="difference" if array == "difference" else "log",
                    causal=page.causal,
                    tokens_rows=labels,
                ),
                key=f"hierarchical {level} {array}",
                theme=page.theme,
                link=f"hierarchical {level}",
                content=f"{result.study!r} {array}",
                strips=False,
                axes=(_("query's {name}").format(name=name), _("key's {name}").format(name=name)),
            )


def _gates(page: Page, descent: DescentRun) -> None:
    with st.spinner(_("Measuring …")):
        result = run(Gates(source=page.source, setting=descent.setting))
    table = result.tables["gates"]
    long = pd.concat(
        [
            table.assign(curve=table["name"], share=table["given"], dash=False),
            table.assign(curve=table["name"] + _(", exact"), share=table["exact"], dash=True),
        ],
        ignore_index=True,
    )
    names = list(dict.fromkeys(table["name"]))
    hues = dict(zip(names, ("hierarchical", "lsh", "memory"), strict=False))
    colours = {f"{name}{ending}": page.theme.style(key).colour for name, key in hues.items() for ending in ("", _(", exact"))}
    figure(
        page,
        "hierarchical-gates",
        result,
        curves_chart(
            long,
            page.theme,
            x=CurveAxis(column="position", title=_("query (token position)")),
            y=CurveAxis(column="share", title=_("share of the query's attention"), domain=(0, 1), format=".0%"),
            series=CurveSeries(column="curve", dashed="dash", colours=colours, points=False),
        ),
        table=table,
        shown=Hierarchical,
        caption=f"What each level counts along the text: {descent.mechanism.label}.",
        alt=_("Lines of the share that each level gets along the text, with exact attention's on the same reach dashed."),
    )
    known = descent.mechanism.variant in NESTED and tree_of(page.source, descent.mechanism)[0].name == "paragraph"
    st.caption(prose(page.name, "gates") if known else result.words["sample"])


def _wrong_turns(page: Page, descent: DescentRun) -> None:
    wrong, finding = descent.wrong_turns, descent.finding
    counts = {name: int(wrong.arrays[name]) for name in ("sinks_only", "spread", "lone")}
    numbers = descent.numbers | counts | {"sample": wrong.words["sample"].capitalize()}
    if not finding.targets:
        st.info(prose(page.name, "wrong_none", **numbers))
        return
    st.markdown(prose(page.name, "wrong", **numbers))
    outcomes = wrong.tables["outcomes"]
    names = {
        outcome: _("arrives") if outcome == ARRIVES else _("lost at the {name}").format(name=outcome)
        for outcome in dict.fromkeys(outcomes["outcome"])
    }
    figure(
        page,
        "hierarchical-wrong",
        wrong,
        outcomes_chart(outcomes, page.theme, names=names),
        table=outcomes,
        title=_("The target stands …"),
        shown=Hierarchical,
        caption=f"At which level the descent of {descent.mechanism.label} first leaves exact attention's way.",
        alt=_("Bars: of the targets in the own {outer} and in another one, how many descents are lost at which level.").format(
            outer=finding.outer
        ),
    )
    queries = wrong.tables["queries"]
    shown = queries[queries["outcome"] == finding.outer]
    if len(shown):
        with st.expander(_("The words that are lost at the first step")):
            st.dataframe(
                shown[["query", "token", "best", "place", "share", "target", "chosen"]],
                hide_index=True,
                column_config={
                    "query": _("query"),
                    "token": _("its word"),
                    "best": _("looks at"),
                    "place": _("at token"),
                    "share": st.column_config.NumberColumn(_("share in the target"), format="percent"),
                    "target": _("the target"),
                    "chosen": _("preferred"),
                },
            )
