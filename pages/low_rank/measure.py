"""Measure on the low-rank page: energy, maps, error against rank, rank against length."""

from __future__ import annotations

import copy

import numpy as np
import streamlit as st

from longattn_core.charts.figures.low_rank import energy_chart, error_chart, length_chart, tail_chart
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.studies.base.study import Result
from longattn_core.studies.low_rank.decomposition import SHARE
from longattn_core.studies.low_rank.errors import METHODS, ErrorAgainstRank
from longattn_core.studies.low_rank.factors import Rebuilt
from longattn_core.studies.low_rank.finding import growth_finding
from longattn_core.studies.low_rank.lengths import RankAgainstLength
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.map_card import maps_card
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose
from pages.low_rank.hero import Ranked


def measure(page: Page, ranks: Ranked, *, whole: Page) -> None:
    """All measurements below one another. `page` reads the tokens whose map is decomposed, `whole` all of the text."""
    mechanism = ranks.mechanism
    _energy(page, ranks)
    st.subheader(_("The map, and the method's"), anchor=False)
    reader = page
    if mechanism.variant != "svd":
        st.caption(prose("low_rank", "reading"))
        reader = _unmasked(page)
    else:
        st.caption(_("Linformer and Nyström stand under *More dials*."))
    maps_card(reader, mechanism)
    st.subheader(_("Error against rank"), anchor=False)
    _error(page, ranks.k)
    st.subheader(_("Rank against length"), anchor=False)
    sweep_card(whole, RankAgainstLength(source=whole.source), lambda result: _over_length(whole, result))


def _unmasked(page: Page) -> Page:
    """The same page, whose source is read without a mask."""
    reader = copy.copy(page)
    reader.source = page.source.masked(False)
    return reader


def _energy(page: Page, ranks: Ranked) -> None:
    spectrum, k = ranks.spectrum, ranks.k
    table = spectrum.tables["spectrum"]
    left, right = st.columns(2, gap="medium")
    with left:
        figure(
            page,
            "energy",
            spectrum,
            energy_chart(table, page.theme, k=k, share=SHARE),
            table=table,
            shown=LowRank,
            title=_("Energy held"),
            caption=f"Share of the energy that k directions hold. {spectrum.words['origin']}",
            alt=_("{rank} directions hold 99 % of the energy.").format(rank=ranks.finding.rank),
        )
        st.caption(prose("low_rank", "energy"))
    rebuilt = run(Rebuilt(source=page.source))
    errors = rebuilt.tables["errors"]
    with right:
        figure(
            page,
            "tail",
            rebuilt,
            tail_chart(table, page.theme, k=k),
            table=errors,
            shown=LowRank,
            title=_("Error left over"),
            caption=f"Error of the best map of rank k. {spectrum.words['origin']}",
            alt=_("The error falls from {first:.2f} at k = 1.").format(first=errors["formula"].iloc[0]),
        )
        agreement = float(np.abs(errors["measured"] - errors["formula"]).max())
        st.caption(prose("low_rank", "tail", count=len(errors), agreement=max(agreement, 1e-9)))


def _error(page: Page, k: int) -> None:
    kinds = {"error": _("the output"), "map_error": _("the map")}
    value = state.choose(
        "low_rank.error_of", _("Error of"), list(kinds), default="error", labels=kinds.__getitem__, style="segments", view=True
    )
    study = ErrorAgainstRank(source=page.source)
    sweep_card(page, study, lambda result: _over_rank(page, result, value, kinds[value], k))


def _over_rank(page: Page, result: Result, value: str, what: str, k: int) -> None:
    curves, points = result.tables[value], result.tables["points"]
    control = float(points["control" if value == "error" else "map_control"].mean())
    figure(
        page,
        f"{value.replace('_', '-')}-against-rank",
        result,
        error_chart(curves, page.theme, value=value, control=control, what=what, k=k),
        table=curves,
        shown=LowRank,
        caption=f"Error of {what} against rank, read without a mask. {result.study.sequence().origin}",
        alt=_("{count} methods; the mean of the visible values errs by {control:.2f}.").format(
            count=curves["method"].nunique(), control=control
        ),
    )
    n = int(points["rank"].max())
    last = curves[(curves["method"] == METHODS["gaussian"]) & (curves["rank"] == n)]
    gaussian = prose("low_rank", "error_gaussian", n=n, error=float(last[value].iloc[0])) if len(last) else ""
    reading = prose("low_rank", "reading") + " " if page.causal else ""
    words = prose("low_rank", "error", reading=reading, gaussian=gaussian)
    st.caption(f"{words} {prose('low_rank', 'error_output')}" if value == "error" else words)


def _over_length(page: Page, result: Result) -> None:
    curves = result.tables["curves"]
    figure(
        page,
        "rank-against-length",
        result,
        length_chart(curves, page.theme),
        table=curves,
        shown=LowRank,
        caption=f"Directions for 99 % of the energy against length. {result.study.sequence().origin}",
        alt=_("Rank against length, up to {n:,} tokens.").format(n=int(curves["n"].max())),
    )
    finding = growth_finding(result)
    words = prose("low_rank", "length")
    if finding is not None:
        beside = _("; the uniform map's from {low:,.0f} to {high:,.0f}").format(low=finding.uniform[0], high=finding.uniform[1])
        words += " " + prose(
            "low_rank",
            "length_finding",
            first=finding.first,
            last=finding.last,
            low=finding.low,
            high=finding.high,
            power=finding.power,
            beside=beside,
        )
    st.caption(words)
