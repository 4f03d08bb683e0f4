"""The routing page, step by step and in theory: one query's way, clusters as they are made, capsules round by round."""

from __future__ import annotations

import numpy as np
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.routed import path_colours
from longattn_core.charts.pictures import MapPicture
from longattn_core.mechanisms.routed import Routed
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.routed import Capsules, Clusters, Route, capsules_kind
from longattn_core.studies.side_by_side.compare import Compare
from pages.kit.components.attention_map import attention_map
from pages.kit.components.stepper import stepper
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose, quoted
from pages.routed.hero import chosen_query

MAP_ROWS = 512


def step(page: Page, mechanism: Routed) -> None:
    """The way of the chosen variant, frame by frame."""
    if mechanism.variant == "clusters":
        _cluster_steps(page, mechanism)
    elif mechanism.variant == "capsules":
        capsule_steps(page, mechanism, "routed.step")
    else:
        _router_steps(page, mechanism)


def _router_steps(page: Page, mechanism: Routed) -> None:
    query = chosen_query(page)
    result = run(Route(source=page.source, setting=Setting.of(mechanism), query=query))
    if refusal := result.words.get("refusal"):
        st.info(refusal, icon=":material/block:")
        return
    paths = result.words["paths"].split("\n")
    shares, tokens = result.arrays["shares"], [str(token) for token in result.arrays["tokens"]]
    stops = [_("ask the router"), *(_("path: {path}").format(path=path) for path in paths), _("mix"), _("exact")]
    at = stepper("routed.step", stops, theme=page.theme, label=_("One query's way"))
    st.caption(
        _("The query is {token}, token {at}; click another word of the text above to follow it.").format(
            token=quoted(tokens[query]), at=query
        )
    )
    exact = np.nan_to_num(result.arrays["exact"])
    if at == 0:
        _ask(page, mechanism, result, paths)
        return
    if at <= len(paths):
        row = result.arrays["rows"][at - 1]
        seen = ~np.isnan(row)
        st.markdown(
            prose(
                page.name,
                "step_path",
                path=paths[at - 1],
                keys=int(seen.sum()),
                recall=float(exact[seen].sum()),
                share=float(shares[at - 1]),
            )
        )
    else:
        row = result.arrays["mixture"] if at == len(paths) + 1 else result.arrays["exact"]
        st.markdown(prose(page.name, "step_mix" if at == len(paths) + 1 else "step_exact"))
    token_text(
        TextPicture(tokens=tokens, weights=row, selected=query, causal_from=query if page.causal else None),
        key="routed row",
        theme=page.theme,
        height=260,
        caption=stops[at],
    )


def _ask(page: Page, mechanism: Routed, result: Result, paths: list[str]) -> None:
    section = "step_ask" if mechanism.weights == "fitted" else "step_ask_random"
    st.markdown(prose(page.name, "step_ask_before" if bool(result.arrays["before"]) else section))
    colours = path_colours(paths, page.theme)
    size = f"{page.theme.size('label'):g}px"
    bars = "".join(
        f'<div style="display:flex;align-items:center;margin:6px 0"><span style="width:90px">{path}</span>'
        f'<span style="width:130px">W·q = {logit:+.2f}</span>'
        f'<span style="flex:1;max-width:480px"><i style="display:block;height:18px;width:{max(share, 0.004):.1%};'
        f'background:{colours[path]}"></i></span><span style="width:64px;text-align:right">{share:.1%}</span></div>'
        for path, logit, share in zip(paths, result.arrays["logits"], result.arrays["shares"], strict=True)
    )
    st.html(f'<div style="font-size:{size};color:{page.theme.text}">{bars}</div>')


