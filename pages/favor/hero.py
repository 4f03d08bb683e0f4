"""The hero of the random-features page: the cloud of pairs, its numbers in words, and the counted cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from longattn_core.charts.figures.favor import pairs_chart
from longattn_core.charts.figures.favor_cloud import What
from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.features import UNBIASED
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.favor.finding import PairsFinding, pairs_finding
from longattn_core.studies.favor.pairs import Pairs
from pages.favor.numbers import plain
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.input_bar import Inputs
from pages.kit.sections import answer, predict
from pages.kit.text import _, ngettext, prose

FACES: dict[str, str] = {"weights": _("weights"), "kernel": _("kernel values, before the division")}


START = Favor(features=64)


def inputs() -> Inputs:
    """Small Gaussian scores without a mask, where the theory holds; a text, once chosen, is read under the model's mask."""
    kept = state.recall("source", "synthetic", str)
    shown = st.session_state.get("in:source", kept) if st.session_state.get("_page") == "favor" else kept
    if shown != kept and "mask" not in state.snapshot():
        # The input bar still holds the former source's mask. Where the visitor chose none, the new source's default applies.
        st.session_state.pop("in:mask", None)
    return Inputs(
        source="synthetic",
        kind="gaussian",
        head="2.0",
        mask="none" if shown == "synthetic" else "causal",
        dials={"gaussian": {"d": 4, "scale": 0.7}},
    )


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """One run of the page: the mechanism, its pairs, and what they say."""

    favor: Favor
    pairs: Result
    finding: PairsFinding

    @property
    def setting(self) -> Setting:
        """The mechanism as a study holds it."""
        return Setting.of(self.favor)

    @property
    def numbers(self) -> dict[str, Any]:
        """The numbers that the page's sentences may name."""
        row, finding = self.pairs.tables["output"].iloc[0], self.finding
        return {
            "m": int(row["m"]),
            "columns": int(row["columns"]),
            "n": int(row["n"]),
            "error": finding.error,
            "control": finding.control,
            "error_bare": finding.error_without_sinks,
            "negative": finding.negative,
            "cost": finding.cost,
            "sinks": ngettext("the one sink", "the {count} sinks", finding.sinks).format(count=finding.sinks),
        }


def estimate(page: Page, favor: Favor) -> Estimated:
    """Run the setting on the pairs of the page's head."""
    pairs = run(Pairs(source=page.source, setting=Setting.of(favor)))
    return Estimated(favor=favor, pairs=pairs, finding=pairs_finding(pairs))


def hero(page: Page, estimated: Estimated) -> None:
    """The answer and the cloud. Cost: the study's, which is kept; the picture's payload does not grow with n."""
    favor, pairs, finding = estimated.favor, estimated.pairs, estimated.finding
    answer(page, finding.kind, **estimated.numbers)
    what: What = "kernel" if _face(page) == "kernel" else "weights"
    row, strongest = pairs.tables["output"].iloc[0], pairs.tables["strongest"]
    alt = _("Exact against estimated {what} of {count:,} pairs; error {error:.2f}, mean of visible values {control:.2f}.")
    figure(
        page,
        "exact-against-estimate",
        pairs,
        pairs_chart(pairs, page.theme, what=what),
        table=strongest,
        shown=Favor,
        title=_badges(page, favor),
        caption=f"Exact against estimated {FACES[what]}, {favor.label}, m = {favor.features}. {pairs.words['origin']}",
        alt=alt.format(what=FACES[what], count=len(pairs.arrays["query"]), error=finding.error, control=finding.control),
    )
    words = [
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
        words.append(prose("favor", "hero_sum"))
    if favor.variant not in UNBIASED or favor.kernel != "softmax":
        words.append(prose("favor", "hero_other"))
    section = "cost_cheaper" if finding.cheaper else "cost_dearer"
    words.append(prose("favor", section, n=int(row["n"]), cost=finding.cost, columns=int(row["columns"])))
    st.caption(" ".join(words))


def _badges(page: Page, favor: Favor) -> str:
    """The features' name, where their directions come from, and whether the model reads without this mask."""
    unmasked = [_("unmasked reading: the model never saw this")] if page.source.kind == "text" and not page.causal else []
    return " · ".join([favor.label, _(favor.parameters), *unmasked])


def _face(page: Page) -> str:
    with page.dials:
        return state.choose(
            "favor.step.face", _("Compare"), list(FACES), default="weights", labels=FACES.__getitem__, style="segments", view=True
        )


def guess(page: Page, estimated: Estimated) -> None:
    """How many times the features, if all scores are doubled: left out where the norms make too little difference."""
    norms = estimated.pairs.arrays["sum_norm"]
    norm = float(np.median(norms))
    if len(norms) < 2 or not 1 < norm < 300:
        return
    factor = math.expm1(2 * norm) / math.expm1(norm)
    options = [2.0, 4.0, factor, factor**2]
    if factor < 4.5:
        return
    predict(
        page,
        "sharpness",
        [_("{count} times").format(count=plain(option)) for option in options],
        2,
        norm=norm,
        factor=plain(factor),
    )
