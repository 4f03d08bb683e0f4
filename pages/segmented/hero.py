"""The text with its cuts, each as thick as what it severs; and the guess about where to cut."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import streamlit as st

from longattn_core.charts.figures.segmented import cuts_chart, cuts_strip
from longattn_core.charts.style.altair import specification
from longattn_core.charts.style.colour import blend, hexadecimal
from longattn_core.charts.style.theme import Theme
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.studies.base.study import Result, Setting, sequence_of
from longattn_core.studies.segmented import CutFinding, Cuts, SentenceCuts, cut_finding, place_finding
from pages.kit import state
from pages.kit.components.token_text import TextPicture, token_text
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import exported
from pages.kit.figure_menu import figure_menu
from pages.kit.query_run import StudyRun
from pages.kit.sections import answer, predict
from pages.kit.text import _, escaped, prose, sections
from pages.kit.vega import vega

COUNTED = {"without sinks": _("without sinks"), "attention": _("all attention"), "contribution": _("weight × value")}
COUNTED_IN_WORDS = {
    "without sinks": _("the attention outside the sinks"),
    "attention": _("all the attention"),
    "contribution": _("the weight times the length of the value"),
}
MOST_CUTS = 400
"""With more cuts than this the heaviest are drawn."""


@dataclass(frozen=True, kw_only=True)
class SegmentedRun(StudyRun):
    """One run of the page: the mechanism, what its cuts sever, and what that says."""

    mechanism: Segmented
    finding: CutFinding

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The numbers and words that the page's sentences may name."""
        finding, tokens = self.finding, len(self.result.arrays["tokens"])
        crossing = prose("segmented", f"crossing_{self.mechanism.variant}", overlap=self.mechanism.overlap)
        numbers = asdict(finding) | {"crossing": crossing, "segments": finding.cuts + 1, "tokens": tokens}
        numbers["leaks"] = escaped(self.result.words.get("leaks", ""))
        numbers["sinks_said"] = prose("segmented", "sinks_some" if finding.sinks else "sinks_none")
        del numbers["kind"]
        return numbers | {"verdict_said": prose("segmented", f"verdict_{finding.verdict}", **numbers)}


def segmented_run(page: Page, mechanism: Segmented) -> SegmentedRun:
    """Cut the text, and measure what each cut severs."""
    with st.spinner(_("The model reads the text …")):
        sequence_of(page.source)
    result = run(Cuts(source=page.source, setting=Setting.of(mechanism)))
    return SegmentedRun(mechanism=mechanism, result=result, finding=cut_finding(result))


def counted_choice() -> str:
    """What a bar counts, as it was chosen under the picture."""
    return state.recall("segmented.counted", "without sinks", lambda text: {name: name for name in COUNTED}[text])


