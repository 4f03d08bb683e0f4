"""Hierarchy: can a text be read at several distances at once?"""

from __future__ import annotations

from longattn_core.mechanisms.hierarchical import Hierarchical
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.hierarchical import Descent, DescentFinding, WrongTurns, descent_finding
from pages.hierarchical.hero import answers, chosen_query, descent_picture, guess
from pages.hierarchical.measure import measure_view
from pages.hierarchical.step import step_view
from pages.hierarchical.theory import theory_view
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.dials import mechanism_dials
from pages.kit.input_bar import Inputs
from pages.kit.page import show_page
from pages.kit.sections import answer, question, said, try_this, views


def closer(page: Page, mechanism: Hierarchical, descent: Result, wrong: Result, found: DescentFinding) -> None:
    """The three views, where there is a descent to look at."""
    views(
        page,
        step=lambda: step_view(page, mechanism, descent),
        theory=lambda: theory_view(page, mechanism, descent),
        measure=lambda: measure_view(page, mechanism, descent, wrong, found),
    )


def body(page: Page) -> None:
    """Question, answer, hero, guess, examples, and the view that was chosen."""
    question(page)
    mechanism = mechanism_dials(page, Hierarchical, row=("variant", "levels", "groups"))
    setting = Setting.of(mechanism)
    descent = run(Descent(source=page.source, setting=setting, query=chosen_query(page)))
    if "refusal" in descent.words:
        answer(page, "refused", refusal=descent.words["refusal"])
        found, wrong, kind = None, None, "refused"
    else:
        wrong = run(WrongTurns(source=page.source, setting=setting))
        found = descent_finding(descent, wrong)
        kind = found.kind
        answer(page, kind, **answers(descent, found))
    descent_picture(page, mechanism, descent, found)
    if found is not None:
        guess(page, descent, found)
    try_this(page, kind, **({} if found is None else answers(descent, found)))
    if not page.presenting:
        if found is not None and wrong is not None:
            closer(page, mechanism, descent, wrong, found)
        said(page)


show_page("hierarchical", body, Inputs(sample="topics.txt", n=2048, head="14.3"))
