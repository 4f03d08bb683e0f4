"""The hierarchy page below its picture: the descent step by step, the measurements, and the counting behind them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.hierarchical import blocks_chart, outcomes_chart, variants_chart
from longattn_core.charts.pictures import MapPicture
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.mechanism import NESTED
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.hierarchical import Descent, DescentFinding, Gates, GroupError, LevelMaps, Variants
from longattn_core.studies.hierarchical.error import OWN
from longattn_core.studies.hierarchical.tree import tree_of
from longattn_core.studies.hierarchical.wrong_turns import ARRIVES
from pages.hierarchical.hero import answers
from pages.kit import state
from pages.kit.components.attention_map import attention_map
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.map_card import maps_card
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose, quoted


def measure_view(page: Page, mechanism: Hierarchical, descent: Result, wrong: Result, found: DescentFinding) -> None:
    """One measurement at a time, so that nothing is computed that is not looked at."""
    views: dict[str, tuple[str, Callable[[], None]]] = {
        "maps": (_("Maps by level"), lambda: _maps(page, mechanism)),
        "gates": (_("What each level counts"), lambda: _gates(page, mechanism)),
        "wrong": (_("Where it goes wrong"), lambda: _wrong(page, mechanism, wrong, descent, found)),
        "blocks": (_("Near fine, far coarse"), lambda: _near_far(page, mechanism, descent)),
        "cost": (_("Cost of each way"), lambda: _cost(page, mechanism)),
        "error": (_("Error and group size"), lambda: _error(page, mechanism)),
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


def _maps(page: Page, mechanism: Hierarchical) -> None:
    tree = tree_of(page.source, mechanism)
    names = {"outer": tree[0].plural, "inner": tree[1].plural, "joined": _("tokens (joined)")}
    level = state.choose(
        "hierarchical.map", _("Level"), list(names), default="outer", labels=names.__getitem__, style="segments", view=True
    )
    if level == "joined":
        st.caption(prose(page.name, "maps_joined"))
        maps_card(page, mechanism)
        return
    result = run(LevelMaps(source=page.source, setting=Setting.of(mechanism), level=level))
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


def _gates(page: Page, mechanism: Hierarchical) -> None:
    with st.spinner(_("Measuring …")):
        result = run(Gates(source=page.source, setting=Setting.of(mechanism)))
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
        shown=type(mechanism),
        caption=f"What each level counts along the text: {mechanism.label}.",
        alt=_("Lines of the share that each level gets along the text, with exact attention's on the same reach dashed."),
    )
    known = mechanism.variant in NESTED and tree_of(page.source, mechanism)[0].name == "paragraph"
    st.caption(prose(page.name, "gates") if known else result.words["sample"])


def _wrong(page: Page, mechanism: Hierarchical, wrong: Result, descent: Result, found: DescentFinding) -> None:
    counts = {name: int(wrong.arrays[name]) for name in ("sinks_only", "spread", "lone")}
    numbers = answers(descent, found) | counts | {"sample": wrong.words["sample"].capitalize()}
    if not found.targets:
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
        shown=type(mechanism),
        caption=f"At which level the descent of {mechanism.label} first leaves exact attention's way.",
        alt=_("Bars: of the targets in the own {outer} and in another one, how many descents are lost at which level.").format(
            outer=found.outer
        ),
    )
    queries = wrong.tables["queries"]
    shown = queries[queries["outcome"] == found.outer]
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


def _near_far(page: Page, mechanism: Hierarchical, descent: Result) -> None:
    blocks = mechanism if mechanism.variant == "near_far" else mechanism.with_dials(variant="near_far")
    query = int(descent.arrays["query"])
    result = run(Descent(source=page.source, setting=Setting.of(blocks), query=query))
    _blocks(page, blocks, result)


def _blocks(page: Page, mechanism: Hierarchical, result: Result) -> None:
    tokens, query = result.arrays["tokens"], int(result.arrays["query"])
    items = result.tables["items"]
    visible = int((~np.isnan(result.arrays["exact"])).sum())
    st.caption(prose(page.name, "blocks", query=quoted(str(tokens[query])), items=len(items), visible=visible))
    figure(
        page,
        "hierarchical-blocks",
        result,
        blocks_chart(items, page.theme, query=query, n=query + 1 if page.causal else len(tokens)),
        table=items,
        shown=type(mechanism),
        caption=f"What one query reads, near blocks token by token, far ones by their means ({mechanism.label}).",
        alt=_("Blocks that one query reads: single tokens near it, longer and longer blocks further away."),
    )


def _cost(page: Page, mechanism: Hierarchical) -> None:
    with st.spinner(_("Measuring …")):
        result = run(Variants(source=page.source, setting=Setting.of(mechanism)))
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
        shown=type(mechanism),
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


def _sinks_switch() -> bool:
    return state.switch(
        "hierarchical.plain",
        _("Leave the sinks out"),
        default=False,
        help=_("The error of what the other keys add: a sink takes much weight and adds next to nothing."),
        view=True,
    )


def _error(page: Page, mechanism: Hierarchical) -> None:
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
            shown=type(mechanism),
            alt=_("Lines of the output's error against the group size, for two levels, three, and blocks."),
        )

    sweep_card(page, study, draw)
