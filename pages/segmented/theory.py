"""Segments in formulas: what they cost, and how far layers reach."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.segmented import reach_chart
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.base.study import Result, sequence_of
from longattn_core.studies.segmented import INTEGRATIONS, SegmentReach
from pages.kit import state
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, latex_count, latex_percent, ngettext, prose
from pages.segmented.hero import SegmentedRun


def theory(page: Page, segmented: SegmentedRun) -> None:
    """Cost n·s, and how far layers reach, with the numbers of this run."""
    _cost(page, segmented)
    st.subheader(_("How far back after several layers?"), anchor=False)
    layers = state.slide("segmented.layers", _("Layers"), list(range(1, 31)), default=8, parse=int, view=True)
    with st.spinner(_("Following every pair …")):
        reach = run(SegmentReach(source=page.source, setting=segmented.setting, layers=layers))
    if "refusal" in reach.words:
        st.info(reach.words["refusal"], icon=":material/block:")
        return
    _reach(page, segmented, reach, layers)


def _cost(page: Page, segmented: SegmentedRun) -> None:
    sequence, whole = sequence_of(page.source), segmented.result.tables["whole"].iloc[0]
    n, s = sequence.n, min(segmented.mechanism.width, sequence.n)
    counted, exact = int(whole["cost"]), int(whole["exact cost"])
    formula(
        page,
        "cost",
        n=latex_count(n),
        s=latex_count(s),
        width=sequence.d + sequence.e,
        formula=latex_count(n * s * (sequence.d + sequence.e) * sequence.h),
        counted=latex_count(counted),
        exact=latex_count(exact),
        share=latex_percent(counted / exact),
    )
    st.caption(prose(page.name, "cost"))


def _reach(page: Page, segmented: SegmentedRun, reach: Result, layers: int) -> None:
    """The curves of how far layers reach, and the text in the colours of the layer at which each token arrives."""
    mechanism, table, origin = segmented.mechanism, reach.tables["reach"], int(reach.arrays["last"])
    last = table[table["layer"] == layers].set_index("integration")["back"]
    if page.causal and mechanism.boundaries == "fixed":
        formula(page, "reach", layers=layers, **{name: latex_count(int(last[name])) for name in last.index})
    words = prose(page.name, "reach", layers=layers, last=segmented.name(origin))
    figure(
        page,
        "reach-against-layers",
        reach,
        reach_chart(table, page.theme, n=page.tokens),
        table=table,
        caption=words,
        alt=", ".join(f"{INTEGRATIONS[name]}: {int(last[name])} tokens" for name in last.index),
        shown=Segmented,
    )
    st.caption(words)
    first = reach.arrays["layer_of"][list(INTEGRATIONS).index(mechanism.variant)]
    st.markdown(prose(page.name, f"arrival_{'one' if first.max() < 2 else 'many'}", crossing=INTEGRATIONS[mechanism.variant]))
    names = {0: _("the word itself")}
    for layer in range(1, layers + 1):
        names[layer] = ngettext("after {layer} layer", "after {layer} layers", layer).format(layer=layer)
    token_text(
        TextPicture(tokens=segmented.spaced, groups=first, group_names=names, selected=origin),
        key="segmented arrival",
        theme=page.theme,
        height=420,
        alt=words,
    )
