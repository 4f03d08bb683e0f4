"""Dilution's picture above the fold: what grows, who looks, and where the weight goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from longattn_core.charts.figures.dilution import part_colours, shares_chart, shown_token
from longattn_core.sequences.sources import SyntheticSource, TextSource
from longattn_core.sequences.synthetic import Needle
from longattn_core.studies.base.study import Result, Study
from longattn_core.studies.dilution.finding import Fate, fate, remedied
from longattn_core.studies.dilution.growth import Growth
from longattn_core.studies.dilution.needle import NeedleGrowth
from longattn_core.studies.dilution.planted import CONTRASTS, LENGTHS, FactName, Filler, PlantedGrowth
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure import figure, legend
from pages.kit.input_bar import DEFAULT_SAMPLE
from pages.kit.sections import predict
from pages.kit.sweep_card import sweep_card
from pages.kit.text import _, prose, quoted

Mode = Literal["planted", "needle", "prefix"]

AT_ONCE = 512
"""Tokens of a planted text that are read before the page is drawn; longer ones come while it is looked at."""


@dataclass(frozen=True, kw_only=True)
class Grown:
    """What was shown: how the text grew, the study, its result so far, and one head's rows with what became of them."""

    mode: Mode
    study: Study
    result: Result
    points: pd.DataFrame
    fate: Fate
    what: str
    """The thing that is looked for, in a sentence (Markdown)."""
    names: dict[str, str]
    """What the three parts are called in a picture."""
    head: str
    fact: FactName | None = None
    filler: Filler = "own"
    unfinished: bool = False
    """Whether longer texts are still being read."""

    @property
    def reference(self) -> int:
        """The length at which a remedy that goes with the length changes nothing: the shortest."""
        return int(getattr(self.study, "reference", self.points["n"].min()))


def hero(page: Page) -> Grown:
    """The dials, the picture, and what it found."""
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
    made = {"source": page.source, "fact": fact, "filler": filler, "temperature": temperature()}
    study = PlantedGrowth(**made, longest=longest)
    with st.spinner(_("The language model reads the shortest texts …")):
        known = run(PlantedGrowth(**made, longest=min(AT_ONCE, longest)))
    known = study.known() or known
    source = page.source
    assert isinstance(source, TextSource)
    head = f"L{source.layer} H{source.heads[0]}"
    token = known.words["needle"]
    names = _names(shown_token(token))
    # Every length keeps its place, also beyond the longest: the axis stands still while the dial moves.
    sweep_card(page, study, lambda result: _three(page, result, head, names, list(LENGTHS)))
    points = _of(known, head)
    return Grown(
        mode="planted",
        study=study,
        result=known,
        points=points,
        fate=fate(points),
        names=names,
        head=head,
        fact=fact,
        what=_("the planted word {word}").format(word=quoted(token)),
        filler=cast("Filler", filler),
        unfinished=len(points) < sum(n <= longest for n in LENGTHS),
    )


def _three(page: Page, result: Result, head: str, names: dict[str, str], lengths: list[int]) -> None:
    """The chosen head, and beside it heads that never look for the fact."""
    contrasts = {f"L{layer} H{number}": said for (layer, number), said in zip(CONTRASTS, _contrasts(), strict=True)}
    others = [name for name in contrasts if name != head and not _of(result, name).empty]
    _key(page, names)
    places = st.columns([2.4, *(1 for _name in others)], gap="medium")
    with places[0]:
        _one(page, result, _of(result, head), names, lengths, title=head, name="shares")
    for place, name in zip(places[1:], others, strict=True):
        with place:
            title = f"{name}, {contrasts[name]}"
            _one(page, result, _of(result, name), names, lengths, title=title, name=f"shares-{name}", labels=False)


def _contrasts() -> tuple[str, ...]:
    return _("a diffuse head"), _("a local head")


def _of(result: Result, head: str) -> pd.DataFrame:
    points = result.tables["points"]
    chosen = points[points["head"] == head]
    chosen.attrs.update(points.attrs)
    return chosen


def _needle(page: Page, place: DeltaGenerator) -> Grown:
    with place:
        seeds = state.slide("dilution.draws", _("Draws"), (2, 4, 8, 16, 32, 64), default=16, parse=int)
    study = NeedleGrowth(source=page.source, seeds=min(max(seeds, 2), 64), temperature=temperature())
    with st.spinner(_("Drawing needles …")):
        result = run(study)
    names = _names(_("needle"), rest=_("noise"))
    points = result.tables["points"]
    _key(page, names)
    _one(page, result, points, names, None, title=_("mean of {draws} draws").format(draws=study.seeds), name="shares")
    return Grown(
        mode="needle", study=study, result=result, points=points, fate=fate(points), what=_("the needle"), names=names, head=""
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
    names = _names(_("strongest key"))
    points = result.tables["points"]
    _key(page, names)
    _one(page, result, points, names, None, title=_("as the sequence grows"), name="shares")
    return Grown(
        mode="prefix",
        study=study,
        result=result,
        points=points,
        fate=fate(points),
        what=_("the strongest key"),
        names=names,
        head="",
    )


def temperature() -> float:
    """The fixed temperature that the remedies try: a dial of the Measure view, kept in the state."""
    return min(max(state.recall("dilution.temperature", 0.67, float), 0.1), 2.0)


def _names(needle: str, rest: str = "") -> dict[str, str]:
    return {"needle": needle, "sinks": _("sinks"), "rest": rest or _("all other tokens")}


def _key(page: Page, names: dict[str, str]) -> None:
    """What the three colours are, from the bottom of a bar to its top."""
    inks = part_colours(page.theme)
    legend(page, [(inks[part], f"“{name.strip() or '␣'}”" if part == "needle" else name, "") for part, name in names.items()])


def _one(
    page: Page,
    result: Result,
    points: pd.DataFrame,
    names: dict[str, str],
    lengths: list[int] | None,
    *,
    title: str,
    name: str,
    labels: bool = True,
) -> None:
    alt = "; ".join(
        _("{n:,} tokens: {needle} {a:.0%}, sinks {b:.0%}, rest {c:.0%}").format(
            n=int(row["n"]), needle=names["needle"], a=row["needle"], b=row["sinks"], c=row["rest"]
        )
        for _index, row in points.sort_values("n").iterrows()
    )
    chart: Any = shares_chart(points, page.theme, names=names, lengths=lengths, labels=labels)
    figure(
        page,
        name,
        result,
        chart,
        table=points,
        alt=alt,
        title=title,
        caption=prose("dilution", "caption_shares", needle=names["needle"]),
    )


def guess(page: Page, grown: Grown) -> None:
    """Would a sharper softmax help? Asked before the remedies are shown."""
    if len(grown.points) < 2:
        return
    found = remedied(grown.points)
    sharper = float(grown.points.sort_values("n").iloc[-1]["needle:log_n"])
    kind = "more" if sharper > found.plain + 0.02 else ("less" if sharper < found.plain - 0.02 else "same")
    numbers = {"what": grown.what, "n": found.n, "plain": found.plain, "sharper": sharper, "ref": grown.reference}
    # One name for all outcomes: a guess stands while longer texts are still being read.
    predict(
        page,
        "remedy",
        [_("more weight"), _("less weight"), _("about the same")],
        ["more", "less", "same"].index(kind),
        said=prose("dilution", f"sharper_{kind}", **numbers),
        **numbers,
    )
