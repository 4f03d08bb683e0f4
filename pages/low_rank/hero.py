"""The hero of the low-rank page: the map as two thin factors, their error, and the singular values below."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.cells import Window
from longattn_core.charts.figures.low_rank import FACTOR_CELLS, factor_top, factors_chart, scree_chart
from longattn_core.charts.maps import matrix_chart
from longattn_core.charts.pictures import MapPicture
from longattn_core.charts.style.scales import Kind
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.studies.base.pooling import pooled_by_size
from longattn_core.studies.base.run import shortened
from longattn_core.studies.base.study import Result
from longattn_core.studies.low_rank.decomposition import LONGEST
from longattn_core.studies.low_rank.factors import Factors
from longattn_core.studies.low_rank.finding import RankFinding, rank_finding
from longattn_core.studies.low_rank.spectrum import Spectrum
from pages.kit import state
from pages.kit.components.attention_map import Pair, attention_map
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import exported, figure
from pages.kit.figure_menu import figure_menu
from pages.kit.map_card import explain_pair
from pages.kit.sections import answer, predict
from pages.kit.text import _, ngettext, prose

FACES = ("factors", "difference", "exact")


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One run of the page: the mechanism, the spectrum of the head's map, and what it says."""

    mechanism: LowRank
    spectrum: Result
    finding: RankFinding
    without_sinks: bool

    @property
    def k(self) -> int:
        """The rank that is kept: at most that of the map."""
        return min(self.mechanism.rank, self.finding.n)

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers that the page's sentences may name."""
        finding = self.finding
        rest = "" if finding.without == finding.rank else _(" ({without} without its sinks)").format(without=finding.without)
        return {
            "n": finding.n,
            "rank": finding.rank,
            "without": finding.without,
            "uniform": finding.uniform,
            "rest": rest,
            "numbers": finding.numbers,
            "held": finding.held,
            "sinks": ngettext("one sink", "{count} sinks", finding.sinks).format(count=finding.sinks),
            "them": ngettext("it", "them", finding.sinks),
        }


def first_tokens(page: Page) -> Page:
    """The same page, whose source is read to the first tokens, those whose map is decomposed."""
    beginning = copy.copy(page)
    beginning.source = shortened(page.source, LONGEST)
    return beginning


def ranked(page: Page, mechanism: LowRank) -> Ranked:
    """Run the spectrum of the page's head; where the head has sinks, a switch takes them out."""
    spectrum = run(Spectrum(source=page.source))
    finding = rank_finding(spectrum)
    with page.dials:
        without_sinks = finding.sinks > 0 and state.switch(
            "low_rank.sinkless",
            _("Without the sinks"),
            default=False,
            help=_("Set the columns of this head's sinks to 0 first: keys that take much weight and add next to nothing."),
        )
    return Ranked(mechanism=mechanism, spectrum=spectrum, finding=finding, without_sinks=without_sinks)


def hero(page: Page, ranks: Ranked, *, of: int) -> None:
    """The answer, three pictures of one size (on a phone one, with a switch), the sentence below them, the scree.

    `of` is how many tokens there are, of which the page reads the first ones.
    """
    answer(page, ranks.finding.kind, **ranks.numbers)
    if page.tokens < of:
        with page.top:
            st.caption(prose("low_rank", "cut", n=page.tokens, of=of))
    result = run(Factors(source=page.source, rank=ranks.mechanism.rank, without_sinks=ranks.without_sinks))
    names = {
        "factors": _("U√Σ · √ΣVᵀ, rank {k:,}").format(k=ranks.k),
        "difference": _("Remainder: rebuilt − exact"),
        "exact": _("The exact map"),
    }
    _one_on_a_phone(names)
    places = dict(zip(FACES, st.columns(3, gap="medium"), strict=True))
    with places["factors"], st.container(key="low-rank-factors"):
        _factors(page, result, ranks.finding.n, names["factors"])
    clicked = None
    for name in ("difference", "exact"):
        with places[name], st.container(key=f"low-rank-{name}"):
            clicked = _map(page, ranks, result, name, names[name]) or clicked
    if clicked is not None:
        st.session_state["_low_rank_pair"] = (clicked.row, clicked.col)
    pair = st.session_state.get("_low_rank_pair")
    if pair is not None and max(pair) < ranks.finding.n:
        explain_pair(page, LowRank(rank=ranks.k), pair[0], pair[1], _tokens(ranks))
    _sentence(page, result, ranks)
    _scree(page, ranks)


def _tokens(ranks: Ranked) -> list[str]:
    return [str(token) for token in ranks.spectrum.arrays["tokens"]]


