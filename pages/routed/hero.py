"""The routing page's picture: the text in the colours of its paths, clusters or capsules, and how evenly they are used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import streamlit as st

from longattn_core.charts.figures.routed import load_chart, sizes_chart
from longattn_core.charts.style.group_colours import group_colours
from longattn_core.mechanisms.routed import Routed
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.routed import Capsules, Clusters, Routes, capsules_kind, cluster_finding, router_finding
from pages.kit import state
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import answer, predict
from pages.kit.text import _, data, escaped, prose

ROWS = {
    "router": ("variant", "weights", "top_k"),
    "clusters": ("variant", "clusters", "width"),
    "capsules": ("variant", "capsules", "iterations"),
}
"""Which dials stand above the picture in each variant."""
HEIGHT = 300


def hero(page: Page, mechanism: Routed) -> tuple[str, dict[str, Any]]:
    """Answer and picture of the chosen variant; gives the answer's kind and the numbers for sentences."""
    if mechanism.variant == "clusters":
        return _clusters(page, mechanism)
    if mechanism.variant == "capsules":
        return _capsules(page, mechanism)
    return _router(page, mechanism)


def chosen_query(page: Page) -> int:
    """The query whose way is followed: the visitor's, else the one that the sample is known for, else the last token."""
    n = page.tokens
    default = n - 1
    if page.source.kind == "text" and page.source.sample is not None:
        looks = {entry["file"]: entry["look"]["query"] for entry in data("texts/index.json")}
        known = int(looks.get(page.source.sample, default))
        default = known if known < n else default
    query = state.recall("routed.query", default, int)
    return query if 0 <= query < n else default


def _choose_query(token: int) -> None:
    state.remember("routed.query", token, view=True)


def _router(page: Page, mechanism: Routed) -> tuple[str, dict[str, Any]]:
    result = run(Routes(source=page.source, setting=Setting.of(mechanism)))
    if refusal := result.words.get("refusal"):
        answer(page, "refused", refusal=refusal)
        return "refused", {"refusal": refusal}
    found = router_finding(result)
    more = "" if math.isnan(found.wide) else " " + prose(page.name, "wide", best=found.best, wide=found.wide)
    against = prose(page.name, "against_worse" if found.worse else "against_alike", best=found.best, best_error=found.best_error)
    numbers: dict[str, Any] = {
        "path": found.path,
        "load": found.load,
        "best": found.best,
        "error": found.error,
        "best_error": found.best_error,
        "wide": found.wide,
        "control": found.control,
        "more": more,
        "against": against,
    }
    answer(page, found.kind, **numbers)
    paths = result.words["paths"].split("\n")
    shares = result.arrays["shares"]
    notes = [", ".join(f"{path} {share:.0%}" for path, share in zip(paths, row, strict=True)) for row in shares.tolist()]
    text, bars = st.columns([5, 2], gap="medium")
    with text:
        token_text(
            TextPicture(
                tokens=[str(token) for token in result.arrays["tokens"]],
                groups=result.arrays["choice"],
                group_names=dict(enumerate(paths)),
                notes=notes,
                selected=chosen_query(page),
            ),
            key="routed text",
            theme=page.theme,
            height=HEIGHT,
            alt=_("The text, each token in the colour of its path."),
            on_token=_choose_query,
        )
    other, name = ("random", _("random")) if mechanism.weights == "fitted" else ("fitted", _("fitted"))
    with bars:
        figure(
            page,
            "routed-load",
            result,
            load_chart(result.tables["paths"], page.theme, other=other, other_name=_("{name} router").format(name=name)),
            table=result.tables["paths"],
            shown=Routed,
            title=f"{mechanism.label} · {mechanism.parameters}",
            caption=f"The mean share of each path ({mechanism.label}); ticks: the {other} router; dashed: all alike.",
            alt=_("Bars: {loads}.").format(
                loads=", ".join(f"{path} {load:.0%}" for path, load in zip(paths, result.tables["paths"]["load"], strict=True))
            ),
        )
    st.caption(
        prose(page.name, "hero", other=name)
        + " "
        + prose(page.name, "fitted_on", calibration=escaped(result.words["calibration"].rstrip(".")))
    )
    if len(paths) > 1 and found.kind != "even":
        gap = found.right - found.always
        predict(
            page,
            "hits",
            [_("right more often"), _("about as often"), _("less often")],
            right=0 if gap > 0.05 else 1 if gap >= -0.05 else 2,
            sample=len(result.arrays["sample"]),
            right_share=found.right,
            always=found.always,
            always_path=found.always_path,
            random=found.right_random,
        )
    return found.kind, numbers


