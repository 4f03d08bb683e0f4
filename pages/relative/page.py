"""Positions: how does a model know how far apart two tokens are?"""

from __future__ import annotations

from longattn_core.mechanisms.relative import Relative
from longattn_core.studies.base.study import Setting
from longattn_core.studies.relative.curves import Curves, curve_finding
from longattn_core.studies.relative.schemes import usual_base
from longattn_core.studies.relative.shifts import changed_by_shift
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import answer, question, said, try_this, views
from pages.kit.text import _
from pages.relative.hero import guess, hero, numbers_of, small_shift
from pages.relative.measure import measure
from pages.relative.step import step
from pages.relative.theory import theory

TRAINED = 256
"""The trained length that the page begins with: half of the default text, so that what lies beyond it is seen."""


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    base = usual_base(page.source)
    begin = Relative(variant="rope", base=base, trained=TRAINED)
    mechanism = mechanism_dials(page, Relative, row=("variant", "strength"), default=begin)
    if mechanism.variant != "rope":
        # These dials are put away with RoPE, and its curve stays what it was.
        mechanism = mechanism.with_dials(base=begin.base, trained=begin.trained)
    chosen = Setting.of(mechanism)
    result = run(Curves(source=page.source, chosen=chosen))
    shifts = small_shift(page, chosen)
    found = curve_finding(result)
    numbers = numbers_of(found, result, shifts)
    answer(page, found.kind, **numbers)
    hero(page, result)
    guess(page, shifts)
    try_this(page, found.kind, **numbers)
    if page.presenting:
        return
    views(
        page, step=lambda: step(page, mechanism), measure=lambda: measure(page, mechanism), theory=lambda: theory(page, mechanism)
    )
    names = ", ".join(changed_by_shift(shifts))
    said(page, changed=_("only {names} change").format(names=names) if names else _("no scheme's scores change"))


show_page("relative", body, Inputs(head="16.0", rotary=False))
