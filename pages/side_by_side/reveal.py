"""The guess before the reveal: which mechanisms will find the marked key, and how many guesses were right."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from longattn_core.studies.base.study import Result
from longattn_core.studies.side_by_side.finding import ComparisonFinding
from pages.kit import state
from pages.kit.context import Page
from pages.kit.text import _, escaped, prose, quoted
from pages.side_by_side.ribbons import row_key


def is_revealed(page: Page) -> bool:
    """Whether the ribbons are shown: the visitor has asked for them, or somebody presents."""
    return page.presenting or state.recall("revealed", False, lambda text: text == "1")


def reveal_button(revealed: bool) -> None:
    """The button that shows the ribbons, or hides them again."""
    if revealed:
        st.button(_("Hide and guess again"), on_click=lambda: state.remember("revealed", None, view=True), key="hide")
    else:
        st.button(_("Reveal"), type="primary", on_click=lambda: state.remember("revealed", "1", view=True), key="reveal")


def remember_guesses(guesses: Mapping[str, bool]) -> None:
    """Keep which mechanisms the visitor thinks will find the key: a link may carry them."""
    state.remember("guess", "~".join(f"{key}={int(guess)}" for key, guess in guesses.items()) or None, view=True)


def outcome(result: Result, finding: ComparisonFinding) -> str:
    """How many mechanisms find the marked key, and how many of the visitor's guesses were right."""
    finders = f" ({', '.join(escaped(label) for label in finding.found)})" if finding.found else ""
    lost = _("none loses it") if not finding.lost else _("the others lose it") if finding.found else _("all lose it")
    marked = quoted(str(result.arrays["tokens"][int(result.arrays["marked"])]))
    section = "revealed_one" if len(finding.found) == 1 else "revealed"
    sentence = prose(
        "side_by_side",
        section,
        found=len(finding.found),
        count=len(finding.found) + len(finding.lost),
        marked=marked,
        finders=finders,
        lost=lost,
    )
    nothing: dict[str, bool] = {}
    guesses = state.recall("guess", nothing, _parse_guesses)
    right, asked = judge(guesses, result, finding)
    return sentence if not asked else f"{sentence} {prose('side_by_side', 'guessed', right=right, asked=asked)}"


def _parse_guesses(text: str) -> dict[str, bool]:
    """Read what `remember_guesses` wrote: "lsh=1~favor=0"."""
    return {key: guess == "1" for key, _sep, guess in (part.partition("=") for part in text.split("~"))}


def judge(guesses: dict[str, bool], result: Result, finding: ComparisonFinding) -> tuple[int, int]:
    """How many guesses were right, of how many that can be judged: `FINDS` is the rule for both."""
    table = result.tables["mechanisms"]
    labels = {row_key(result, index): label for index, label in enumerate(table["label"])}
    judged = {key: guess for key, guess in guesses.items() if labels.get(key) in {*finding.found, *finding.lost}}
    return sum(guess == (labels[key] in finding.found) for key, guess in judged.items()), len(judged)
