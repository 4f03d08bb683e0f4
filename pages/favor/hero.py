"""The hero of the random-features page: the cloud of pairs, its numbers in words, and the counted cost."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from longattn_core.charts.figures.favor import What, pairs_chart
from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.features import UNBIASED
from longattn_core.studies.base.study import Result
from longattn_core.studies.favor.finding import PairsFinding
from pages.kit import state
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.text import _, prose

FACES: dict[str, str] = {"weights": _("weights"), "kernel": _("kernel values, before the division")}


def numbers_of(found: PairsFinding, pairs: Result) -> dict[str, Any]:
    """The finding's numbers as the sentences of this page want them."""
    row = pairs.tables["output"].iloc[0]
    one = found.sinks == 1
    return {
        "m": int(row["m"]),
        "columns": int(row["columns"]),
        "n": int(row["n"]),
        "error": found.error,
        "control": found.control,
        "error_bare": found.error_without_sinks,
        "negative": found.negative,
        "cost": found.cost,
        "sinks": _("the one sink") if one else _("the {count} sinks").format(count=found.sinks),
    }


def favor_hero(page: Page, favor: Favor, pairs: Result, found: PairsFinding) -> None:
    """Draw the cloud. Cost: the study's, which is kept; the picture's payload does not grow with n."""
    what: What = "kernel" if _face(page) == "kernel" else "weights"
    table, strongest = pairs.tables["output"], pairs.tables["strongest"]
    chart = pairs_chart(pairs, page.theme, what=what)
    alt = _("Exact against estimated {what} of {count:,} pairs; error {error:.2f}, mean of visible values {control:.2f}.")
    figure(
        page,
        "exact-against-estimate",
        pairs,
        chart,
        table=strongest,
        shown=Favor,
        title=_badges(page, favor),
        caption=f"Exact against estimated {FACES[what]}, {favor.label}, m = {favor.features}. {pairs.words['origin']}",
        alt=alt.format(what=FACES[what], count=len(pairs.arrays["query"]), error=found.error, control=found.control),
    )
    row = table.iloc[0]
    said = [
        prose(
            "favor",
            "hero",
            strongest=len(strongest),
            shown=len(pairs.arrays["query"]),
            all=int(row["all_pairs"]),
            queries=len(set(pairs.arrays["query"].tolist())),
            measured=int(row["queries"]),
            sinks=prose("favor", "hero_sinks") if strongest["sink"].any() else "",
        )
    ]
    if what == "kernel":
        said.append(prose("favor", "hero_sum"))
    if favor.variant not in UNBIASED or favor.kernel != "softmax":
        said.append(prose("favor", "hero_other"))
    section = "cost_cheaper" if found.cheaper else "cost_dearer"
    said.append(prose("favor", section, n=int(row["n"]), cost=found.cost, columns=int(row["columns"])))
    st.caption(" ".join(said))


def _badges(page: Page, favor: Favor) -> str:
    """The features' name, where their directions come from, and whether the model ever read like this."""
    unmasked = [_("unmasked reading: the model never saw this")] if page.source.kind == "text" and not page.causal else []
    return " · ".join([favor.label, _(favor.parameters), *unmasked])


def _face(page: Page) -> str:
    with page.dials:
        return state.choose(
            "favor.step.face", _("Compare"), list(FACES), default="weights", labels=FACES.__getitem__, style="segments", view=True
        )


def tex(value: float) -> str:
    """A number as LaTeX shows it, powers of ten spelled out."""
    if not math.isfinite(value):
        return r"\infty" if value > 0 else "?"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return rf"{mantissa}\cdot10^{{{int(exponent)}}}"


def plain(value: float) -> str:
    """The same in running text."""
    if not math.isfinite(value):
        return "∞"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if value == 0:
        return "0"
    digit, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if digit == "1" else f"{digit}·{power}"


def from_log(logarithm: float) -> str:
    """e to this power in running text, also where the number itself is too large to hold."""
    decades = logarithm / math.log(10)
    return plain(10.0**decades) if abs(decades) < 300 else plain(math.inf if decades > 0 else 0.0)