def _clusters(page: Page, mechanism: Routed) -> tuple[str, dict[str, Any]]:
    result = run(Clusters(source=page.source, setting=Setting.of(mechanism)))
    found = cluster_finding(result)
    kind = f"clusters_{found.kind}"
    numbers: dict[str, Any] = {
        "clusters": found.clusters,
        "kept": found.kept,
        "plain": found.kept_plain,
        "chance": found.chance,
        "times": found.kept / found.chance if found.chance else 0.0,
    }
    answer(page, kind, **numbers)
    cluster_picture(page, result)
    return kind, numbers


def cluster_picture(page: Page, result: Result) -> None:
    """The text coloured by cluster, and the clusters' sizes."""
    sides = {"keys": _("as keys"), "queries": _("as queries")}
    side = state.choose(
        "routed.side", _("Tokens"), list(sides), default="keys", labels=sides.__getitem__, style="segments", view=True
    )
    numbers = np.where(result.arrays[side] < 0, -1, result.arrays[side])
    count = len(result.tables["sizes"])
    token_text(
        TextPicture(
            tokens=[str(token) for token in result.arrays["tokens"]],
            groups=numbers,
            group_names={number: str(number) for number in range(count)},
            selected=chosen_query(page),
        ),
        key="routed clusters",
        theme=page.theme,
        height=HEIGHT - 60,
        alt=_("The text, each token in the colour of its cluster."),
        on_token=_choose_query,
    )
    figure(
        page,
        "routed-sizes",
        result,
        sizes_chart(result.tables["sizes"], page.theme, colours=group_colours(range(count), page.theme)),
        table=result.tables["sizes"],
        shown=Routed,
        caption="How many keys (bars) and queries (ticks) each cluster holds.",
        alt=_("Bars: how many keys each of {count} clusters holds.").format(count=count),
    )
    word = _("key") if side == "keys" else _("query")
    fitted = prose(page.name, "fitted_on", calibration=escaped(result.words["calibration"].rstrip(".")))
    st.caption(f"{prose(page.name, 'hero_clusters', side=word)} {fitted}")


def _capsules(page: Page, mechanism: Routed) -> tuple[str, dict[str, Any]]:
    result = run(Capsules(source=page.source, setting=Setting.of(mechanism)))
    table = result.tables["iterations"]
    kind = f"capsules_{capsules_kind(result)}"
    numbers: dict[str, Any] = {
        "capsules": result.arrays["couplings"].shape[2],
        "iterations": len(table),
        "first": float(table["largest"].iloc[0]),
        "last": float(table["largest"].iloc[-1]),
        "error": float(result.arrays["error"][0]),
        "control": float(result.arrays["control"][0]),
    }
    answer(page, kind, **numbers)
    last = result.arrays["couplings"][-1]
    notes = [_("capsule {at}: {share:.0%}").format(at=int(row.argmax()), share=float(row.max())) for row in last]
    token_text(
        TextPicture(
            tokens=[str(token) for token in result.arrays["tokens"]],
            groups=last.argmax(-1),
            group_names={number: _("capsule {number}").format(number=number) for number in range(last.shape[1])},
            notes=notes,
        ),
        key="routed capsules",
        theme=page.theme,
        height=HEIGHT,
        alt=_("The text, each token in the colour of its capsule."),
    )
    st.caption(prose(page.name, "hero_capsules"))
    return kind, numbers
