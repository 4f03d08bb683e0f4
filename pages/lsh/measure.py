"""Hashing measured: what each round adds, how full buckets are, recall over dials and seeds, angles, and the maps."""

from __future__ import annotations

from typing import cast

import numpy as np
import streamlit as st

from longattn_core.charts.figures.lsh import cosines_chart, recall_chart, rounds_chart, seeds_chart, sizes_chart
from longattn_core.mechanisms.lsh import LSH
from longattn_core.studies.base.recall_point import LONGEST
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.lsh.directions import LshAngles
from longattn_core.studies.lsh.rounds import LshRounds
from longattn_core.studies.lsh.sweeps import LshSweep, Over
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.map_card import maps_card
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose
from pages.lsh.hero import HashingRun, directions, why_centring

SEEDS = {"rounds": 5, "buckets": 5, "seeds": 20}


def measure(page: Page, hashed: HashingRun) -> None:
    """Every figure of the view, the cheap ones first."""
    left, right = st.columns(2, gap="large")
    result = run(LshRounds(source=page.source, setting=hashed.setting))
    with left:
        _rounds(page, hashed, result)
    with right:
        _sizes(page, hashed, result)
    _sweep(page, hashed)
    _angles(page)
    st.markdown(f"**{_('Every query at once')}**")
    st.caption(prose("lsh", "maps"))
    maps_card(page, hashed.mechanism)


def _rounds(page: Page, hashed: HashingRun, result: Result) -> None:
    st.markdown(f"**{_('What each round adds')}**")
    table = result.tables["rounds"]
    figure(
        page,
        "hashing-rounds",
        result,
        rounds_chart(table, page.theme),
        table=table,
        shown=LSH,
        caption=_("Share of pairs looked at and of weight found by each round, by what is new, and by all."),
        alt=_("Bars for each round. All together look at {pairs:.0%} of the pairs and find {weight:.0%} of the weight.").format(
            pairs=float(table["union"].iloc[-1]), weight=float(table["recall union"].iloc[-1])
        ),
    )
    st.caption(prose("lsh", "rounds", outside=hashed.outside))


def _sizes(page: Page, hashed: HashingRun, result: Result) -> None:
    st.markdown(f"**{_('How full the buckets are')}**")
    table = result.tables["sizes"]
    own = table[table["round"] == hashed.round]
    figure(
        page,
        "hashing-buckets",
        result,
        sizes_chart(table, page.theme, shown=hashed.round),
        table=table,
        shown=LSH,
        caption=_("Keys (bars) and queries (ticks) in each bucket of round {round}.").format(round=hashed.round),
        alt=_("Bars of keys in each bucket: the fullest holds {most}, the emptiest {least}.").format(
            most=int(own["keys"].max()), least=int(own["keys"].min())
        ),
    )
    st.caption(prose("lsh", "sizes", round=hashed.round))


def _sweep(page: Page, hashed: HashingRun) -> None:
    st.markdown(f"**{_('Recall, and what it costs in pairs')}**")
    names = {"rounds": _("against rounds"), "buckets": _("against buckets"), "seeds": _("over seeds")}
    over = cast(
        "Over",
        state.choose(
            "lsh.over", _("Curve"), list(names), default="rounds", labels=names.__getitem__, style="segments", view=True
        ),
    )
    base = hashed.mechanism if over == "seeds" else hashed.mechanism.with_dials(seed=0, **{over: 2})
    st.caption(prose("lsh", "sweep_seeds" if over == "seeds" else "sweep", seeds=SEEDS[over]))
    if page.tokens > LONGEST:
        st.caption(prose("lsh", "cut", most=LONGEST, n=page.tokens))
    study = LshSweep(source=page.source, setting=Setting.of(base.with_dials(seed=0)), over=over, seeds=SEEDS[over])
    sweep_card(page, study, lambda result: _curve(page, hashed, over, result))


def _curve(page: Page, hashed: HashingRun, over: str, result: Result) -> None:
    points = result.tables["points"]
    if refusal := result.words.get("refusal"):
        st.info(refusal, icon=":material/block:")
        return
    if over == "seeds":
        chart = seeds_chart(points, page.theme, now=hashed.mechanism.seed)
    else:
        chart = recall_chart(result.tables["curves"], page.theme, over=over, now=float(getattr(hashed.mechanism, over)))
    recall, share = (np.nanmean(points[name].to_numpy(dtype=float)) for name in ("recall without sinks", "share without sinks"))
    figure(
        page,
        f"hashing-recall-{over}",
        result,
        chart,
        table=points,
        shown=LSH,
        caption=_("Share of the weight outside the sinks found, beside the share of pairs looked at; {runs} runs.").format(
            runs=len(points)
        ),
        alt=_("Over {runs} runs {found:.0%} of the weight is found on {looked:.0%} of the pairs, on average.").format(
            runs=len(points), found=recall, looked=share
        ),
    )


def _angles(page: Page) -> None:
    st.markdown(f"**{_('Why: where queries and keys point')}**")
    result = run(LshAngles(source=page.source))
    st.markdown(why_centring(directions(page)))
    table = result.tables["cosines"]
    for place, centred in zip(st.columns(2, gap="large"), (False, True), strict=True):
        with place:
            title = _("with their means taken off") if centred else _("as the head has them")
            mean = result.tables["angles"]
            figure(
                page,
                f"hashing-cosines{'-centred' if centred else ''}",
                result,
                cosines_chart(table, page.theme, centred=centred),
                table=table[table["centred"] == centred],
                title=title,
                shown=LSH,
                caption=_("Cosines between queries and keys, {title}.").format(title=title),
                alt=_("Three distributions of cosines: {means}.").format(
                    means=", ".join(
                        f"{row['pairs']} {row['mean cosine']:z.2f}" for row in mean[mean["centred"] == centred].to_dict("records")
                    )
                ),
            )
    st.caption(prose("lsh", "angles"))
