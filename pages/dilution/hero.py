"""Dilution's picture above the fold: what grows, which tokens look back, and where their weight goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from longattn_core.charts.figures.dilution import shown_token
from longattn_core.sequences.sources import SyntheticSource, TextSource
from longattn_core.sequences.synthetic import Needle
from longattn_core.studies.base.study import Result, Study
from longattn_core.studies.dilution.finding import DilutionFinding, dilution_finding, remedy_finding
from longattn_core.studies.dilution.growth import Growth
from longattn_core.studies.dilution.needle import NeedleGrowth
from longattn_core.studies.dilution.planted import LENGTHS, PlantedGrowth
from longattn_core.studies.dilution.planted_text import FactName, Filler
from pages.dilution.shares import part_names, parts_legend, points_of, shares_of_heads, shares_picture
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.input_bar import DEFAULT_SAMPLE
from pages.kit.sections import answer, predict
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose, quoted

Mode = Literal["planted", "needle", "prefix"]

AT_ONCE = 512
"""Tokens up to which planted texts are read before the page is drawn; longer ones are read while it is shown."""
LONG = 4096
"""From this length on a loss may be the model's own weakness: it was trained on texts of at most 8,192 tokens."""


@dataclass(frozen=True, kw_only=True)
class Grown:
    """One run of the page: how the text grew, the study with its result so far, one head's rows, and what they say."""

    mode: Mode
    study: Study
    result: Result
    points: pd.DataFrame
    finding: DilutionFinding
    what: str
    """The needle as a sentence names it (Markdown)."""
    names: dict[str, str]
    """The three parts' names in a picture."""
    head: str
    fact: FactName | None = None
    filler: Filler = "own"
    unfinished: bool = False
    """Whether longer texts are still being read."""

    @property
    def reference(self) -> int:
        """The length at which a remedy that depends on the length changes nothing: the shortest."""
        return int(getattr(self.study, "reference", self.points["n"].min()))


def numbers_of(grown: Grown) -> dict[str, Any]:
    """The numbers that the page's sentences may name."""
    finding = grown.finding
    return {
        "what": grown.what,
        "best": finding.best,
        "best_n": finding.best_n,
        "last": finding.last,
        "last_n": finding.last_n,
        "sinks": finding.sinks,
        "rest": finding.rest,
        "to_sinks": finding.to_sinks,
        "effective": finding.effective,
        "first": float(grown.points.sort_values("n")["needle"].iloc[0]),
        "first_n": int(grown.points["n"].min()),
    }


def hero(page: Page) -> Grown:
    """The dials, the bars of the three shares, and the answer with its caveats."""
    grown = _grown(page)
    answer(page, grown.finding.kind, **numbers_of(grown))
    if grown.unfinished:
        with page.top:
            st.caption(prose("dilution", "reading_on"))
    if grown.mode == "planted" and grown.finding.last_n >= LONG and grown.finding.kind in ("sinks", "crowd", "both"):
        with page.top:
            st.caption(prose("dilution", "weakness"))
    return grown


def _grown(page: Page) -> Grown:
    """Draw what the source lets grow: a needle in noise, a text around a planted fact, or the sequence prefix by prefix."""
    with page.dials:
        places = st.columns(3, vertical_alignment="bottom")
    source = page.source
    if isinstance(source, SyntheticSource) and isinstance(source.settings, Needle):
        return _needle(page, places[0])
    if isinstance(source, TextSource):
        with places[0]:
            chosen = _what_grows(source)
        if chosen is not None:
            return _planted(page, chosen, places[1:])
        return _prefix(page, places[1])
    return _prefix(page, places[0])


def _what_grows(source: TextSource) -> FactName | None:
    """The planted fact around which a text grows; None for the visitor's own text, prefix by prefix."""
    names = {
        "clock": _("a text around a planted fact: the clock"),
        "violin": _("a text around a planted fact: the violin"),
        "text": _("the text on the left, from its beginning"),
    }
    own = source.text is not None or source.sha256 is not None
    default = "text" if own or source.sample not in (None, DEFAULT_SAMPLE) else "clock"
    chosen = state.choose(
        "dilution.grows",
        _("What grows"),
        list(names),
        default=default,
        labels=names.__getitem__,
        help=_("A fact in the first paragraph, then more and more other text, then the question; or simply your text."),
    )
    return None if chosen == "text" else cast("FactName", chosen)


