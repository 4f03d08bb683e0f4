"""The timeline of a memory over the mass of exact attention, stepped segment by segment; and the guess about all memories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import streamlit as st

from longattn_core.charts.figures.memory import Timeline, status_colours, status_names, timeline_chart
from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.base.study import Setting, sequence_of
from longattn_core.studies.memory import (
    STATUSES,
    ComparisonFinding,
    MemoryComparison,
    MemoryFinding,
    MemoryTimeline,
    comparison_finding,
    memory_finding,
)
from pages.kit import state
from pages.kit.components.stepper import stepper
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure, legend
from pages.kit.query_run import StudyRun
from pages.kit.sections import answer, predict
from pages.kit.text import _, prose

STATES = ("state", "decay", "gated", "delta")
FIRST_DIALS = {
    "cache": ("segment", "memory"),
    "compressed": ("segment", "memory"),
    "slots": ("segment", "slots"),
    "state": (),
    "decay": ("decays", "half_life"),
    "gated": ("half_life",),
    "delta": ("beta",),
}


@dataclass(frozen=True, kw_only=True)
class MemoryRun(StudyRun):
    """One run of the page: the memory, the timeline's result, and what it says."""

    mechanism: Memory
    finding: MemoryFinding

    @property
    def is_state(self) -> bool:
        """Whether the memory is a running state, which has no segments."""
        return self.mechanism.variant in STATES

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The numbers and words that the page's sentences may name."""
        finding = self.finding
        numbers = asdict(finding) | self.mechanism.model_dump() | {"tokens": len(self.result.arrays["tokens"])}
        del numbers["kind"]
        numbers["kept_said"] = prose("memory", f"kept_{self.mechanism.variant}", **numbers)
        agrees = "agrees_nothing" if math.isnan(finding.agrees) else "agrees_share"
        numbers["agrees_said"] = prose("memory", agrees, agrees=finding.agrees)
        if finding.kind == "fades":
            numbers["agrees_said"] = numbers["agrees_said"][:1].upper() + numbers["agrees_said"][1:]
        numbers["verdict_short"] = prose("memory", f"short_{finding.verdict}")
        numbers["sinks_said"] = prose("memory", "sinks_some" if len(self.result.arrays.get("sinks", ())) else "sinks_none")
        return numbers | {"verdict_said": prose("memory", f"verdict_{finding.verdict}", **numbers)}

    def timeline(self, page: Page) -> Timeline:
        """What the timeline shows."""
        arrays = {name: self.result.arrays[name] for name in ("spans", "stops", "mass", "tokens", "sinks")}
        return Timeline(**arrays, variant=self.mechanism.variant, both_ways=self.is_state and not page.causal)


def first_dials() -> tuple[str, ...]:
    """The dials in the first row: the kind of memory, and the two that matter most for the kind that was chosen."""
    variant = state.recall("m.memory.variant", "cache", str)
    return ("variant", *FIRST_DIALS.get(variant, FIRST_DIALS["cache"]))


def memory_run(page: Page, mechanism: Memory) -> MemoryRun:
    """Run the timeline."""
    with st.spinner(_("The model reads the text …")):
        sequence_of(page.source)
    result = run(MemoryTimeline(source=page.source, setting=Setting.of(mechanism)))
    return MemoryRun(mechanism=mechanism, result=result, finding=memory_finding(result))


def hero(page: Page, memory: MemoryRun) -> int:
    """The answer, and the timeline with its steps. Returns the place of the shown segment among the stops."""
    answer(page, memory.finding.kind, **memory.numbers)
    if memory.refused:
        st.info(memory.result.words["refusal"], icon=":material/block:")
        return 0
    timeline, table = memory.timeline(page), memory.result.tables["segments"]
    name = "stop_state" if memory.is_state else "stop"
    labels = [prose("memory", name, number=int(segment) + 1) for segment in timeline.stops]
    at = stepper("memory.step", labels, theme=page.theme, start=len(labels) - 1, label=_("Segments in reading order"))
    row = table.iloc[at].fillna(0.0).to_dict()
    chart = timeline_chart(timeline, page.theme, at=at, shares={status: float(row.get(status, 0.0)) for status in STATUSES})
    parts, inks = _parts(row, timeline.variant), status_colours(page.theme)
    legend(
        page,
        [(inks[status], label, share) for status, label, share in parts],
        title=prose("memory", "standing_now", name=labels[at].capitalize(), start=int(row["start"]), end=int(row["stop"]) - 1),
    )
    some = len(timeline.stops) < len(timeline.spans)
    caption = prose("memory", "hero_some" if some else "hero", count=len(timeline.spans), **memory.numbers)
    figure(
        page,
        "timeline",
        memory.result,
        chart,
        table=table,
        shown=Memory,
        caption=caption,
        alt=f"{labels[at]}: " + ", ".join(f"{label} {share}" for _status, label, share in parts),
    )
    st.caption(caption)
    return at


def _parts(row: Mapping[Any, Any], variant: str) -> list[tuple[str, str, str]]:
    """For each status that the segment's queries give weight to: its key, its name, its share with and without the sinks."""
    names = status_names(variant)
    parts = []
    for status in STATUSES:
        share, without = float(row.get(status, 0.0)), float(row.get(f"{status} without sinks", 0.0))
        if share > 0 or without > 0 or status == "current":
            parts.append((str(status), names[status], f"{share:.1%} ({without:.1%})"))
    return parts


def guess(page: Page) -> None:
    """Ask how many of the seven memories beat the plain mean; they run only when somebody has guessed."""
    options = [_("none"), _("some"), _("all")]
    if state.recall("memory.guess.standing", None, int) is None:
        predict(page, "standing", options, 0)
        return
    with st.spinner(_("Seven memories read the text …")):
        finding = comparison_finding(run(MemoryComparison(source=page.source)).tables["points"])
    right = {"none": 0, "some": 1, "all": 2, "unknown": 0}[finding.kind]
    predict(
        page,
        "standing",
        options,
        right,
        said=comparison_words(finding),
        control=finding.control,
        nearest=finding.nearest,
        error=finding.error,
    )


def comparison_words(finding: ComparisonFinding) -> str:
    """How many memories beat the mean, in words that the numbers choose."""
    count, better = len(finding.better) + len(finding.others), len(finding.better)
    words = prose("memory", f"standing_{finding.kind}", count=count, better=better, names=", ".join(finding.better))
    if finding.refused:
        words += " " + prose("memory", "standing_refused", names=", ".join(finding.refused))
    return words
