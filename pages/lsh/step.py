"""Hashing frame by frame: hash, rotate, sectors, sort, chunks, look back, attend, back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.figures.lsh import along_chart, attend_chart, plane_chart
from longattn_core.mechanisms.lsh import LSH
from longattn_core.studies.base.study import Result
from longattn_core.studies.lsh.directions import LshPlane
from longattn_core.studies.lsh.strips import HERE
from pages.kit.components.stepper import stepper
from pages.kit.components.strips import MOST_TOKENS
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose
from pages.lsh.hero import HashingRun, four, shown_strips

HEAVIEST = 10
"""Keys in the picture of the softmax."""


def step(page: Page, hashed: HashingRun) -> None:
    """The stepper, and the frame that it shows."""
    stops = [_("hash"), _("rotate"), _("sectors"), _("sort"), _("chunks"), _("look back"), _("attend"), _("back, all rounds")]
    at = stepper("lsh.step", stops, theme=page.theme, label=_("Steps of hashing"))
    if at <= 2:
        _directions(page, hashed, at)
    elif at == 6:
        _attend(page, hashed)
    else:
        _strips(page, hashed, at)


def _directions(page: Page, hashed: HashingRun, at: int) -> None:
    mechanism = hashed.mechanism
    plane = run(
        LshPlane(source=page.source, setting=hashed.setting, round=hashed.round, query=hashed.query, marked=hashed.marked)
    )
    if "points" not in plane.tables:
        st.markdown(prose("lsh", "step_none"))
        return
    if at == 0:
        _along(page, hashed, plane)
        return
    angle = float(plane.arrays["angle"])
    if at == 1:
        st.markdown(prose("lsh", "step_rotate", angle=angle, centred=_(" and their means") if mechanism.centred else ""))
    else:
        st.markdown(prose("lsh", "step_sectors" + ("_hyperplane" if mechanism.hashing == "hyperplane" else "")))
    axes = (int(plane.arrays["axes"][0]), int(plane.arrays["axes"][1]))
    with st.container(key="lsh-plane", width=480):
        figure(
            page,
            "hashing-plane" if at == 1 else "hashing-sectors",
            plane,
            plane_chart(plane.tables["points"], page.theme, axes=axes, hashing=mechanism.hashing, sectors=at == 2),
            table=plane.tables["points"],
            shown=LSH,
            caption=_("Directions of queries (crosses) and keys (dots) on two axes of the rotation of round {round}.").format(
                round=hashed.round
            ),
            alt=_(
                "A scatter of queries and keys on two random axes. The tracked query and key stand {angle:.0f} degrees apart."
            ).format(angle=angle),
        )


def _along(page: Page, hashed: HashingRun, plane: Result) -> None:
    mechanism = hashed.mechanism
    pair = hashed.result.tables["rounds"].iloc[hashed.round - 1]
    met = bool(pair["met"])
    st.markdown(
        prose(
            "lsh",
            "step_hash",
            query=hashed.name(hashed.query),
            key=hashed.name(hashed.marked),
            round=hashed.round,
            columns=len(plane.arrays["query_along"]),
            rule=prose("lsh", f"rule_{mechanism.hashing}"),
            mine=int(pair["query bucket"]),
            its=int(pair["key bucket"]),
            outcome=_("they share a bucket in this round") if met else _("they do not share a bucket in this round"),
        )
    )
    table = along_table(plane, mechanism.hashing)
    figure(
        page,
        "hashing-axes",
        plane,
        along_chart(table, page.theme),
        table=table,
        shown=LSH,
        caption=_("Coordinates of one query and one key along the random axes of round {round}.").format(round=hashed.round),
        alt=_("Bars of the query's and the key's coordinate for each bucket; the largest one decides the bucket."),
    )


def along_table(plane: Result, hashing: str) -> pd.DataFrame:
    """The tracked pair's coordinates: one row a bucket for the nearest axis, one a hyperplane for the signs."""
    frames = []
    for kind in ("query", "key"):
        along = plane.arrays[f"{kind}_along"]
        if hashing == "cross_polytope":
            values = np.concatenate([along, -along])
            chosen = np.arange(len(values)) == int(values.argmax())
        else:
            values, chosen = along, along > 0
        frames.append(pd.DataFrame({"what": kind, "bucket": np.arange(len(values)), "along": values, "chosen": chosen}))
    table = pd.concat(frames, ignore_index=True)
    table.attrs["units"] = {"along": "coordinate", "bucket": "number"}
    return table


def _strips(page: Page, hashed: HashingRun, at: int) -> None:
    mechanism, shown = hashed.mechanism, four(hashed)
    chunks = mechanism.order_by == "chunks"
    if at == 3:
        st.markdown(prose("lsh", "step_sort"))
    elif at == 4 and chunks:
        st.markdown(
            prose(
                "lsh",
                "step_chunks_chunks",
                chunk=mechanism.chunk,
                leak=(mechanism.depends_on_future or "") if page.causal else "",
            )
        )
    elif at == 4:
        st.markdown(prose("lsh", "step_chunks_recent"))
    elif at == 5:
        found = hashed.result.arrays["found"]
        visible = int(np.isfinite(hashed.result.arrays["exact"]).sum())
        rule = "look_chunks" if chunks else "look_recent" if page.causal else "look_recent_unmasked"
        st.markdown(
            prose(
                "lsh",
                "step_look",
                rule=prose("lsh", rule, width=mechanism.width),
                query=hashed.name(hashed.query),
                looked=int((found == HERE).sum()),
                visible=visible,
            )
        )
    else:
        st.markdown(prose("lsh", "step_back"))
    chosen = {3: shown[:2], 4: (shown[1], shown[2]) if chunks else shown[1:2], 5: shown[1:3], 7: shown[2:]}[at]
    if page.tokens <= MOST_TOKENS:
        shown_strips(page, hashed, chosen, key=f"lsh strips {at}", alt=_("Part of the strips above."), gap=56)
    if at == 7:
        _rounds(hashed)


def _rounds(hashed: HashingRun) -> None:
    """The tracked pair in every round, in words."""
    table = hashed.result.tables["rounds"]
    said = {True: _("yes"), False: _("no")}
    shown = pd.DataFrame(
        {
            _("round"): table["round"],
            _("query in"): table["query bucket"],
            _("key in"): table["key bucket"],
            _("same?"): table["met"].map(said),
            _("looked at?"): table["found"].map(said),
        }
    )
    st.dataframe(shown, hide_index=True, width=460)


def _attend(page: Page, hashed: HashingRun) -> None:
    st.markdown(prose("lsh", "step_attend"))
    arrays = hashed.result.arrays
    exact = np.nan_to_num(arrays["exact"])
    heaviest = np.argsort(-np.maximum(exact, np.nan_to_num(arrays["weights"])), kind="stable")[:HEAVIEST]
    table = pd.DataFrame(
        {
            "token": arrays["tokens"][heaviest],
            "position": heaviest,
            "exact": exact[heaviest],
            "weight": arrays["weights"][heaviest],
        }
    )
    table = table[(table["exact"] > 0) | table["weight"].notna()]
    table.attrs["units"] = {"exact": "share", "weight": "share", "position": "token"}
    figure(
        page,
        "hashing-attend",
        hashed.result,
        attend_chart(table, page.theme),
        table=table,
        shown=LSH,
        caption=_("Exact and hashed weights of one query on its heaviest keys."),
        alt=_("Bars of exact weights with a dot for hashing's weight, or the words “never looked at”, for ten keys."),
    )
