"""The closed forms of dilution: a needle in noise beside its formula, and the lead that it needs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.curves import CurveAxis, CurveSeries, curves_chart
from longattn_core.sequences.sources import SyntheticSource
from longattn_core.sequences.synthetic import Needle
from longattn_core.studies.base.study import Result
from longattn_core.studies.dilution.needle import LENGTHS, NeedleGrowth, NeedleTheory
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import formula
from pages.kit.text import _, prose


def theory(page: Page) -> None:
    """The needle in noise: over draws beside its closed form, the lead it needs, the chance to lead, and no noise at all."""
    source, n = _needle_source(page)
    with st.spinner(_("Drawing needles …")):
        grown, laws = run(NeedleGrowth(source=source)), run(NeedleTheory(source=source))
    lead, noise = float(grown.arrays["lead"]), float(grown.arrays["noise"])
    points = grown.tables["points"]
    chosen = points.iloc[int((points["n"] - n).abs().to_numpy().argmin())]
    n, share = int(chosen["n"]), float(chosen["formula"])
    formula(page, "weight", lead=lead, noise=noise, n=n, others=n - 1, share=share)
    if not chosen["holds"]:
        kind = "few" if chosen["few keys dominate"] else "doubtful"
        st.caption(prose("dilution", f"formula_{kind}", drawn=float(chosen["needle"]), share=share, n=n))
    marked = [(float(n), f"n = {n:,}")]
    tokens = CurveAxis(column="n", title=_("tokens n (logarithmic)"), log=True)
    curves = partial(curves_chart, theme=page.theme, x=tokens, marked=marked)
    places = [*st.columns(2, gap="large"), *st.columns(2, gap="large")]
    with places[0]:
        table = _drawn_and_formula(points)
        chart = curves(
            table,
            y=CurveAxis(column="share", title=_("the needle's share"), domain=(0.0, 1.0), format=".0%"),
            series=CurveSeries(column="series", band=("low", "high"), dashed="dashed"),
        )
        _law(page, grown, "needle", chart, table, _("A needle over 16 draws"), f"{chosen['needle']:.1%}")
    with places[1]:
        leads = laws.tables["leads"].assign(
            series=lambda t: _("to keep ") + t["share"].map("{:.0%}".format), dashed=lambda t: ~t["valid"]
        )
        chart = curves(
            leads,
            y=CurveAxis(column="lead", title=_("lead needed g* (nats)")),
            series=CurveSeries(column="series", dashed="dashed", points=False),
            rules=[(lead, _("the lead now, g = {g:g}").format(g=lead))],
        )
        _law(page, laws, "leads", chart, leads, _("The lead that it needs"), f"{leads['lead'].max():.1f}")
    with places[2]:
        chances = _chances(laws.tables["chances"])
        chart = curves(
            chances,
            y=CurveAxis(column="chance", title=_("chance that no noise outranks it"), domain=(0.0, 1.0), format=".0%"),
            series=CurveSeries(column="series", band=("low", "high")),
        )
        _law(page, laws, "chances", chart, chances, _("The chance to be first"), f"{chances['chance'].min():.0%}")
    with places[3]:
        alike = laws.tables["alike"]
        names = {"identical": _("all rows alike: 1/n"), "distinct": _("distinct rows, Gaussian")}
        shown = alike.assign(series=alike["rows"].map(names))
        chart = curves(
            shown,
            y=CurveAxis(column="largest", title=_("largest weight (logarithmic)"), log=True),
            series=CurveSeries(column="series", band=("low", "high")),
        )
        _law(page, laws, "alike", chart, shown, _("Identical rows against distinct ones"), f"{alike['largest'].min():.2g}")


def _law(page: Page, result: Result, name: str, chart: object, table: pd.DataFrame, title: str, number: str) -> None:
    figure(
        page,
        f"law-{name}",
        result,
        chart,
        table=table,
        title=title,
        caption=prose("dilution", f"law_{name}"),
        alt=f"{title}: {number}.",
    )
    st.caption(prose("dilution", f"law_{name}"))


def _needle_source(page: Page) -> tuple[SyntheticSource, int]:
    """The needle on the left where there is one, else one with dials of its own; and the length to look at."""
    if isinstance(page.source, SyntheticSource) and isinstance(page.source.settings, Needle):
        return page.source, page.source.settings.n
    row = st.columns(3)
    with row[0]:
        lead = state.slide("dilution.lead", _("Lead g"), tuple(float(g) for g in range(21)), default=8.0, parse=float, view=True)
    with row[1]:
        noise = state.slide("dilution.noise", _("Noise σ"), tuple(s / 4 for s in range(17)), default=1.0, parse=float, view=True)
    with row[2]:
        n = state.slide("dilution.n", _("Length n"), LENGTHS, default=LENGTHS[-1], parse=int, shown=lambda n: f"{n:,}", view=True)
    return SyntheticSource(settings=Needle(lead=lead, noise=noise)), n


def _drawn_and_formula(points: pd.DataFrame) -> pd.DataFrame:
    drawn = points[["n", "needle", "low", "high"]].rename(columns={"needle": "share"})
    law = points[["n", "formula"]].rename(columns={"formula": "share"}).assign(low=np.nan, high=np.nan)
    return pd.concat(
        [drawn.assign(series=_("drawn"), dashed=False), law.assign(series=_("closed form"), dashed=~points["holds"].to_numpy())],
        ignore_index=True,
    )


def _chances(chances: pd.DataFrame) -> pd.DataFrame:
    drawn = chances[["n", "drawn", "low", "high"]].rename(columns={"drawn": "chance"}).assign(series=_("of 32 draws"))
    law = chances[["n", "formula"]].rename(columns={"formula": "chance"}).assign(low=np.nan, high=np.nan, series=_("formula"))
    return pd.concat([drawn, law], ignore_index=True)
