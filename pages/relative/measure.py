"""Step and Measure on the positions page: the clocks, S_rel, where the weight goes, the shift test, longer texts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.figures.relative import beyond_chart, lag_chart, shift_chart, turns_chart, unseen_chart, within_chart
from longattn_core.charts.maps import matrix_chart, signed_top
from longattn_core.charts.pictures import MapPicture
from longattn_core.mechanisms.relative import Relative
from longattn_core.studies.base.study import Result, Setting, sequence_of
from longattn_core.studies.relative.added import Added, Distances
from longattn_core.studies.relative.rotary import SCALINGS, Beyond
from longattn_core.studies.relative.shifts import Shifts, changed_by_shift
from pages.kit import state
from pages.kit.components.attention_map import attention_map
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import exported, figure
from pages.kit.figure_menu import figure_menu
from pages.kit.map_card import explain_pair, maps_card
from pages.kit.text import _, prose


def odd(page: Page) -> bool:
    """Say so, and be true, where the width is odd: then there are no pairs of channels to turn."""
    width = sequence_of(page.source).d
    if width % 2:
        st.info(_("Rotary positions turn pairs of channels, and {width} is odd: no clocks here.").format(width=width))
    return bool(width % 2)


def measure(page: Page, mechanism: Relative) -> None:
    """S_rel, the maps, where the weight goes, the shift test, and past the trained length."""
    chosen = Setting.of(mechanism)
    refusal = mechanism.refuses(sequence_of(page.source))
    if refusal is None:
        st.subheader(_("S_rel: what is added to each pair"), anchor=False)
        _added(page, chosen, mechanism)
        st.subheader(_("The map under {scheme}").format(scheme=mechanism.label), anchor=False)
        st.caption(f"{prose('relative', 'maps')} {prose('relative', 'kind')}")
        maps_card(page, mechanism)
    else:
        st.info(refusal, icon=":material/block:")
    st.subheader(_("How near the weight lies"), anchor=False)
    _within(page, chosen, mechanism)
    st.subheader(_("The shift test"), anchor=False)
    _shift(page, chosen)
    st.subheader(_("Past the trained length"), anchor=False)
    if not odd(page):
        _beyond(page, mechanism)


def _added(page: Page, chosen: Setting, mechanism: Relative) -> None:
    result = run(Added(source=page.source, chosen=chosen))
    added, tokens = result.arrays["added"], [str(token) for token in result.arrays["tokens"]]
    n = len(tokens)
    top = 0.4 * math.ceil(signed_top(added) / 0.4)  # its quarters are the ticks
    words = {
        "scale": _("added to the score"),
        "say_weight": _("{about} {value} is added to the score: {query} → {key}."),
        "say_below": _("{about} {value} is added to the score, which lowers it: {query} → {key}."),
        "say_nothing": _("Next to nothing is added ({value}): {query} → {key}."),
        "key_below": _("lowered, as strongly as the blue side raises"),
    }
    left, right = st.columns([3, 2], gap="medium")
    with left:
        drawn = attention_map(
            MapPicture(
                values=added,
                title=_("S_rel under {scheme}").format(scheme=mechanism.label),
                full=(n, n),
                scale="linear",
                top=top,
                tokens_rows=tokens,
            ),
            key="S_rel",
            theme=page.theme,
            content=f"{page.source.model_dump_json()} {chosen.model_dump_json()} added",
            strips=False,
            words=words,
        )
    with right:
        deviation = float(result.arrays["diagonal"])
        section = "added_straight" if deviation < 1e-4 * top else "added_uneven"
        if mechanism.variant == "sinusoidal" and section == "added_uneven":
            section = "added_absolute"
        diagonal = prose("relative", section, deviation=deviation)
        st.markdown(prose("relative", "added", diagonal=diagonal, top=top))
        if drawn.clicked is not None:
            st.session_state["_added_pair"] = (drawn.clicked.row, drawn.clicked.col)
        pair = st.session_state.get("_added_pair")
        if pair is not None and max(pair) < n:
            explain_pair(page, mechanism, pair[0], pair[1], tokens)
    figure_menu(
        "s-rel",
        result,
        shown=Relative,
        table=lambda: pd.DataFrame(added),
        chart=lambda: exported(
            page,
            matrix_chart(
                added,
                page.theme,
                x_title=_("key (token position)"),
                y_title=_("query (token position)"),
                kind="linear",
                top=top,
                height=480,
            ),
        ),
        caption=f"What {mechanism.label} adds to the score of each pair. {result.words['origin']}",
    )


def _within(page: Page, chosen: Setting, mechanism: Relative) -> None:
    result = run(Distances(source=page.source, chosen=chosen))
    within, halves = result.tables["within"], result.tables["halves"].set_index("scheme")["half"]
    if int(result.arrays["n"]) < 2:
        st.caption(prose("relative", "answer_alone"))
        return
    figure(
        page,
        "weight-within",
        result,
        within_chart(within, page.theme),
        table=within,
        shown=Relative,
        caption=f"Share of the weight within each distance. {result.words['origin']}",
        alt=_("By content alone half of the weight lies within {alone:,} tokens.").format(alone=int(halves["content alone"])),
    )
    if mechanism.label in halves:
        alone, half = int(halves["content alone"]), int(halves[mechanism.label])
        st.caption(prose("relative", "within", alone=alone, scheme=mechanism.label, half=half))


def _shift(page: Page, chosen: Setting) -> None:
    result = run(Shifts(source=page.source, chosen=chosen))
    table = result.tables["shifts"]
    if table.empty:
        return
    figure(
        page,
        "shift-test",
        result,
        shift_chart(table, page.theme),
        table=table,
        shown=Relative,
        caption=f"Weight that goes elsewhere when all positions move. {result.words['origin']}",
        alt=_("At most {moved:.0%} of the weight goes elsewhere.").format(moved=float(table["moved"].max())),
    )
    st.caption(prose("relative", "shift", changed=changed_words(result)))


def changed_words(result: Result) -> str:
    """Which schemes changed under a shift, in one sentence."""
    changed = changed_by_shift(result)
    if not changed:
        return prose("relative", "shift_none")
    return prose("relative", "shift_changed", names=", ".join(changed))


def _beyond(page: Page, mechanism: Relative) -> None:
    row = st.columns(3, gap="medium")
    with row[0]:
        trained = state.slide(
            "relative.trained",
            _("Trained length T"),
            (128, 256, 512, 1024, 2048, 4096, 8192),
            default=2048,
            parse=int,
            shown=lambda value: f"{value:,}",
            help=_("The longest text of an imagined training."),
            view=True,
        )
    with row[1]:
        stretch = state.slide(
            "relative.stretch",
            _("This text is so many times as long"),
            (1.0, 2.0, 4.0, 8.0, 16.0),
            default=4.0,
            parse=float,
            shown=lambda value: f"{value:g}",
            help=_("Nothing of this length is read: the curves are closed forms."),
            view=True,
        )
    with row[2]:
        lag = state.slide(
            "relative.lag",
            _("A distance to follow"),
            (1, 4, 16, 64, 256, 1024),
            default=64,
            parse=int,
            shown=lambda value: f"{value:,}",
            help=_("Between one query and one key."),
            view=True,
        )
    result = run(Beyond(source=page.source, base=mechanism.base, trained=trained, stretch=stretch, lag=lag))
    tables, origin = result.tables, result.words["origin"]
    st.caption(prose("relative", "beyond", stretch=stretch, trained=trained))
    figure(
        page,
        "past-the-trained-length",
        result,
        beyond_chart(tables["scores"], page.theme, trained=trained),
        table=tables["scores"],
        shown=Relative,
        caption=f"The mean query's score with the mean key. {origin}",
        alt=_("Four curves of the score over {length:,} tokens.").format(length=int(result.arrays["length"])),
    )
    figure(
        page,
        "angles-at-the-end",
        result,
        turns_chart(tables["pairs"], page.theme),
        table=tables["pairs"],
        shown=Relative,
        title=_("How far the hands have gone"),
        caption=f"Angles at the last token of a long text. {origin}",
        alt=_("Angles of {pairs} pairs of channels.").format(pairs=int(result.arrays["pairs"])),
    )
    st.caption(prose("relative", "turns"))
    left, right = st.columns(2, gap="medium")
    with left:
        figure(
            page,
            "unseen-angles",
            result,
            unseen_chart(tables["unseen"], page.theme),
            table=tables["unseen"],
            shown=Relative,
            title=_("Beyond what was seen"),
            caption=f"The worst unseen angle against length. {origin}",
            alt=_("Plain RoPE goes as far beyond as the text is longer."),
        )
    with right:
        figure(
            page,
            "score-at-a-distance",
            result,
            lag_chart(tables["lag"], page.theme, distance=lag),
            table=tables["lag"],
            shown=Relative,
            title=_("One distance in longer texts"),
            caption=f"The score at one distance. {origin}",
            alt=_("The score at distance {lag:,} as the text grows.").format(lag=lag),
        )
        st.caption(prose("relative", "lag", lag=lag))
    st.caption(_unseen_words(tables["unseen"], int(result.arrays["length"]), int(result.arrays["pairs"])))


def _unseen_words(unseen: pd.DataFrame, length: int, pairs: int) -> str:
    nearest = unseen.iloc[(unseen["length"] - length).abs().argsort(kind="stable")]["length"].iloc[0]
    page = unseen[unseen["length"] == nearest].set_index("scaling")
    plain, ntk, yarn = (page.loc[SCALINGS[name]] for name in ("none", "ntk", "yarn"))
    if not np.any(page["share"] > 0):
        return ""
    outside = float(yarn["worst"]) > 1.01
    said = prose("relative", "yarn_outside" if outside else "yarn_inside", worst=float(yarn["worst"]))
    return prose(
        "relative",
        "beyond_unseen",
        length=int(nearest),
        share=float(plain["share"]),
        pairs=pairs,
        worst=float(plain["worst"]),
        ntk=float(ntk["worst"]),
        yarn=said,
    )
