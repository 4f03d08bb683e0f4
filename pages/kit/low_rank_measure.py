"""Measure and Theory on the low-rank page: energy, maps, error against rank, rank against length, the Gaussian law."""

from __future__ import annotations

import copy

import numpy as np
import streamlit as st

from longattn_core.charts.low_rank import energy_chart, error_chart, law_chart, length_chart, tail_chart
from longattn_core.measures.theory.rank import eckart_young_tail, gaussian_linformer_error, truncation_error
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.studies.low_rank import LONGEST, SHARE, RankFinding, Rebuilt, rank_of, uniform_values
from longattn_core.studies.low_rank_sweeps import (
    METHODS,
    ErrorAgainstRank,
    GaussianLaw,
    RankAgainstLength,
    growth,
    score_variance,
)
from longattn_core.studies.reading import read_prefix
from longattn_core.studies.study import Result
from pages.kit import state
from pages.kit.cards import figure, maps_card
from pages.kit.compute import run
from pages.kit.lesson import formula
from pages.kit.page import Page
from pages.kit.sweeps import sweep_card
from pages.kit.words import _, prose


def low_rank_measure(whole: Page, here: Page, mechanism: LowRank, spectrum: Result, k: int) -> None:
    """`whole` reads all of the text, `here` the tokens that singular values are computed of."""
    _energy(here, spectrum, k)
    st.subheader(_("The map, and the method's"), anchor=False)
    reader = here
    if mechanism.variant != "svd":
        st.caption(prose("low_rank", "reading"))
        reader = unmasked(here)
    else:
        st.caption(_("Linformer and Nyström stand under *More dials*."))
    maps_card(reader, mechanism)
    st.subheader(_("Error against rank"), anchor=False)
    _error(here, k)
    st.subheader(_("Rank against length"), anchor=False)
    sweep_card(whole, RankAgainstLength(source=whole.source), lambda result: _length(whole, result))


def unmasked(here: Page) -> Page:
    """The same page reading without a mask."""
    other = copy.copy(here)
    other.source = here.source.masked(False)
    return other


def _energy(here: Page, spectrum: Result, k: int) -> None:
    table = spectrum.tables["spectrum"]
    left, right = st.columns(2, gap="medium")
    rank = rank_of(spectrum.arrays["values"])
    with left:
        figure(
            here,
            "energy",
            spectrum,
            energy_chart(table, here.theme, k=k, share=SHARE),
            table=table,
            shown=LowRank,
            title=_("Energy held"),
            caption=f"Share of the energy that k directions hold. {spectrum.words['origin']}",
            alt=_("{rank} directions hold 99 % of the energy.").format(rank=rank),
        )
        st.caption(prose("low_rank", "energy"))
    rebuilt = run(Rebuilt(source=here.source))
    errors = rebuilt.tables["errors"]
    with right:
        figure(
            here,
            "tail",
            rebuilt,
            tail_chart(table, here.theme, k=k),
            table=errors,
            shown=LowRank,
            title=_("Error left over"),
            caption=f"Error of the best map of rank k. {spectrum.words['origin']}",
            alt=_("The error falls from {first:.2f} at k = 1.").format(first=errors["formula"].iloc[0]),
        )
        agreement = float(np.abs(errors["measured"] - errors["formula"]).max())
        st.caption(prose("low_rank", "tail", count=len(errors), agreement=max(agreement, 1e-9)))


def _error(here: Page, k: int) -> None:
    kinds = {"error": _("the output"), "map_error": _("the map")}
    value = state.choose(
        "low_rank.error_of", _("Error of"), list(kinds), default="error", labels=kinds.__getitem__, style="segments"
    )
    study = ErrorAgainstRank(source=here.source)
    sweep_card(here, study, lambda result: _error_drawn(here, result, value, kinds[value], k))


def _error_drawn(here: Page, result: Result, value: str, what: str, k: int) -> None:
    curves, points = result.tables[value], result.tables["points"]
    control = float(points["control" if value == "error" else "map_control"].mean())
    figure(
        here,
        f"{value.replace('_', '-')}-against-rank",
        result,
        error_chart(curves, here.theme, value=value, control=control, what=what, k=k),
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
    reading = prose("low_rank", "reading") + " " if here.causal else ""
    said = prose("low_rank", "error", reading=reading, gaussian=gaussian)
    st.caption(f"{said} {prose('low_rank', 'error_output')}" if value == "error" else said)


def _length(here: Page, result: Result) -> None:
    curves = result.tables["curves"]
    figure(
        here,
        "rank-against-length",
        result,
        length_chart(curves, here.theme),
        table=curves,
        shown=LowRank,
        caption=f"Directions for 99 % of the energy against length. {result.study.sequence().origin}",
        alt=_("Rank against length, up to {n:,} tokens.").format(n=int(curves["n"].max())),
    )
    found = growth(result)
    said = prose("low_rank", "length")
    if found is not None:
        beside = (
            ""
            if found.uniform is None
            else _("; the uniform map's from {low:,.0f} to {high:,.0f}").format(low=found.uniform[0], high=found.uniform[1])
        )
        said += " " + prose(
            "low_rank",
            "length_finding",
            first=found.first,
            last=found.last,
            low=found.low,
            high=found.high,
            power=found.power,
            beside=beside,
        )
    st.caption(said)


def low_rank_theory(here: Page, spectrum: Result, found: RankFinding, k: int) -> None:
    """Eckart and Young, the uniform map, the two methods' formulas, and the law of Gaussian mixes."""
    st.markdown(prose("low_rank", "theory_eckart"))
    values = spectrum.arrays["values"]
    cut = min(k, len(values))
    formula(here, "svd", k=cut, tail=float(eckart_young_tail(values, cut)), error=float(truncation_error(values, cut)))
    if found.causal:
        half = rank_of(uniform_values(max(1, found.n // 2), causal=True))
        st.markdown(prose("low_rank", "theory_uniform", uniform=found.uniform, half=half))
    else:
        causal = rank_of(uniform_values(found.n, causal=True))
        st.markdown(prose("low_rank", "theory_uniform_none", causal=causal))
    sequence = read_prefix(here.source, 0, LONGEST)
    st.markdown(f"**{_('Linformer')}**")
    formula(here, "linformer", k=k, n=found.n, d=sequence.d)
    st.markdown(f"**{_('Nyström')}**")
    formula(here, "nystrom", k=k, d=sequence.d)
    study = GaussianLaw()
    sweep_card(here, study, lambda result: _law(here, result, study))


def _law(here: Page, result: Result, study: GaussianLaw) -> None:
    gaussian = read_prefix(study.source, 0, LONGEST, causal=False)
    variance = score_variance(gaussian)
    shared = float(gaussian_linformer_error(variance, shared=True))
    apart = float(gaussian_linformer_error(variance, shared=False))
    formula(here, "law", apart=apart, shared=shared, variance=variance)
    curves = result.tables["curves"]
    figure(
        here,
        "gaussian-law",
        result,
        law_chart(curves, here.theme, shared=shared, apart=apart),
        table=curves,
        shown=LowRank,
        title=_("A Gaussian mix never converges"),
        caption=f"Output error of Linformer with Gaussian projections on Gaussian heads. {gaussian.origin}",
        alt=_("The error falls with the rank and stays above {shared:.2f}.").format(shared=shared),
    )
    st.caption(prose("low_rank", "law", n=gaussian.n, variance=variance, apart=apart, shared=shared))
