"""The routing page's measurements, one at a time: shares, balance, flow, paths, errors, clusters."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from longattn_core.charts.curves import curves_chart
from longattn_core.charts.figures.routed import errors_chart, flow_figure, load_chart, probabilities_chart
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


def measure_view(here: Page, mechanism: Routed) -> None:
    """One measurement at a time, so that nothing is computed that is not looked at."""
    views: dict[str, tuple[str, Callable[[], None]]] = {
        "shares": (_("Shares along the text"), lambda: _shares(here, mechanism)),
        "balance": (_("Balance"), lambda: _balance(here, mechanism)),
        "flow": (_("Who goes where"), lambda: _flow(here, mechanism)),
        "errors": (_("Errors"), lambda: _errors(here, mechanism)),
        "paths": (_("Each path's map"), lambda: _paths(here, mechanism)),
        "maps": (_("Mixed map"), lambda: _maps(here, mechanism)),
        "clusters": (_("Clusters"), lambda: _clusters(here, mechanism)),
        "sweep": (_("How many clusters"), lambda: _sweep(here, mechanism)),
    }
    first = "clusters" if mechanism.variant == "clusters" else "shares"
    chosen = state.choose(
        "routed.measure", _("Measured"), list(views), default=first, labels=lambda name: views[name][0], style="segments"
    )
    views[chosen][1]()


def _routes(here: Page, mechanism: Routed) -> Result | None:
    result = run(Routes(source=here.source, setting=Setting.of(mechanism)))
    if refusal := result.words.get("refusal"):
        st.info(refusal, icon=":material/block:")
        return None
    return result


def _shares(here: Page, mechanism: Routed) -> None:
    result = _routes(here, mechanism)
    if result is None:
        return
    paths = result.words["paths"].split("\n")
    st.caption(prose(here.name, "shares"))
    table = pd.DataFrame(result.arrays["shares"], columns=paths).assign(token=result.arrays["tokens"])
    figure(
        here,
        "routed-shares",
        result,
        probabilities_chart(result.arrays["shares"], paths, here.theme),
        table=table,
        caption=f"The shares of the paths along the text ({result.words['label']}).",
        shown=Routed,
        alt=_("Shares of {paths}, stacked along the text.").format(paths=", ".join(paths)),
    )


def _balance(here: Page, mechanism: Routed) -> None:
    result = _routes(here, mechanism)
    if result is None:
        return
    table = result.tables["paths"]
    _own, fitted, random = (float(value) for value in result.arrays["balance"])
    section = "balance" if random < fitted else "balance_even"
    st.caption(prose(here.name, section, paths=len(table), fitted=fitted, random=random))
    shown = table.assign(load=table["fitted"])
    figure(
        here,
        "routed-balance",
        result,
        load_chart(shown, here.theme, other="random", other_name=_("random router")),
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


def _flow(here: Page, mechanism: Routed) -> None:
    result = _routes(here, mechanism)
    if result is None:
        return
    flow = result.tables["flow"]
    st.caption(prose(here.name, "flow_quarters" if flow["kind"].isin(QUARTERS).all() else "flow"))
    figure(
        here,
        "routed-flow",
        result,
        flow_figure(flow, here.theme),
        table=flow,
        shown=Routed,
        caption="From kinds of tokens to paths, by share.",
        alt=_("Ribbons from {kinds} to {paths}.").format(
            kinds=", ".join(dict.fromkeys(flow["kind"])), paths=", ".join(dict.fromkeys(flow["path"]))
        ),
    )


def _errors(here: Page, mechanism: Routed) -> None:
    result = _routes(here, mechanism)
    if result is None:
        return
    recall = "recall without sinks" if _sinks_switch() else "recall"
    said, errors = result.words["sample"].removeprefix("measured on "), result.tables["errors"]
    st.caption(prose(here.name, "errors", sample=said))
    figure(
        here,
        "routed-errors",
        result,
        errors_chart(errors, here.theme, recall=recall),
        table=errors,
        shown=Routed,
        caption="Error of routers, single paths, and the mean of the visible values.",
        alt=_("Points: the error of each way of choosing, with a dashed line for the mean of the visible values."),
    )


def _paths(here: Page, mechanism: Routed) -> None:
    st.caption(prose(here.name, "paths"))
    n = here.tokens
    for place, path in zip(st.columns(max(3, len(mechanism.paths))), mechanism.paths, strict=False):
        alone = mechanism.with_dials(variant="router", paths=(path,), weights="random", top_k=0)
        result = run(Maps(source=here.source, setting=Setting.of(alone), cells=CELLS))
        with place:
            if refusal := result.words.get("mechanism refusal"):
                st.info(refusal, icon=":material/block:")
                continue
            attention_map(
                result.arrays["mechanism"],
                key=f"path {path}",
                title=path,
                theme=here.theme,
                full=(n, n),
                causal=here.causal,
                tokens_rows=[str(token) for token in result.arrays["tokens"]],
                link="paths",
                content=f"{result.study!r}",
                strips=False,
            )


def _maps(here: Page, mechanism: Routed) -> None:
    maps_card(here, mechanism)


def _clusters(here: Page, mechanism: Routed) -> None:
    with st.spinner(_("Measuring …")):
        result = run(Clusters(source=here.source, setting=Setting.of(mechanism.with_dials(variant="clusters"))))
    found = cluster_finding(result)
    st.markdown(
        prose(
            here.name,
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
        cluster_picture(here, result)
    st.caption(prose(here.name, "clusters"))
    without = _sinks_switch()
    meets = result.arrays["meets plain" if without else "meets"]
    names = [_("cluster {number}").format(number=number) for number in range(found.clusters)]
    attention_map(
        meets,
        key="clusters meet",
        title=_("Who meets whom"),
        theme=here.theme,
        scale="linear",
        top=max(0.05, float(pd.DataFrame(meets).max().max())),
        tokens_rows=names,
        link="clusters",
        size=480,
        content=f"{result.study!r} {without}",
        strips=False,
        axes=(_("the query's cluster"), _("the key's cluster")),
    )


def _sinks_switch() -> bool:
    return state.switch(
        "routed.plain",
        _("Leave the sinks out of the mass"),
        default=False,
        help=_("A sink takes weight from everywhere and adds next to nothing."),
    )


def _sweep(here: Page, mechanism: Routed) -> None:
    st.caption(prose(here.name, "sweep", seeds=SEEDS))
    measure = state.choose(
        "routed.sweep",
        _("Against the number of clusters"),
        ["error", "recall"],
        default="error",
        style="segments",
        labels={"error": _("error"), "recall": _("recall and share of pairs")}.__getitem__,
    )

    def draw(result: Result) -> None:
        if measure == "error":
            table = result.tables["error"].assign(curve=_("clusters, read whole"))
            control = float(result.tables["points"]["control"].iloc[0])
            chart = curves_chart(
                table,
                here.theme,
                x="clusters",
                y="error",
                series="curve",
                log_x=True,
                band=("low", "high"),
                keys={_("clusters, read whole"): "routed"},
                rules=[(control, _("mean of the visible values"))],
                x_title=_("clusters (logarithmic)"),
                y_title=_("relative error of the output"),
                labels=False,
            )
        else:
            parts = [
                result.tables[name].rename(columns={name: "value"}).assign(curve=curve)
                for name, curve in (("recall", _("recall")), ("share", _("share of pairs")))
            ]
            table = pd.concat(parts, ignore_index=True)
            chart = curves_chart(
                table,
                here.theme,
                x="clusters",
                y="value",
                series="curve",
                log_x=True,
                band=("low", "high"),
                keys={_("recall"): "routed"},
                colours={_("share of pairs"): here.theme.muted},
                x_title=_("clusters (logarithmic)"),
                y_title=_("share"),
                y_format=".0%",
                y_domain=(0.0, 1.02),
            )
        figure(
            here,
            f"routed-sweep-{measure}",
            result,
            chart,
            table=table,
            shown=Routed,
            caption="Clusters read whole: error, recall and share of pairs against their number.",
            alt=_("Lines against the number of clusters, with intervals over starts of k-means."),
        )

    sweep_card(here, ClusterError(source=here.source, centred=mechanism.centred), draw)