def _planted(page: Page, fact: FactName, places: Sequence[DeltaGenerator]) -> Grown:
    fillers = {"own": _("the story's own paragraphs, again and again"), "others": _("other texts, one after the other")}
    with places[0]:
        filler = state.choose("dilution.filler", _("Filler"), list(fillers), default="own", labels=fillers.__getitem__)
    with places[1]:
        longest = state.slide(
            "dilution.longest",
            _("Longest text n"),
            LENGTHS,
            default=4096,
            parse=int,
            shown=lambda n: f"{n:,}",
            help=_("The model reads every length anew: 4,096 tokens take about ten seconds, 8,192 half a minute."),
        )
    # A link may name a length that is no step of the slider.
    longest = max((n for n in LENGTHS if n <= longest), default=LENGTHS[0])
    study = PlantedGrowth(
        source=page.source, fact=fact, filler=cast("Filler", filler), temperature=temperature(), longest=longest
    )
    with st.spinner(_("The language model reads the shortest texts …")):
        shortest = run(study.model_copy(update={"longest": min(AT_ONCE, longest)}))
    known = study.known() or shortest
    head = f"L{study.text.layer} H{study.text.heads[0]}"
    token = known.words["needle"]
    names = part_names(shown_token(token))
    # Every length keeps its place, also beyond the longest: the axis stands still while the dial moves.
    sweep_card(page, study, lambda result: shares_of_heads(page, result, head, names, list(LENGTHS)))
    points = points_of(known, head)
    return Grown(
        mode="planted",
        study=study,
        result=known,
        points=points,
        finding=dilution_finding(points),
        names=names,
        head=head,
        fact=fact,
        what=_("the planted word {word}").format(word=quoted(token)),
        filler=study.filler,
        unfinished=len(points) < sum(n <= longest for n in LENGTHS),
    )


def _needle(page: Page, place: DeltaGenerator) -> Grown:
    with place:
        seeds = state.slide("dilution.draws", _("Draws"), (2, 4, 8, 16, 32, 64), default=16, parse=int)
    study = NeedleGrowth(source=page.source, seeds=min(max(seeds, 2), 64), temperature=temperature())
    with st.spinner(_("Drawing needles …")):
        result = run(study)
    names = part_names(_("needle"), rest=_("noise"))
    points = result.tables["points"]
    parts_legend(page, names)
    shares_picture(page, result, points, names, None, title=_("mean of {draws} draws").format(draws=study.seeds), name="shares")
    return Grown(
        mode="needle",
        study=study,
        result=result,
        points=points,
        finding=dilution_finding(points),
        what=_("the needle"),
        names=names,
        head="",
    )


def _prefix(page: Page, place: DeltaGenerator) -> Grown:
    options = (1, 8, 32, 128)
    with place:
        queries = state.slide(
            "dilution.queries",
            _("Last tokens averaged"),
            options,
            default=32,
            parse=int,
            help=_("Each looks for its own strongest key. One alone says what that token wants; many say what the head does."),
        )
    study = Growth(source=page.source, queries=min(max(queries, 1), 256), temperature=temperature())
    with st.spinner(_("Reading the sequence …")):
        result = run(study)
    names = part_names(_("strongest key"))
    points = result.tables["points"]
    parts_legend(page, names)
    shares_picture(page, result, points, names, None, title=_("as the sequence grows"), name="shares")
    return Grown(
        mode="prefix",
        study=study,
        result=result,
        points=points,
        finding=dilution_finding(points),
        what=_("the strongest key"),
        names=names,
        head="",
    )


def temperature() -> float:
    """The fixed temperature that the remedies try: a dial of the Measure view, kept in the state."""
    return min(max(state.recall("dilution.temperature", 0.67, float), 0.1), 2.0)


def guess(page: Page, grown: Grown) -> None:
    """Would a sharper softmax help? Asked before the remedies are shown."""
    if len(grown.points) < 2:
        return
    finding = remedy_finding(grown.points)
    sharper = float(grown.points.sort_values("n").iloc[-1]["needle:log_n"])
    kind = "more" if sharper > finding.plain + 0.02 else ("less" if sharper < finding.plain - 0.02 else "same")
    numbers = {"what": grown.what, "n": finding.n, "plain": finding.plain, "sharper": sharper, "ref": grown.reference}
    # One name for all outcomes: a guess stands while longer texts are still being read.
    predict(
        page,
        "remedy",
        [_("more weight"), _("less weight"), _("about the same")],
        ["more", "less", "same"].index(kind),
        said=prose("dilution", f"sharper_{kind}", **numbers),
        **numbers,
    )
