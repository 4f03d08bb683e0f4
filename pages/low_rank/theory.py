"""Low rank in formulas: counts, bounds, and the law of Gaussian maps."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.low_rank import law_chart
from longattn_core.measures.theory.rank import eckart_young_tail, gaussian_linformer_error, truncation_error
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.studies.base.run import read_prefix
from longattn_core.studies.base.study import Result
from longattn_core.studies.low_rank.decomposition import LONGEST, rank_of, uniform_values
from longattn_core.studies.low_rank.law import GaussianLaw, score_variance
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose
from pages.low_rank.hero import Ranked


def theory(page: Page, ranks: Ranked) -> None:
    """Eckart and Young, the uniform map, the two methods' formulas, and the law of Gaussian mixes."""
    finding, k, values = ranks.finding, ranks.k, ranks.spectrum.arrays["values"]
    st.markdown(prose("low_rank", "theory_eckart"))
    formula(page, "svd", k=k, tail=float(eckart_young_tail(values, k)), error=float(truncation_error(values, k)))
    if finding.causal:
        half = rank_of(uniform_values(max(1, finding.n // 2), causal=True))
        st.markdown(prose("low_rank", "theory_uniform", uniform=finding.uniform, half=half))
    else:
        causal = rank_of(uniform_values(finding.n, causal=True))
        st.markdown(prose("low_rank", "theory_uniform_none", causal=causal))
    sequence = read_prefix(page.source, 0, LONGEST)
    st.markdown(f"**{_('Linformer')}**")
    formula(page, "linformer", k=k, n=finding.n, d=sequence.d)
    st.markdown(f"**{_('Nyström')}**")
    formula(page, "nystrom", k=k, d=sequence.d)
    study = GaussianLaw()
    sweep_card(page, study, lambda result: _law(page, result, study))


def _law(page: Page, result: Result, study: GaussianLaw) -> None:
    gaussian = read_prefix(study.source, 0, LONGEST, causal=False)
    variance = score_variance(gaussian)
    shared = float(gaussian_linformer_error(variance, shared=True))
    apart = float(gaussian_linformer_error(variance, shared=False))
    formula(page, "law", apart=apart, shared=shared, variance=variance)
    curves = result.tables["curves"]
    figure(
        page,
        "gaussian-law",
        result,
        law_chart(curves, page.theme, shared=shared, apart=apart),
        table=curves,
        shown=LowRank,
        title=_("A Gaussian mix never converges"),
        caption=f"Output error of Linformer with Gaussian projections on Gaussian heads. {gaussian.origin}",
        alt=_("The error falls with the rank and stays above {shared:.2f}.").format(shared=shared),
    )
    st.caption(prose("low_rank", "law", n=gaussian.n, variance=variance, apart=apart, shared=shared))
