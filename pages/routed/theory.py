"""Routing in formulas: the router, the clusters, and what is untrained here."""

from __future__ import annotations

import math

import streamlit as st

from longattn_core.mechanisms.routed import Routed
from longattn_core.studies.base.study import Setting, sequence_of
from longattn_core.studies.routed import Route
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.sections import formula
from pages.kit.text import prose, quoted
from pages.routed.hero import chosen_query
from pages.routed.step import capsule_steps


def theory(page: Page, mechanism: Routed) -> None:
    """The three formulas with today's numbers; the couplings of capsules round by round."""
    sequence = sequence_of(page.source)
    n, d = sequence.n, sequence.d
    route = run(Route(source=page.source, setting=Setting.of(mechanism), query=chosen_query(page)))
    if "refusal" not in route.words:
        token = str(route.arrays["tokens"][int(route.arrays["query"])])
        st.markdown(prose(page.name, "theory_router", query=quoted(token)))
        terms = " + ".join(
            rf"{share:.3f}_{{\text{{{path}}}}}"
            for path, share in zip(route.words["paths"].split("\n"), route.arrays["shares"], strict=True)
        )
        formula(page, "router", terms=terms)
    st.markdown(prose(page.name, "theory_clusters"))
    c = min(n, mechanism.clusters or max(1, round(math.sqrt(n))))
    best = max(1.0, math.sqrt(n))
    formula(page, "clusters", n=n, c=c, d=d, products=n * (c + n / c) * d, exact=n * n * d)
    formula(page, "best", best=best, least=2 * n * best * d)
    st.markdown(prose(page.name, "theory_capsules"))
    formula(page, "capsules", capsules=mechanism.capsules)
    if mechanism.variant != "capsules":
        mechanism = mechanism.with_dials(iterations=max(mechanism.iterations, 6))
    capsule_steps(page, mechanism, "routed.stepcapsules")
