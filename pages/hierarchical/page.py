"""Hierarchy: can a text be read at several distances at once?"""

from __future__ import annotations

from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.hierarchical import Descent, Finding, Wrong, finding
from pages.hierarchical.hero import answers, chosen_query, descent_picture, guess
from pages.hierarchical.measure import measure_view
from pages.hierarchical.step import step_view
from pages.hierarchical.theory import theory_view
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import page
from pages.kit.sections import answer, question, said, try_this, views


def closer(here: Page, mechanism: Hierarchical, descent: Result, wrong: Result, found: Finding) -> None:
    """The three views, where there is a descent to look at."""
    views(
        here,
        step=lambda: step_view(here, mechanism, descent),
        theory=lambda: theory_view(here, mechanism, descent),
        measure=lambda: measure_view(here, mechanism, descent, wrong, found),
    )


def body(here: Page) -> None:
    """Question, answer, hero, guess, lessons, and the view that was chosen."""
    question(here)
    mechanism = mechanism_dials(here, Hierarchical, row=("variant", "levels", "groups"))
    setting = Setting.of(mechanism)
    descent = run(Descent(source=here.source, setting=setting, query=chosen_query(here)))
    if "refusal" in descent.words:
        answer(here, "refused", refusal=descent.words["refusal"])
        found, wrong, kind = None, None, "refused"
    else:
        wrong = run(Wrong(source=here.source, setting=setting))
        found = finding(descent, wrong)
        kind = found.kind
        answer(here, kind, **answers(descent, found))
    descent_picture(here, mechanism, descent, found)
    if found is not None:
        guess(here, descent, found)
    try_this(here, kind, **({} if found is None else answers(descent, found)))
    if not here.presenting:
        if found is not None and wrong is not None:
            closer(here, mechanism, descent, wrong, found)
        said(here)


page("hierarchical", body, Inputs(sample="topics.txt", n=2048, head="14.3"))
