"""The timeline of a memory over the mass of exact attention, stepped segment by segment; and the guess about all memories."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import streamlit as st

from longattn_core.charts.figures.memory import STATUSES, status_colours, status_names, timeline_chart
from longattn_core.mechanisms.memory import Memory
from longattn_core.studies.base.study import Result
from longattn_core.studies.memory import ComparisonFinding, MemoryComparison, MemoryFinding, comparison_finding
from pages.kit import state
from pages.kit.components.stepper import stepper
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure, legend
from pages.kit.sections import predict
from pages.kit.text import _, prose

NAME = "memory"
STATES = ("state", "decay", "gated", "delta")
ROWS = {
    "cache": ("segment", "memory"),
    "compressed": ("segment", "memory"),
    "slots": ("segment", "slots"),
    "state": (),
    "decay": ("decays", "half_life"),
    "gated": ("half_life",),
    "delta": ("beta",),
}


def dials_of(variant: str) -> tuple[str, ...]:
    """The two dials that matter most for a kind of memory."""
    return ROWS.get(variant, ROWS["cache"])


def numbers_of(result: Result, found: MemoryFinding, mechanism: Memory) -> dict[str, Any]:
    """What the page's sentences may name."""
    numbers = asdict(found) | mechanism.model_dump() | {"tokens": len(result.arrays["tokens"])}
    del numbers["kind"]
    numbers["kept_said"] = prose(NAME, f"kept_{mechanism.variant}", **numbers)
    nothing = math.isnan(found.agrees)
    numbers["agrees_said"] = prose(NAME, "agrees_nothing" if nothing else "agrees_share", agrees=found.agrees)
    if found.kind == "fades":
        numbers["agrees_said"] = numbers["agrees_said"][:1].upper() + numbers["agrees_said"][1:]
    numbers["verdict_short"] = prose(NAME, f"short_{found.verdict}")
    sinks = "sinks_some" if len(result.arrays.get("sinks", ())) else "sinks_none"
    numbers["sinks_said"] = prose(NAME, sinks)
    return numbers | {"verdict_said": prose(NAME, f"verdict_{found.verdict}", **numbers)}


def hero(page: Page, result: Result, mechanism: Memory, numbers: dict[str, Any]) -> int:
    """The timeline with its steps; gives the place of the segment that is shown among the stops."""
    if "segments" not in result.tables:
        st.info(result.words["refusal"], icon=":material/block:")
        return 0
    arrays, variant = result.arrays, mechanism.variant
    stops, table = arrays["stops"], result.tables["segments"]
    name = "stop_state" if variant in STATES else "stop"
    labels = [prose(NAME, name, number=int(segment) + 1) for segment in stops]
    at = stepper(f"{NAME}.step", labels, theme=page.theme, start=len(labels) - 1, label=_("Segments in reading order"))
    row = table.iloc[at].fillna(0.0).to_dict()
    both_ways = variant in STATES and not page.causal
    chart = timeline_chart(
        arrays["spans"],
        stops,
        arrays["mass"],
        at,
        page.theme,
        variant=variant,
        tokens=arrays["tokens"],
        shares={status: float(row.get(status, 0.0)) for status in STATUSES},
        sinks=arrays["sinks"],
        both_ways=both_ways,
    )
    start, end = int(row["start"]), int(row["stop"]) - 1
    inks = status_colours(page.theme)
    legend(
        page,
        [(inks[status], label, share) for status, label, share in _parts(row, variant)],
        title=prose(NAME, "standing_now", name=labels[at].capitalize(), start=start, end=end),
    )
    some = len(stops) < len(arrays["spans"])
    caption = prose(NAME, "hero_some" if some else "hero", count=len(arrays["spans"]), **numbers)
    figure(
        page,
        "timeline",
        result,
        chart,
        table=table,
        shown=type(mechanism),
        caption=caption,
        alt=f"{labels[at]}: " + ", ".join(f"{label} {share}" for _ink, label, share in _parts(row, variant)),
    )
    st.caption(caption)
    return at


def _parts(row: dict[Any, Any], variant: str) -> list[tuple[str, str, str]]:
    """Status, its name, and its share with and without the sinks, for what this segment's words look at."""
    names = status_names(variant)
    parts = []
    for status in ("current", "cached", "blended", "gone", "later"):
        share, bare = float(row.get(status, 0.0)), float(row.get(f"{status} without sinks", 0.0))
        if share > 0 or bare > 0 or status == "current":
            parts.append((status, names[status], f"{share:.1%} ({bare:.1%})"))
    return parts


def guess(page: Page) -> None:
    """Ask how many of the seven memories beat the plain mean; they run only when somebody has guessed."""
    options = [_("none"), _("some"), _("all")]
    if page.presenting:
        return
    if state.recall(f"{NAME}.guess.standing", None, int) is None:
        predict(page, "standing", options, 0)
        return
    with st.spinner(_("Seven memories read the text …")):
        found = comparison_finding(run(MemoryComparison(source=page.source)).tables["points"])
    right = {"none": 0, "some": 1, "all": 2, "unknown": 0}[found.kind]
    predict(
        page,
        "standing",
        options,
        right,
        said=standing_said(found),
        control=found.control,
        nearest=found.nearest,
        error=found.error,
    )


def standing_said(found: ComparisonFinding) -> str:
    """How many beat the mean, in words that the numbers choose."""
    count = len(found.better) + len(found.others)
    said = prose(NAME, f"standing_{found.kind}", count=count, better=len(found.better), names=", ".join(found.better))
    if found.refused:
        said += " " + prose(NAME, "standing_refused", names=", ".join(found.refused))
    return said