def _map(page: Page, ranks: Ranked, factors: Result, name: str, title: str) -> Pair | None:
    """The exact map, or the difference of the rebuilt one from it; the pair that was clicked."""
    n, result = ranks.finding.n, factors if name == "difference" else ranks.spectrum
    values = result.arrays[name]
    kind: Kind = "difference" if name == "difference" else "log"
    picture = MapPicture(
        values=values,
        title=title,
        full=(n, n),
        window=Window(r0=0, r1=n, c0=0, c1=n),
        scale=kind,
        causal=page.causal and name == "exact",
        tokens_rows=_tokens(ranks),
    )
    rank = ranks.mechanism.rank if name == "difference" else ""
    drawn = attention_map(
        picture,
        key=f"low rank {name}",
        theme=page.theme,
        link="low rank",
        content=f"{page.source.model_dump_json()} {name} {rank} {ranks.without_sinks}",
        strips=False,
    )
    figure_menu(
        f"map-{name}",
        result,
        shown=LowRank,
        table=lambda: pd.DataFrame(values),
        chart=lambda: exported(page, _map_for_file(page, values, kind)),
        caption=f"{title}, rank {ranks.k}. {factors.words['origin']}",
    )
    return drawn.clicked


def _map_for_file(page: Page, values: np.ndarray, kind: Kind) -> alt.Chart:
    x_title, y_title = _("key (token position)"), _("query (token position)")
    return matrix_chart(values, page.theme, x_title=x_title, y_title=y_title, height=480, kind=kind)


def _factors(page: Page, result: Result, n: int, title: str) -> None:
    left, right, rebuilt = (result.arrays[name] for name in ("left", "right", "rebuilt"))
    chart = factors_chart(left, right, pooled_by_size(rebuilt, FACTOR_CELLS), page.theme, n=n)
    table = pd.DataFrame(left, columns=[f"direction {i + 1}" for i in range(left.shape[1])])
    k = left.shape[1]
    figure(
        page,
        "factors",
        result,
        chart,
        table=table,
        title=title,
        shown=LowRank,
        caption=f"The map rebuilt from {k} singular directions, its factors at its sides. {result.words['origin']}",
        alt=_("{n} × {k} numbers at the left and {k} × {n} above make the map of {n} × {n} weights.").format(n=n, k=k),
    )


def _sentence(page: Page, result: Result, ranks: Ranked) -> None:
    """What the factors keep and lose, in words."""
    k, finding = ranks.k, ranks.finding
    kept, error, eckart, ahead, negative = (
        float(result.arrays[name]) for name in ("kept", "error", "eckart_young", "ahead", "negative")
    )
    top = factor_top(result.arrays["left"], result.arrays["right"])
    words = prose("low_rank", "hero", k=k, kept=kept, error=error, eckart=eckart, top=top)
    if k >= finding.n:
        words += " " + prose("low_rank", "whole", numbers=k * (2 * finding.n + 1), held=finding.held)
    else:
        section = "ahead" if page.causal else "ahead_unmasked"
        words += " " + prose("low_rank", section, ahead=ahead, negative=negative)
    st.caption(words)


def _scree(page: Page, ranks: Ranked) -> None:
    spectrum, k = ranks.spectrum, ranks.k
    table = spectrum.tables["spectrum"]
    values: np.ndarray = spectrum.arrays["values"]
    figure(
        page,
        "scree",
        spectrum,
        scree_chart(table, page.theme, k=k),
        table=table,
        shown=LowRank,
        caption=f"Singular values of one attention map beside those of the uniform map. {spectrum.words['origin']}",
        alt=_("Singular values from {first:.3g} down to {last:.3g}; k = {k} is marked.").format(
            first=values[0], last=values[-1], k=k
        ),
    )
    st.caption(prose("low_rank", "scree"))


def _one_on_a_phone(names: dict[str, str]) -> None:
    """A switch and a style sheet that show only the chosen picture where the screen is too narrow for three."""
    with st.container(key="low-rank-phone"):
        face = state.choose(
            "low_rank.face", _("Picture"), list(FACES), default="factors", labels=names.__getitem__, style="segments", view=True
        )
    hidden = ", ".join(f".stColumn:has(.st-key-low-rank-{name})" for name in FACES if name != face)
    wide = ".st-key-low-rank-phone { display: none; }"
    st.html(
        f"<style>@media (min-width: 641px) {{ {wide} }} @media (max-width: 640px) {{ {hidden} {{ display: none; }} }}</style>"
    )


def guess(page: Page, ranks: Ranked) -> None:
    """How many directions the uniform map needs; not asked where there are too few different options."""
    finding = ranks.finding
    options = sorted({1, finding.uniform, max(1, finding.n // 4), finding.n})
    if len(options) < 3:
        return
    mask = _("under the causal mask") if finding.causal else _("without a mask")
    why = prose("low_rank", "why_causal" if finding.causal else "why_none")
    predict(
        page,
        "uniform",
        [f"{option:,}" for option in options],
        options.index(finding.uniform),
        n=finding.n,
        uniform=finding.uniform,
        mask=mask,
        why=why,
    )