def hero(page: Page, segmented: SegmentedRun) -> None:
    """The answer, the text with its cuts, and the choice of what thickness counts."""
    answer(page, segmented.finding.kind, **segmented.numbers)
    result = segmented.result
    if segmented.refused:
        st.info(result.words["refusal"], icon=":material/block:")
        return
    counted = counted_choice()
    cuts, arrays = result.tables["cuts"], result.arrays
    drawn = cuts if len(cuts) <= MOST_CUTS else cuts.nlargest(MOST_CUTS, counted).sort_values("cut")
    bars = {int(row["cut"]): (float(row[counted]), _cut_words(row.to_dict(), counted)) for _index, row in drawn.iterrows()}
    segment = arrays["segment"]
    edges = arrays["boundaries"]
    strip = cuts_strip(cuts, page.theme, n=len(segment), counted=counted, boundaries=edges)
    vega(specification(strip, page.theme), key="cuts strip", words=_alt(result, counted))
    token_text(
        TextPicture(
            tokens=segmented.spaced,
            groups=segment,
            group_colours=_tints(page.theme, len(edges) - 1),
            cuts=bars,
            notes=_notes(result),
        ),
        key="segmented text",
        theme=page.theme,
        height=250,
        alt=_alt(result, counted),
        on_token=_follow,
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(prose(page.name, "hero", **segmented.numbers), width="stretch")
        state.choose(
            "segmented.counted",
            _("A bar counts"),
            list(COUNTED),
            default="without sinks",
            labels=COUNTED.__getitem__,
            style="segments",
        )
    if len(drawn) < len(cuts):
        st.caption(_("Of {all:,} cuts the {some} heaviest are drawn.").format(all=len(cuts), some=len(drawn)))
    chart = cuts_chart(cuts, page.theme, n=len(arrays["tokens"]), counted=counted)
    figure_menu(
        "cuts-in-the-text",
        result,
        chart=lambda: exported(page, chart),
        table=lambda: text_table(result),
        shown=Segmented,
        caption=_("What each cut severs: {counted}. {origin}").format(
            counted=COUNTED_IN_WORDS[counted], origin=result.words["origin"]
        ),
    )


def text_table(result: Result) -> pd.DataFrame:
    """A row a token: its segment, what it loses as a query (of those measured), and what a cut before it severs."""
    arrays, cuts = result.arrays, result.tables["cuts"]
    table = pd.DataFrame({"position": range(len(arrays["tokens"])), "token": arrays["tokens"]})
    table["segment"] = arrays["segment"] + 1
    table["loses"] = pd.Series(arrays["lost"], index=arrays["queries"]).reindex(table.index)
    units = {"position": "token", "loses": "share"}
    for name in (*COUNTED, "never"):
        table[f"cut here: {name}"] = cuts.set_index("cut")[name].reindex(table.index)
        units[f"cut here: {name}"] = "share"
    table["pairs"] = cuts.set_index("cut")["pairs"].reindex(table.index)
    table.attrs["units"] = units
    return table


def _cut_words(row: dict[Any, Any], counted: str) -> str:
    pairs = prose("segmented", "cut_pairs", pairs=row["pairs"]) if row["pairs"] else ""
    return prose(
        "segmented",
        "cut",
        cut=int(row["cut"]),
        counted=COUNTED_IN_WORDS[counted],
        queries=int(row["queries"]),
        share=row[counted],
        pairs=pairs,
    )


def _notes(result: Result) -> list[str]:
    notes = [_("Segment {number}.").format(number=segment + 1) for segment in result.arrays["segment"]]
    note = sections("segmented")["note"]
    for query, lost in zip(result.arrays["queries"].tolist(), result.arrays["lost"].tolist(), strict=True):
        notes[query] += " " + note.format(lost=lost)
    return notes


def _tints(theme: Theme, count: int) -> dict[int, str]:
    """Two quiet tints in turn, so that the cuts stand out and not the segments."""
    steps = blend(theme.background, theme.style("segmented").colour, 13)
    return {i: hexadecimal(steps[1 + i % 2]) for i in range(count)}


def _follow(token: int) -> None:
    state.remember("segmented.query", token, view=True)
    st.session_state.pop("in:segmented.query", None)


def _alt(result: Result, counted: str) -> str:
    cuts = result.tables["cuts"]
    if not len(cuts):
        return _("The text in one segment, without a cut.")
    shares = ", ".join(f"{cut}: {share:.0%}" for cut, share in zip(cuts["cut"][:20], cuts[counted][:20], strict=True))
    return _("The text with cuts; what is lost at each, by the token behind it: {shares}.").format(shares=shares)


def guess(page: Page, segmented: SegmentedRun) -> None:
    """Ask first: sentence ends against the same lengths in any order; without sentences or cuts, against the mean."""
    finding = segmented.finding
    if segmented.refused:
        return
    levels = sequence_of(page.source).levels
    if finding.kind != "uncut" and levels is not None and int(levels.sentence[-1]) > 1:
        _guess_places(page, segmented.mechanism)
        return
    right = {"better": 0, "worse": 1, "even": 1}[finding.verdict]
    predict(page, "mean", [_("yes, nearer"), _("no")], right, error=finding.error, control=finding.control)


def _guess_places(page: Page, mechanism: Segmented) -> None:
    options = [_("less"), _("about the same"), _("more")]
    # Only a guess needs the controls: they are computed when there is one.
    if state.recall("segmented.guess.places", None, int) is None:
        predict(page, "places", options, 0)
        return
    result = run(SentenceCuts(source=page.source, width=mechanism.width))
    finding = place_finding(result)
    if finding.kind == "refused":
        st.caption(result.words["refusal"])
        return
    right = ("less", "alike", "more").index(finding.kind)
    predict(page, "places", options, right, **asdict(finding), said=options[right])
