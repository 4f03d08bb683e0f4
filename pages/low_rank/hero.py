"""The hero of the low-rank page: the map as two thin factors, what they get wrong, and the singular values below."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.cells import Window
from longattn_core.charts.figures.low_rank import FACTOR_CELLS, factor_top, factors_chart, scree_chart
from longattn_core.charts.maps import matrix_chart
from longattn_core.charts.pictures import MapPicture
from longattn_core.mechanisms.low_rank import LowRank
from longattn_core.studies.base.pooling import pooled_by_size
from longattn_core.studies.base.study import Result
from longattn_core.studies.low_rank.factors import Factors
from longattn_core.studies.low_rank.finding import RankFinding
from pages.kit import state
from pages.kit.components.attention_map import attention_map
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import exported, figure
from pages.kit.figure_menu import figure_menu
from pages.kit.map_card import explain_pair
from pages.kit.sections import predict
from pages.kit.text import _, prose

FACES = ("factors", "difference", "exact")


def low_rank_hero(page: Page, spectrum: Result, rank: int, without_sinks: bool) -> None:
    """Three pictures of one size (on a phone one, with a switch), the sentence below them, the scree."""
    result = run(Factors(source=page.source, rank=rank, without_sinks=without_sinks))
    n = int(spectrum.arrays["n"])
    tokens = [str(token) for token in spectrum.arrays["tokens"]]
    k = int(result.arrays["rank"])
    names = {
        "factors": _("U√Σ · √ΣVᵀ, rank {k:,}").format(k=k),
        "difference": _("Remainder: rebuilt − exact"),
        "exact": _("The exact map"),
    }
    _one_on_a_phone(names)
    places = dict(zip(FACES, st.columns(3, gap="medium"), strict=True))
    asked = None
    with places["factors"], st.container(key="low-rank-factors"):
        _factors(page, result, n, names["factors"])
    whole = Window(r0=0, r1=n, c0=0, c1=n)
    for name, values in (("difference", result.arrays["difference"]), ("exact", spectrum.arrays["exact"])):
        with places[name], st.container(key=f"low-rank-{name}"):
            drawn = attention_map(
                MapPicture(
                    values=values,
                    title=names[name],
                    full=(n, n),
                    window=whole,
                    scale="difference" if name == "difference" else "log",
                    causal=page.causal and name == "exact",
                    tokens_rows=tokens,
                ),
                key=f"low rank {name}",
                theme=page.theme,
                link="low rank",
                content=f"{page.source.model_dump_json()} {name} {rank if name == 'difference' else ''} {without_sinks}",
                strips=False,
            )
            figure_menu(
                f"map-{name}",
                result if name == "difference" else spectrum,
                shown=LowRank,
                table=lambda values=values: pd.DataFrame(values),  # type: ignore[misc]
                chart=lambda values=values, name=name: exported(page, _plain(page, values, name)),  # type: ignore[misc]
                caption=f"{names[name]}, rank {k}. {result.words['origin']}",
            )
            asked = drawn.clicked or asked
    if asked is not None:
        st.session_state["_low_rank_pair"] = (asked.row, asked.col)
    pair = st.session_state.get("_low_rank_pair")
    if pair is not None and max(pair) < n:
        explain_pair(page, LowRank(rank=k), pair[0], pair[1], tokens)
    _said(page, result, k, n)
    _scree(page, spectrum, k)


def _plain(page: Page, values: np.ndarray, name: str) -> object:
    """A map as a picture for a file."""
    return matrix_chart(
        values,
        page.theme,
        x_title=_("key (token position)"),
        y_title=_("query (token position)"),
        height=480,
        kind="difference" if name == "difference" else "log",
        top=1.0,
    )


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


def _said(page: Page, result: Result, k: int, n: int) -> None:
    numbers = {name: float(result.arrays[name]) for name in ("kept", "error", "eckart_young", "ahead", "negative")}
    top = factor_top(result.arrays["left"], result.arrays["right"])
    said = prose("low_rank", "hero", k=k, kept=numbers["kept"], error=numbers["error"], eckart=numbers["eckart_young"], top=top)
    held = n * (n + 1) // 2 if page.causal else n * n
    if k >= n:
        said += " " + prose("low_rank", "whole", numbers=k * (2 * n + 1), held=held)
    else:
        section = "ahead" if page.causal else "ahead_unmasked"
        said += " " + prose("low_rank", section, ahead=numbers["ahead"], negative=numbers["negative"])
    st.caption(said)


def _scree(page: Page, spectrum: Result, k: int) -> None:
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
    """Where three pictures do not fit side by side, show the chosen one; a style sheet knows the screen."""
    with st.container(key="low-rank-phone"):
        face = state.choose(
            "low_rank.face", _("Picture"), list(FACES), default="factors", labels=names.__getitem__, style="segments", view=True
        )
    hidden = ", ".join(f".stColumn:has(.st-key-low-rank-{name})" for name in FACES if name != face)
    wide = ".st-key-low-rank-phone { display: none; }"
    st.html(
        f"<style>@media (min-width: 641px) {{ {wide} }} @media (max-width: 640px) {{ {hidden} {{ display: none; }} }}</style>"
    )


def _guess(page: Page, found: RankFinding) -> None:
    options = sorted({1, found.uniform, max(1, found.n // 4), found.n})
    if len(options) < 3:
        return
    mask = _("under the causal mask") if found.causal else _("without a mask")
    why = prose("low_rank", "why_causal" if found.causal else "why_none")
    predict(
        page,
        "uniform",
        [f"{option:,}" for option in options],
        options.index(found.uniform),
        n=found.n,
        uniform=found.uniform,
        mask=mask,
        why=why,
    )
