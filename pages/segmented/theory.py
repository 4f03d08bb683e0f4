"""Segments in formulas: what they cost, and how far layers reach."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.segmented import reach_chart
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.segmented import INTEGRATIONS, SegmentReach
from pages.kit import state
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose, quoted
from pages.segmented.hero import NAME


def theory(page: Page, result: Result, mechanism: Segmented) -> None:
    """Cost n·s, and how far layers reach, with today's numbers."""
    whole, sequence = result.tables["whole"].iloc[0], result.study.sequence()
    n, s = sequence.n, min(mechanism.width, sequence.n)
    estimate = n * s * (sequence.d + sequence.e) * sequence.h
    counted, exact = int(whole["cost"]), int(whole["exact cost"])
    formula(
        page,
        "cost",
        n=_count(n),
        s=_count(s),
        width=sequence.d + sequence.e,
        formula=_count(estimate),
        counted=_count(counted),
        exact=_count(exact),
        share=f"{counted / exact:.1%}".replace("%", r"\,\%"),
    )
    st.caption(prose(NAME, "cost"))
    st.subheader(_("How far back after several layers?"), anchor=False)
    layers = state.slide(f"{NAME}.layers", _("Layers"), list(range(1, 31)), default=8, parse=int, view=True)
    with st.spinner(_("Following every pair …")):
        reach = run(SegmentReach(source=page.source, setting=Setting.of(mechanism), layers=layers))
    if "reach" not in reach.tables:
        st.info(reach.words["refusal"], icon=":material/block:")
        return
    table = reach.tables["reach"]
    last = table[table["layer"] == layers].set_index("integration")["back"]
    if page.causal and mechanism.boundaries == "fixed":
        formula(page, "reach", layers=layers, **{name: _count(int(last[name])) for name in last.index})
    said = prose(NAME, "reach", layers=layers, last=quoted(str(reach.arrays["tokens"][int(reach.arrays["last"])])))
    figure(
        page,
        "reach-against-layers",
        reach,
        reach_chart(table, page.theme, n=n),
        table=table,
        caption=said,
        alt=", ".join(f"{INTEGRATIONS[name]}: {int(last[name])} tokens" for name in last.index),
        shown=type(mechanism),
    )
    st.caption(said)
    first = reach.arrays["layer_of"][list(INTEGRATIONS).index(mechanism.variant)]
    st.markdown(prose(NAME, f"arrival_{'one' if first.max() < 2 else 'many'}", crossing=INTEGRATIONS[mechanism.variant]))
    space = "" if result.study.source.kind == "text" else " "
    names = {0: _("the word itself"), 1: _("after 1 layer")}
    names |= {layer: _("after {layer} layers").format(layer=layer) for layer in range(2, layers + 1)}
    token_text(
        TextPicture(
            tokens=[f"{space}{token}" for token in reach.arrays["tokens"]],
            groups=first,
            group_names=names,
            selected=int(reach.arrays["last"]),
        ),
        key="segmented arrival",
        theme=page.theme,
        height=420,
        alt=said,
    )


def _count(number: int) -> str:
    """A whole number as LaTeX sets it, thousands apart."""
    return f"{number:,}".replace(",", r"\,")
