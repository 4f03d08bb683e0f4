"""The answer of the strides page, and its picture: the weight that strides find."""

from __future__ import annotations

from dataclasses import dataclass

from longattn_core.charts.figures.strided import strides_chart
from longattn_core.mechanisms.strided import Strided
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.strided.strides import StrideFinding, Strides, stride_finding
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure
from pages.kit.sections import answer, predict
from pages.kit.text import _, prose


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """One run of the page: the mechanism, the result of its study, and what that says."""

    mechanism: Strided
    result: Result
    found: StrideFinding

    @property
    def refused(self) -> bool:
        """Whether the mechanism cannot read the sequence."""
        return self.found.kind == "refused"


def stepped(page: Page, mechanism: Strided) -> Stepped:
    """Run the study of the page."""
    result = run(Strides(source=page.source, setting=Setting.of(mechanism)))
    return Stepped(mechanism=mechanism, result=result, found=stride_finding(result))


def hero(page: Page, strides: Stepped) -> None:
    """The answer in one sentence, and weight found against the stride."""
    found, stride = strides.found, strides.mechanism.stride
    if strides.refused:
        answer(page, "refused", reason=strides.result.words["refusal"])
        return
    answer(page, found.kind, found=found.found, chance=found.chance, stride=stride)
    table = strides.result.tables["strides"]
    figure(
        page,
        "strides",
        strides.result,
        strides_chart(table, page.theme, stride=stride),
        table=table,
        shown=Strided,
        caption=_("Weight of exact attention that a stride finds, and the share of the keys that it reads."),
        alt=prose("strided", "alt", found=found.found, chance=found.chance, stride=stride),
    )


def guess(page: Page, strides: Stepped) -> None:
    """Guess the weight found before it is told."""
    if strides.refused:
        return
    found = strides.found.found
    options = [_("less than a tenth"), _("a tenth to a half"), _("more than half")]
    predict(page, "found", options, (found >= 0.1) + (found >= 0.5), found=found, stride=strides.mechanism.stride)
