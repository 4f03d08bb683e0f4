"""The hierarchy page below its picture: the descent step by step, the measurements, and the counting behind them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.curves import curves_chart
from longattn_core.charts.hierarchical import blocks_chart, choices_chart, outcomes_chart, variants_chart
from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.mechanisms.hierarchical.mechanism import NESTED
from longattn_core.studies.hierarchical import Counts, Descent, Finding, Gates, GroupError, LevelMaps, Variants
from longattn_core.studies.hierarchical.counts import best_group
from longattn_core.studies.hierarchical.error import OWN
from longattn_core.studies.hierarchical.tree import tree_of
from longattn_core.studies.hierarchical.wrong import ARRIVES
from longattn_core.studies.study import Result, Setting
from pages.kit import state
from pages.kit.attention_map import attention_map
from pages.kit.cards import figure, maps_card
from pages.kit.compute import run
from pages.kit.hierarchical_icicle import answers
from pages.kit.lesson import formula
from pages.kit.page import Page
from pages.kit.stepper import stepper
from pages.kit.sweeps import sweep_card
from pages.kit.token_text import token_text
from pages.kit.words import _, prose, quoted


def step_view(here: Page, mechanism: Hierarchical, descent: Result) -> None:
    """The descent frame by frame: the cut, a choice at each level, and the row of weights that comes of it."""
    steps, levels = descent.tables["steps"], descent.tables["levels"]
    nested = mechanism.variant in NESTED
    stops = [_("cut the text")]
    for name in levels["name"]:
        verb = _("choose a {name}") if mechanism.variant == "product" else _("read: {name}")
        stops.append(verb.format(name=name))
    stops.append(_("join the levels"))
    at = stepper("hierarchical.step", stops, theme=here.theme, label=_("The descent"))
    tokens, query = [str(token) for token in descent.arrays["tokens"]], int(descent.arrays["query"])
    causal_from = query if here.causal else None
    if at == 0:
        _cut(here, mechanism, descent, nested)
        return
    if at == len(stops) - 1:
        st.markdown(prose(here.name, "step_join"))
        token_text(
            tokens,
            key="hierarchical joined",
            theme=here.theme,
            weights=descent.arrays["mechanism"],
            selected=query,
            causal_from=causal_from,
            caption=_("The weights of the framed word after all levels are joined."),
        )
        return
    arrival = levels.iloc[at - 1].to_dict()
    candidates = steps[steps["level"] == arrival["level"]]
    if not len(candidates):
        st.markdown(prose(here.name, "step_none"))
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
        prose(here.name, section, arrives=arrival["arrives"], exact=arrival["exact"], candidates=len(candidates), names=plural)
    )
    figure(
        here,
        "hierarchical-choice",
        descent,
        choices_chart(candidates, here.theme, title=_("share of what arrives at this step")),
        table=candidates,
        shown=type(mechanism),
        caption=f"One choice of the descent, among {len(candidates)} {plural}: exact attention's shares and the mechanism's.",
        alt=_("Two bars a candidate: exact attention's share, and the hierarchy's."),
    )


def _cut(here: Page, mechanism: Hierarchical, descent: Result, nested: bool) -> None:
    tokens, query = [str(token) for token in descent.arrays["tokens"]], int(descent.arrays["query"])
    if not nested:
        st.markdown(prose(here.name, "step_cut_blocks"))
        _blocks(here, mechanism, descent)
        return
    outer, inner = tree_of(here.source, mechanism)[:2]
    st.markdown(prose(here.name, "step_cut", outers=outer.plural, inners=inner.plural))
    cuts = {
        int(first): (0.12, f"{inner.name} {number}") for number, first in enumerate(inner.first.tolist(), start=1) if first > 0
    }
    token_text(
        tokens,
        key="hierarchical cut",
        theme=here.theme,
        groups=outer.of.numpy(),
        group_names=dict(enumerate(outer.labels)) if outer.count <= 12 else None,
        cuts=cuts,
        selected=query,
        caption=_("{outers} in colours, a bar before each {inner}.").format(outers=outer.plural.capitalize(), inner=inner.name),
    )


def measure_view(here: Page, mechanism: Hierarchical, descent: Result, wrong: Result, found: Finding) -> None:
    """One measurement at a time, so that nothing is computed that is not looked at."""
    views: dict[str, tuple[str, Callable[[], None]]] = {
        "maps": (_("Maps by level"), lambda: _maps(here, mechanism)),
        "gates": (_("What each level counts"), lambda: _gates(here, mechanism)),
        "wrong": (_("Where it goes wrong"), lambda: _wrong(here, mechanism, wrong, descent, found)),
        "blocks": (_("Near fine, far coarse"), lambda: _near_far(here, mechanism, descent)),
        "cost": (_("Cost of each way"), lambda: _cost(here, mechanism)),
        "error": (_("Error and group size"), lambda: _error(here, mechanism)),
    }
    chosen = state.choose(
        "hierarchical.measure", _("Measured"), list(views), default="maps", labels=lambda name: views[name][0], style="segments"
    )
    views[chosen][1]()


def _maps(here: Page, mechanism: Hierarchical) -> None:
    tree = tree_of(here.source, mechanism)
    names = {"outer": tree[0].plural, "inner": tree[1].plural, "joined": _("tokens (joined)")}
    level = state.choose("hierarchical.map", _("Level"), list(names), default="outer", labels=names.__getitem__, style="segments")
    if level == "joined":
        st.caption(prose(here.name, "maps_joined"))
        maps_card(here, mechanism)
        return
    result = run(LevelMaps(source=here.source, setting=Setting.of(mechanism), level=level))
    if "refusal" in result.words:
        st.info(result.words["refusal"], icon=":material/block:")
        return
    name = result.words["name"]
    st.caption(prose(here.name, "maps_levels", name=name, sample=result.words["sample"].capitalize()))
    labels = [str(label) for label in result.arrays["labels"]]
    titles = {"exact": _("Exact attention"), "mechanism": mechanism.label, "difference": _("Mechanism − exact")}
    # One under another on a phone, where Streamlit stacks columns.
    for place, (array, title) in zip(st.columns(3, gap="medium"), titles.items(), strict=True):
        with place:
            attention_map(
                result.arrays[array],
                key=f"hierarchical {level} {array}",
                title=title,
                theme=here.theme,
                subtitle=_("{count} × {count} {names}").format(count=len(labels), names=result.words["plural"]),
                scale="difference" if array == "difference" else "log",
                causal=here.causal,
                tokens_rows=labels,
                axes=(_("query's {name}").format(name=name), _("key's {name}").format(name=name)),
                link=f"hierarchical {level}",
                content=f"{result.study!r} {array}",
                strips=False,
            )


def _gates(here: Page, mechanism: Hierarchical) -> None:
    with st.spinner(_("Measuring …")):
        result = run(Gates(source=here.source, setting=Setting.of(mechanism)))
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
    colours = {f"{name}{ending}": here.theme.style(key).colour for name, key in hues.items() for ending in ("", _(", exact"))}
    figure(
        here,
        "hierarchical-gates",
        result,
        curves_chart(
            long,
            here.theme,
            x="position",
            y="share",
            series="curve",
            dashed="dash",
            points=False,
            colours=colours,
            x_title=_("query (token position)"),
            y_title=_("share of the query's attention"),
            y_format=".0%",
            y_domain=(0, 1),
        ),
        table=table,
        shown=type(mechanism),
        caption=f"What each level counts along the text: {mechanism.label}.",
        alt=_("Lines of the share that each level gets along the text, with exact attention's on the same reach dashed."),
    )
    known = mechanism.variant in NESTED and tree_of(here.source, mechanism)[0].name == "paragraph"
    st.caption(prose(here.name, "gates") if known else result.words["sample"])


def _wrong(here: Page, mechanism: Hierarchical, wrong: Result, descent: Result, found: Finding) -> None:
    counts = {name: int(wrong.arrays[name]) for name in ("sinks_only", "spread", "lone")}
    numbers = answers(descent, found) | counts | {"sample": wrong.words["sample"].capitalize()}
    if not found.targets:
        st.info(prose(here.name, "wrong_none", **numbers))
        return
    st.markdown(prose(here.name, "wrong", **numbers))
    outcomes = wrong.tables["outcomes"]
    names = {
        outcome: _("arrives") if outcome == ARRIVES else _("lost at the {name}").format(name=outcome)
        for outcome in dict.fromkeys(outcomes["outcome"])
    }
    figure(
        here,
        "hierarchical-wrong",
        wrong,
        outcomes_chart(outcomes, here.theme, names=names),
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


def _near_far(here: Page, mechanism: Hierarchical, descent: Result) -> None:
    blocks = mechanism if mechanism.variant == "near_far" else mechanism.with_dials(variant="near_far")
    query = int(descent.arrays["query"])
    result = run(Descent(source=here.source, setting=Setting.of(blocks), query=query))
    _blocks(here, blocks, result)


def _blocks(here: Page, mechanism: Hierarchical, result: Result) -> None:
    tokens, query = result.arrays["tokens"], int(result.arrays["query"])
    items = result.tables["items"]
    visible = int((~np.isnan(result.arrays["exact"])).sum())
    st.caption(prose(here.name, "blocks", query=quoted(str(tokens[query])), items=len(items), visible=visible))
    figure(
        here,
        "hierarchical-blocks",
        result,
        blocks_chart(items, here.theme, query=query, n=query + 1 if here.causal else len(tokens)),
        table=items,
        shown=type(mechanism),
        caption=f"What one query reads, near blocks token by token, far ones by their means ({mechanism.label}).",
        alt=_("Blocks that one query reads: single tokens near it, longer and longer blocks further away."),
    )


def _cost(here: Page, mechanism: Hierarchical) -> None:
    with st.spinner(_("Measuring …")):
        result = run(Variants(source=here.source, setting=Setting.of(mechanism)))
    table = result.tables["variants"]
    without = _sinks_switch()
    error, control = (f"{name} without sinks" if without else name for name in ("error", "control"))
    st.caption(prose(here.name, "cost"))
    figure(
        here,
        "hierarchical-cost",
        result,
        variants_chart(table, here.theme, error=error, control=control),
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
    )


def _error(here: Page, mechanism: Hierarchical) -> None:
    without = _sinks_switch()
    y = "error without sinks" if without else "error"
    outers = tree_of(here.source, mechanism)[0].plural
    st.caption(prose(here.name, "error", outers=outers))
    study = GroupError(
        source=here.source, joined=mechanism.variant if mechanism.variant in NESTED else "product", counts=mechanism.counts
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
            here,
            "hierarchical-error",
            result,
            curves_chart(
                swept,
                here.theme,
                x="size",
                y=y,
                series="label",
                log_x=True,
                rules=rules,
                x_title=_("tokens in a group, or in the near block (logarithmic)"),
                y_title=_("relative error of the output"),
            ),
            table=table,
            caption="Error against the size of the groups, with the control.",
            shown=type(mechanism),
            alt=_("Lines of the output's error against the group size, for two levels, three, and blocks."),
        )

    sweep_card(here, study, draw)


def theory_view(here: Page, mechanism: Hierarchical, descent: Result) -> None:
    """s + n/s and n log n with today's numbers, beside the counts of real runs."""
    n = here.tokens
    st.markdown(prose(here.name, "theory"))
    groups = tree_of(here.source, mechanism)
    s = max(1, round(n / groups[1].count))
    w = mechanism.block + mechanism.block % 2
    best = math.sqrt(n)
    formula(here, "two", n=n, s=s, pairs=n * (s + n / s), square=n * n)
    formula(here, "best", best=best, least=2 * n * best, percent=min(100.0, 200 / best))
    if n > w:
        pairs = n * (3 * w + 1.5 * w * math.log2(n / w))
        st.markdown(prose(here.name, "theory_blocks"))
        formula(here, "blocks", n=n, w=w, blocks=pairs, percent=100 * pairs / n**2)
    _chain(here, mechanism, descent)
    if n < 4:
        return
    with st.spinner(_("Counting …")):
        result = run(Counts(source=here.source))
    table = result.tables["counts"]
    long = pd.concat(
        [table.assign(value=table["counted"], dash=False), table.assign(value=table["formula"], dash=True)], ignore_index=True
    )
    hues = dict(zip(dict.fromkeys(table["label"]), ("hierarchical", "lsh", "memory"), strict=False))
    colours = {name: here.theme.style(key).colour for name, key in hues.items()}
    figure(
        here,
        "hierarchical-counts",
        result,
        curves_chart(
            long,
            here.theme,
            x="size",
            y="value",
            series="label",
            dashed="dash",
            log_x=True,
            log_y=True,
            colours=colours,
            rules=[(float(result.arrays["exact"]), _("exact attention"))],
            marked=[(best_group(n), "√n")],
            x_title=_("tokens in a group, or in the near block (logarithmic)"),
            y_title=_("keys and groups read by a query (logarithmic)"),
        ),
        table=table,
        caption="Keys and groups read by a query against the group size: counted, and by formula.",
        shown=type(mechanism),
        alt=_("Lines of how many keys and groups a query reads against the group size, least near √n."),
    )
    st.caption(prose(here.name, "counts", exact=float(result.arrays["exact"]), best=best_group(n)))


def _chain(here: Page, mechanism: Hierarchical, descent: Result) -> None:
    """The product p·p·p for the heaviest token of the query's own sentence."""
    depth = len(descent.tables["levels"])
    steps = descent.tables["steps"]
    tokens = steps[steps["level"] == 0]
    if mechanism.variant != "product" or depth != 3 or not len(tokens):
        return
    best = tokens.iloc[int(tokens["weight"].to_numpy().argmax())]
    own = steps[steps["own"]].sort_values("level", ascending=False)["share"].tolist()
    names = descent.words["names"].split("\n")
    text = descent.arrays["tokens"]
    st.markdown(
        prose(
            here.name,
            "theory_product",
            query=quoted(str(text[int(descent.arrays["query"])])),
            best=quoted(str(text[int(best["first"])])),
        )
    )
    formula(
        here,
        "product",
        outer=names[0],
        inner=names[1],
        first=float(own[0]),
        second=float(own[1]),
        third=float(best["share"]),
        product=float(best["weight"]),
        exact=float(best["exact weight"]),
    )
