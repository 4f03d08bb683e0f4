"""The hero of the positions page: what every scheme adds at every distance, and the guess about a shifted text."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from longattn_core.charts.figures.relative import bias_chart
from longattn_core.mechanisms.relative import Relative
from longattn_core.studies.base.study import Result, Setting, sequence_of
from longattn_core.studies.relative.curves import NEAR, CurveFinding, Curves
from longattn_core.studies.relative.shifts import Shifts, changed_by_shift
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import predict
from pages.kit.text import _, escaped, prose

SHIFT = 1000
"""Positions by which the whole text is moved for the guess and the answer."""


def small_shift(page: Page, chosen: Setting) -> Result:
    """The shift test in its cheapest form: 32 tokens, one shift."""
    return run(Shifts(source=page.source, chosen=chosen, tokens=32, shifts=(SHIFT,)))


def hero(page: Page, result: Result) -> None:
    """The curves, and what must be known to read them."""
    table = result.tables["curves"]
    n, of = int(result.arrays["n"]), int(result.arrays["of"])
    figure(
        page,
        "bias-against-distance",
        result,
        bias_chart(table, page.theme),
        table=table,
        shown=Relative,
        caption=f"What each scheme of positions adds to a score at each distance. {result.words['origin']}",
        alt=_("{count} curves over distances up to {most:,} tokens; {chosen} is drawn thick.").format(
            count=table["scheme"].nunique(), most=n, chosen=result.words["chosen"]
        ),
    )
    said = [prose("relative", "hero", e=math.e)]
    if sequence_of(page.source).rotary is not None:
        said.append(prose("relative", "turned_off"))
    if n < of:
        said.append(prose("relative", "cut", n=n, of=of))
    trained = result.study_as(Curves).scheme().trained
    if n <= trained:
        said.append(prose("relative", "scaled", trained=trained, n=n))
    for name, why in result.words.items():
        if name.endswith(" refusal"):
            said.append(prose("relative", "refused", name=escaped(name.removesuffix(" refusal")), why=escaped(why)))
    st.caption(" ".join(said))
    st.caption(prose("relative", "kind"))


def guess(page: Page, shifts: Result) -> None:
    """Which maps change when all positions are moved by the same number?"""
    table = shifts.tables["shifts"]
    if table.empty:
        return
    changed = changed_by_shift(shifts)
    rest = table.loc[~table["scheme"].isin(changed), "score"].max()
    options = [_("all of them"), _("only the sinusoids'"), _("only RoPE's"), _("none")]
    right = 3 if not changed else 1 if changed == ("Sinusoids",) else 0
    which = _("None changes.") if not changed else _("{names}, and nothing else.").format(names=", ".join(changed))
    numbers = {"shift": SHIFT, "which": which, "moved": float(table["moved"].max()), "rest": max(float(rest), 1e-16)}
    predict(page, "shift", options, right, **numbers)


def numbers_of(found: CurveFinding, result: Result, shifts: Result) -> dict[str, Any]:
    """The finding's numbers as its sentences want them."""
    moved = shifts.tables["shifts"]["moved"]
    return {
        "scheme": found.scheme,
        "untrained": _(" (its numbers drawn at random here)") if found.untrained else "",
        "neighbours": min(NEAR, found.reach),
        "half": found.reach // 2,
        "factor": times(found.factor),
        "wobble": found.wobble,
        "peak": found.peak,
        "top": found.top,
        "shift": SHIFT,
        "moved": 0.0 if moved.empty else float(moved.max()),
        "why": escaped(result.words.get(f"{found.scheme} refusal", "")),
    }


def times(factor: float) -> str:
    """How many times, in words that end somewhere."""
    if factor > 1e6:
        return _("more than a million times")
    return _("{factor:.1f} times").format(factor=factor) if factor < 10 else _("{factor:,.0f} times").format(factor=factor)
