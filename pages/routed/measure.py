"""The routing page's measurements, one at a time: shares, balance, flow, paths, errors, clusters."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.charts.figures.routed import errors_chart, flow_figure, load_chart, probabilities_chart
from longattn_core.charts.pictures import MapPicture
from longattn_core.mechanisms.routed import Routed
from longattn_core.studies.base.maps import Maps
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.routed import ClusterError, Clusters, Routes, cluster_finding
from longattn_core.studies.routed.error import SEEDS
from longattn_core.studies.routed.kinds import QUARTERS
from pages.kit import state
from pages.kit.components.attention_map import attention_map
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.map_card import maps_card
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose
from pages.routed.hero import cluster_picture

CELLS = 256


def measure(page: Page, mechanism: Routed) -> None:
    """One measurement at a time, so that nothing is computed that is not looked at."""
    views: dict[str, tuple[str, Callable[[], None]]] = {
        "shares": (_("Shares along the text"), lambda: _shares(page, mechanism)),
        "balance": (_("Balance"), lambda: _balance(page, mechanism)),
        "flow": (_("Who goes where"), lambda: _flow(page, mechanism)),
        "errors": (_("Errors"), lambda: _errors(page, mechanism)),
        "paths": (_("Each path's map"), lambda: _paths(page, mechanism)),
        "maps": (_("Mixed map"), lambda: _maps(page, mechanism)),
        "clusters": (_("Clusters"), lambda: _clusters(page, mechanism)),
        "sweep": (_("How many clusters"), lambda: _sweep(page, mechanism)),
    }
    first = "clusters" if mechanism.variant == "clusters" else "shares"
    chosen = state.choose(
        "routed.measure",
        _("Measured"),
        list(views),
        default=first,
        labels=lambda name: views[name][0],
        style="segments",
        view=True,
    )
    views[chosen][1]()


def _routes(page: Page, mechanism: Routed) -> Result | None:
    result = run(Routes(source=page.source, setting=Setting.of(mechanism)))
    if refusal := result.words.get("refusal"):
        st.info(refusal, icon=":material/block:")
        return None
    return result


def _shares(page: Page, mechanism: Routed) -> None:
    result = _routes(page, mechanism)
    if result is None:
        return
    paths = result.words["paths"].split("\n")
    st.caption(prose(page.name, "shares"))
    table = pd.DataFrame(result.arrays["shares"], columns=paths).assign(token=result.arrays["tokens"])
    figure(
        page,
        "routed-shares",
        result,
        probabilities_chart(result.arrays["shares"], paths, page.theme),
        table=table,
        caption=f"The shares of the paths along the text ({result.words['label']}).",
        shown=Routed,
        alt=_("Shares of {paths}, stacked along the text.").format(paths=", ".join(paths)),
    )


def _balance(page: Page, mechanism: Routed) -> None:
    result = _routes(page, mechanism)
    if result is None:
        return
    table = result.tables["paths"]
    _own, fitted, random = (float(value) for value in result.arrays["balance"])
    section = "balance" if random < fitted else "balance_even"
    st.caption(prose(page.name, section, paths=len(table), fitted=fitted, random=random))
    shown = table.assign(load=table["fitted"])
    figure(
        page,
        "routed-balance",
        result,
        load_chart(shown, page.theme, other="random", other_name=_("random router")),
        table=table,
        title=_("Bars: the fitted router. Ticks: one drawn at random. Dashed: all alike."),
        shown=Routed,
        caption="Load of each path under the fitted and the random router.",
        alt=_("Bars of the fitted router's loads with ticks for the random router's."),
    )
    percent = st.column_config.NumberColumn
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "path": _("path"),
            "load": percent(_("load here"), format="percent"),
            "fitted": percent(_("load, fitted"), format="percent"),
            "random": percent(_("load, random"), format="percent"),
            "chosen": percent(_("first choice here"), format="percent"),
            "best": percent(_("serves best"), format="percent"),
            "error": percent(_("error alone"), format="%.2f"),
            "recall": percent(_("exact mass it sees"), format="percent"),
            "recall without sinks": percent(_("… without sinks"), format="percent"),
            "share": percent(_("pairs it looks at"), format="percent"),
        },
    )
    hits = result.tables["hits"]
    st.dataframe(
        hits,
        hide_index=True,
        column_config={"way": _("first choice"), "right": percent(_("is the path that serves best"), format="percent")},
    )


def _flow(page: Page, mechanism: Routed) -> None:
    result = _routes(page, mechanism)
    if result is None:
        return
    flow = result.tables["flow"]
    st.caption(prose(page.name, "flow_quarters" if flow["kind"].isin(QUARTERS).all() else "flow"))
    figure(
        page,
        "routed-flow",
        result,
        flow_figure(flow, page.theme),
        table=flow,
        shown=Routed,
        caption="From kinds of tokens to paths, by share.",
        alt=_("Ribbons from {kinds} to {paths}.").format(
            kinds=", ".join(dict.fromkeys(flow["kind"])), paths=", ".join(dict.fromkeys(flow["path"]))
        ),
    )


def _errors(page: Page, mechanism: Routed) -> None:
    result = _routes(page, mechanism)
    if result is None:
        return
    recall = "recall without sinks" if _sinks_switch() else "recall"
    said, errors = result.words["sample"].removeprefix("measured on "), result.tables["errors"]
    st.caption(prose(page.name, "errors", sample=said))
    figure(
        page,
        "routed-errors",
        result,
        errors_chart(errors, page.theme, recall=recall),
        table=errors,
        shown=Routed,
        caption="Error of routers, single paths, and the mean of the visible values.",
        alt=_("Points: the error of each way of choosing, with a dashed line for the mean of the visible values."),
    )


def _paths(page: Page, mechanism: Routed) -> None:
    st.caption(prose(page.name, "paths"))
    n = page.tokens
    for place, path in zip(st.columns(max(3, len(mechanism.paths))), mechanism.paths, strict=False):
        alone = mechanism.with_dials(variant="router", paths=(path,), weights="random", top_k=0)
        result = run(Maps(source=page.source, setting=Setting.of(alone), cells=CELLS))
        with place:
            if refusal := result.words.get("mechanism refusal"):
                st.info(refusal, icon=":material/block:")
                continue
            attention_map(
                MapPicture(
                    values=result.arrays["mechanism"],
                    title=path,
                    full=(n, n),
                    causal=page.causal,
                    tokens_rows=[str(token) for token in result.arrays["tokens"]],
                ),
                key=f"path {path}",
                theme=page.theme,
                link="paths",
                content=f"{result.study!r}",
                strips=False,
            )


def _maps(page: Page, mechanism: Routed) -> None:
    maps_card(page, mechanism)


def _clusters(page: Page, mechanism: Routed) -> None:
    with st.spinner(_("Measuring …")):
        result = run(Clusters(source=page.source, setting=Setting.of(mechanism.with_dials(variant="clusters"))))
    found = cluster_finding(result)
    st.markdown(
        prose(
            page.name,
            "clusters_sizes",
            clusters=found.clusters,
            smallest=found.smallest,
            largest=found.largest,
            evenness=found.evenness,
            kept=found.kept,
            kept_plain=found.kept_plain,
            chance=found.chance,
        )
    )
    if mechanism.variant != "clusters":
        cluster_picture(page, result)
    st.caption(prose(page.name, "clusters"))
    without = _sinks_switch()
    meets = result.arrays["meets plain" if without else "meets"]
    names = [_("cluster {number}").format(number=number) for number in range(found.clusters)]
    attention_map(
        MapPicture(
            values=meets,
            title=_("Who meets whom"),
            scale="linear",
            top=max(0.05, float(pd.DataFrame(meets).max().max())),
            tokens_rows=names,
        ),
        key="clusters meet",
        theme=page.theme,
        link="clusters",
        content=f"{result.study!r} {without}",
        strips=False,
        axes=(_("the query's cluster"), _("the key's cluster")),
        size=480,
    )


def _sinks_switch() -> bool:
    return state.switch(
        "routed.plain",
        _("Leave the sinks out of the mass"),
        default=False,
        help=_("A sink takes weight from everywhere and adds next to nothing."),
        view=True,
    )


def _sweep(page: Page, mechanism: Routed) -> None:
    st.caption(prose(page.name, "sweep", seeds=SEEDS))
    measure = state.choose(
        "routed.sweep",
        _("Against the number of clusters"),
        ["error", "recall"],
        default="error",
        style="segments",
        labels={"error": _("error"), "recall": _("recall and share of pairs")}.__getitem__,
        view=True,
    )

    def draw(result: Result) -> None:
        if measure == "error":
            table = result.tables["error"].assign(curve=_("clusters, read whole"))
            control = float(result.tables["points"]["control"].iloc[0])
            chart = curves_chart(
                table,
                page.theme,
                x=CurveAxis(column="clusters", title=_("clusters (logarithmic)"), log=True),
                y=CurveAxis(column="error", title=_("relative error of the output")),
                series=CurveSeries(
                    column="curve", band=("low", "high"), keys={_("clusters, read whole"): "routed"}, labels=False
                ),
                rules=[(control, _("mean of the visible values"))],
            )
        else:
            parts = [
                result.tables[name].rename(columns={name: "value"}).assign(curve=curve)
                for name, curve in (("recall", _("recall")), ("share", _("share of pairs")))
            ]
            table = pd.concat(parts, ignore_index=True)
            chart = curves_chart(
                table,
                page.theme,
                x=CurveAxis(column="clusters", title=_("clusters (logarithmic)"), log=True),
                y=CurveAxis(column="value", title=_("share"), domain=(0.0, 1.02), format=".0%"),
                series=CurveSeries(
                    column="curve",
                    band=("low", "high"),
                    colours={_("share of pairs"): page.theme.muted},
                    keys={_("recall"): "routed"},
                ),
            )
        figure(
            page,
            f"routed-sweep-{measure}",
            result,
            chart,
            table=table,
            shown=Routed,
            caption="Clusters read whole: error, recall and share of pairs against their number.",
            alt=_("Lines against the number of clusters, with intervals over starts of k-means."),
        )

    sweep_card(page, ClusterError(source=page.source, centred=mechanism.centred), draw)
