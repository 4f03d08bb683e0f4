"""Theory on the positions page: the formula, wavelengths, T5's staircase, ALiBi's slopes, and the skew frame by frame."""

from __future__ import annotations

import math

import numpy as np
import streamlit as st

from longattn_core.charts.figures.relative import STAGE_TITLES, skew_chart, slopes_chart, staircase_chart, waves_chart
from longattn_core.mechanisms.relative import Relative
from longattn_core.studies.base.study import sequence_of
from longattn_core.studies.relative.rotary import Beyond
from longattn_core.studies.relative.theory import STAGES, Skew, Tables
from pages.kit.components.stepper import stepper
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose
from pages.relative.measure import odd

STRETCH = 4.0
"""How many times longer than the trained length the text is whose wavelengths are drawn."""


def theory(page: Page, mechanism: Relative) -> None:
    """The formula of the chosen scheme, then the arithmetic that all of them rest on."""
    sequence = sequence_of(page.source)
    number, total = sequence.head_numbers[0] + 1, sequence.head_count
    slope = mechanism.strength * math.pow(2.0, -8 * number / total)
    formula(
        page,
        mechanism.variant,
        d=sequence.d,
        strength=mechanism.strength,
        number=number,
        total=total,
        slope=slope,
        buckets=mechanism.buckets,
        reach=mechanism.reach,
        clip=mechanism.clip,
        count=2 * mechanism.longest + 1,
        base=mechanism.base,
    )
    _skew(page, mechanism)
    _tables(page, mechanism)
    if not odd(page):
        _waves(page, mechanism, sequence.n)


def _skew(page: Page, mechanism: Relative) -> None:
    st.subheader(_("The skew"), anchor=False)
    st.markdown(prose("relative", "skew"))
    result = run(Skew(source=page.source, seed=mechanism.seed))
    cells, size = result.tables["cells"], int(result.arrays["size"])
    stops = [_("by distance"), _("pad"), _("cut anew"), _("by key")]
    at = stepper("relative.step_skew", stops, theme=page.theme, label=_("The skew"))
    gap = max(float(np.abs(result.arrays["result"] - result.arrays["looked_up"]).max()), 1e-16)
    said = prose("relative", f"skew_{at}", drop=size - 1, width=2 * size - 1, wide=2 * size, size=size, gap=gap)
    st.markdown(said)
    stage = STAGES[at]
    figure(
        page,
        f"skew-{at + 1}",
        result,
        skew_chart(cells, page.theme, stage=stage),
        table=cells[cells["stage"] == stage],
        shown=Relative,
        title=STAGE_TITLES[stage],
        alt=said,
        caption=f"The skew on the first {size} tokens, frame {at + 1} of 4. {result.words['origin']}",
    )


def _tables(page: Page, mechanism: Relative) -> None:
    result = run(Tables(source=page.source, buckets=mechanism.buckets, reach=mechanism.reach))
    buckets, slopes = result.tables["buckets"], result.tables["slopes"]
    left, right = st.columns(2, gap="medium")
    own = slopes[slopes["own"]].iloc[0]
    with left:
        figure(
            page,
            "t5-staircase",
            result,
            staircase_chart(buckets, page.theme, reach=mechanism.reach),
            table=buckets,
            shown=Relative,
            title=_("T5's staircase"),
            caption="T5's bucket of each distance.",
            alt=_("{count} buckets; the last begins at {reach:,}.").format(count=mechanism.buckets, reach=mechanism.reach),
        )
        st.caption(prose("relative", "t5", buckets=mechanism.buckets, reach=mechanism.reach))
    with right:
        figure(
            page,
            "alibi-slopes",
            result,
            slopes_chart(slopes, page.theme),
            table=slopes,
            shown=Relative,
            title=_("ALiBi's slopes"),
            caption="What each head loses a token of distance.",
            alt=_("{count} heads, from {first:.3g} down to {last:.3g} a token.").format(
                count=len(slopes), first=slopes["slope"].iloc[0], last=slopes["slope"].iloc[-1]
            ),
        )
        st.caption(prose("relative", "alibi", head=int(own["head"]), slope=float(own["slope"]), unit=float(own["unit"])))


def _waves(page: Page, mechanism: Relative, n: int) -> None:
    trained = mechanism.trained
    result = run(Beyond(source=page.source, base=mechanism.base, trained=trained, stretch=STRETCH))
    pairs = result.tables["pairs"]
    figure(
        page,
        "wavelengths",
        result,
        waves_chart(pairs, page.theme, tokens=n),
        table=pairs,
        shown=Relative,
        title=_("How long a turn takes"),
        caption=f"Tokens a full turn, base {mechanism.base:g}, trained on {trained:,}.",
        alt=_("From {first:.1f} tokens a turn to {last:,.0f}.").format(
            first=pairs["wavelength"].min(), last=pairs["wavelength"].max()
        ),
    )
    st.caption(prose("relative", "waves", stretch=STRETCH, trained=trained))