def _cluster_steps(page: Page, mechanism: Routed) -> None:
    result = run(Clusters(source=page.source, setting=Setting.of(mechanism)))
    stops = [_("find the clusters"), _("sort by cluster"), _("read the own cluster")]
    at = stepper("routed.step", stops, theme=page.theme, label=_("Clusters"))
    tokens, query = [str(token) for token in result.arrays["tokens"]], chosen_query(page)
    count = len(result.tables["sizes"])
    names = {number: str(number) for number in range(count)}
    if at == 0:
        st.markdown(prose(page.name, "step_centre", clusters=count))
        agreement = result.arrays["agreement"]
        frame = result.tables["sizes"].head(0).reindex(range(len(agreement)))
        frame = frame.assign(round=np.arange(1, len(agreement) + 1), cosine=agreement, curve=_("mean cosine"))
        figure(
            page,
            "routed-passes",
            result,
            curves_chart(
                frame,
                page.theme,
                x=CurveAxis(column="round", title=_("pass of k-means")),
                y=CurveAxis(column="cosine", title=_("mean cosine of a token with its direction")),
                series=CurveSeries(column="curve", keys={_("mean cosine"): "routed"}, labels=False),
            ),
            table=frame[["round", "cosine"]],
            shown=Routed,
            caption="How well the clusters' directions fit, pass by pass.",
            alt=_("A line that rises and levels off."),
        )
    elif at == 1:
        st.markdown(prose(page.name, "step_sort"))
        order = result.arrays["order"]
        token_text(
            TextPicture(tokens=[tokens[place] for place in order], groups=result.arrays["keys"][order], group_names=names),
            key="routed sorted",
            theme=page.theme,
            link="routed sorted",
            height=260,
            caption=stops[at],
        )
    else:
        st.markdown(prose(page.name, "step_read"))
        row = run(Compare(source=page.source, settings=(Setting.of(mechanism),), query=query)).arrays["weights"][0]
        token_text(
            TextPicture(tokens=tokens, weights=row, selected=query, causal_from=query if page.causal else None),
            key="routed row",
            theme=page.theme,
            height=260,
            caption=stops[at],
        )


def capsule_steps(page: Page, mechanism: Routed, name: str) -> None:
    """The couplings, round by round, as a picture, and the entropy of a token's couplings."""
    result = run(Capsules(source=page.source, setting=Setting.of(mechanism)))
    couplings, order = result.arrays["couplings"], result.arrays["order"]
    table = result.tables["iterations"]
    stops = [_("round {number}").format(number=number) for number in table["iteration"]]
    at = stepper(name, stops, theme=page.theme, label=_("Rounds of agreement"))
    bound, entropy = float(table["bound"].iloc[0]), table["entropy"].to_numpy()
    st.markdown(prose(page.name, "step_capsules", at=at + 1, of=len(stops), entropy=float(entropy[at]), bound=bound))
    rows = couplings[at][order]
    if len(rows) > MAP_ROWS:
        edges = np.linspace(0, len(rows), MAP_ROWS + 1).astype(int)
        rows = np.add.reduceat(rows, edges[:-1], axis=0) / np.diff(edges)[:, None]
    tokens = [str(token) for token in result.arrays["tokens"][order]]
    picture, curve = st.columns([3, 2], gap="medium")
    with picture:
        attention_map(
            MapPicture(
                values=rows,
                title=_("Couplings, {stop}").format(stop=stops[at]),
                subtitle=_("unmasked reading: the model never saw this"),
                full=(len(order), rows.shape[1]),
                reduce="mean",
                scale="linear",
                tokens_rows=tokens,
                tokens_cols=[_("capsule {at}").format(at=i) for i in range(rows.shape[1])],
            ),
            key=f"capsules of {name}",
            theme=page.theme,
            link=f"capsules of {name}",
            content=f"{result.study!r} {at}",
            strips=False,
            axes=(_("token (sorted by capsule)"), _("capsule")),
            size=420,
        )
    with curve:
        figure(
            page,
            f"routed-entropy-{name.rpartition('.')[2]}",
            result,
            curves_chart(
                table.assign(curve=_("mean entropy")),
                page.theme,
                x=CurveAxis(column="iteration", title=_("round")),
                y=CurveAxis(
                    column="entropy", title=_("entropy of a token's couplings (nats)"), domain=(0.0, bound * 1.08 or 1.0)
                ),
                series=CurveSeries(column="curve", keys={_("mean entropy"): "routed"}, labels=False),
                rules=[(bound, _("all alike, ln {c}").format(c=rows.shape[1]))],
                marked=[(at + 1, stops[at])],
            ),
            table=table,
            shown=Routed,
            caption="Entropy of the couplings, round by round.",
            alt=_("A line from {first:.2f} to {last:.2f} nats.").format(first=entropy[0], last=entropy[-1]),
        )
    st.markdown(
        prose(
            page.name,
            f"capsules_{capsules_kind(result)}",
            iterations=len(stops),
            first=float(entropy[0]),
            last=float(entropy[-1]),
            bound=bound,
        )
    )
