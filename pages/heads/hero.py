"""Heads and masks above the fold: the dials of the mask, and a small map of each head of the layer under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import streamlit as st

from longattn_core.charts.figures.heads import map_pixels, maps_chart
from longattn_core.charts.style.png import data_uri
from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.study import Result
from longattn_core.studies.heads.finding import MaskFinding, likeness_finding, mask_finding
from longattn_core.studies.heads.masked import Masked
from longattn_core.studies.heads.masks import MaskName, Side, source_mask
from longattn_core.studies.heads.sharing import Sharing
from longattn_core.studies.heads.survey import all_heads
from pages.heads.chosen_head import choose_head, chosen_head
from pages.heads.survey import known_roles
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.sections import answer, predict
from pages.kit.text import _, ngettext, prose

MASKS = {"none": _("none"), "padding": _("padding"), "look_ahead": _("look-ahead (causal)"), "both": _("both")}
SMALL = 96
"""Pixels of a small map: nine of them stand in one row."""
SHARES = (0.05, 0.1, 0.25, 0.4, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True)
class MaskRun:
    """One run of the page: the layer's heads under the chosen mask, and what the mask takes from them."""

    study: Masked
    result: Result
    finding: MaskFinding

    @property
    def n(self) -> int:
        """The tokens of the sequence."""
        return int(self.result.arrays["n"])


def mask_run(page: Page) -> MaskRun:
    """Draw the dials of the mask, and run the layer's heads under it."""
    study = _mask_dials(page)
    with st.spinner(_("Reading the layer's heads …")):
        result = run(study)
    return MaskRun(study=study, result=result, finding=mask_finding(result))


def numbers_of(masked: MaskRun) -> dict[str, Any]:
    """The numbers that the page's sentences may name."""
    finding, source = masked.finding, masked.study.source
    count = len(masked.result.arrays["heads"])
    layer = f" of layer {source.layer}" if isinstance(source, TextSource) else ""
    return {
        "mask": MASKS[masked.study.mask],
        "pairs": finding.pairs,
        "hidden": finding.hidden,
        "head": finding.head,
        "head_hidden": finding.head_hidden,
        "sinks": finding.sinks,
        "sinks_unmasked": finding.sinks_unmasked,
        "n": masked.n,
        "heads": ngettext("one head", "{count} heads", count).format(count=count) + layer,
    }


def _mask_dials(page: Page) -> Masked:
    """The dials of the mask: which one, and where it has padding, how much and on which side."""
    with page.dials:
        places = st.columns([2.2, 1, 1], vertical_alignment="bottom")
    with places[0]:
        mask = state.choose(
            "heads.mask",
            _("Mask"),
            list(MASKS),
            default=source_mask(page.source),
            labels=MASKS.__getitem__,
            style="segments",
            help=_("Which keys a query may look at. Padding: some of the text's own tokens are treated as filling."),
        )
    side, share = "end", 0.25
    if mask in ("padding", "both"):
        sides = {"end": _("at the end"), "start": _("at the start")}
        with places[1]:
            side = state.choose(
                "heads.side", _("Padding stands"), list(sides), default="end", labels=sides.__getitem__, style="segments"
            )
        with places[2]:
            share = state.slide(
                "heads.padding",
                _("Padding, share of the text"),
                SHARES,
                default=0.25,
                parse=float,
                shown=lambda value: f"{value:.0%}",
            )
    return Masked(
        source=all_heads(page.source), mask=cast("MaskName", mask), side=cast("Side", side), padding=min(max(share, 0.0), 0.9)
    )


def hero(page: Page, masked: MaskRun) -> None:
    """The answer, and the small maps in one row, each with its head's name; pressing one makes it the head of every page."""
    result = masked.result
    heads = [int(head) for head in result.arrays["heads"]]
    chosen, roles = chosen_head(page), known_roles(page)
    with st.container(horizontal=True, gap="xsmall", key="small-maps"):
        for place, head in enumerate(heads):
            with st.container(width=SMALL + 4, gap=None):
                pixels = map_pixels(result.arrays["maps"][place], result.arrays["hidden"], page.theme)
                # As a data URI in the message: as a file, each map would be encoded twice, kept and fetched.
                st.image(data_uri(pixels), width=SMALL, alt=_alt(result, place, head))
                st.button(
                    f"H{head}",
                    key=f"small map {head}",
                    type="primary" if head == chosen else "secondary",
                    width="stretch",
                    on_click=choose_head,
                    args=(page, head),
                    help=_("Make it the head of every page"),
                )
                st.caption("  \n".join(part for part in (_shared_keys(result, place), roles.get(head, "")) if part))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(prose("heads", "maps", cells=result.arrays["maps"].shape[-1], n=masked.n))
        figure_menu(
            "heads-under-a-mask",
            result,
            chart=lambda: _printed(page, result),
            table=result.tables["heads"],
            caption=prose("heads", "caption_maps", mask=MASKS[masked.study.mask]),
        )
    answer(page, masked.finding.kind, **numbers_of(masked))
    if page.source.kind == "text" and masked.study.mask in ("none", "padding"):
        with page.top:
            st.caption(prose("heads", "unmasked_reading"))


def _shared_keys(result: Result, place: int) -> str:
    """Which of the layer's keys a head reads, where heads share them."""
    group = int(result.arrays["group"])
    return _("keys {number}").format(number=place // group) if group > 1 else ""


def _alt(result: Result, place: int, head: int) -> str:
    row = result.tables["heads"].iloc[place]
    return _(
        "Head {head}: sinks take {sinks:.0%} of the weight; without the mask {hidden:.0%} would go to what it hides."
    ).format(head=head, sinks=row["sinks"], hidden=row["hidden"])


def _printed(page: Page, result: Result) -> Any:
    heads = [f"H{int(head)}" for head in result.arrays["heads"]]
    return maps_chart(result.arrays["maps"], result.arrays["hidden"], page.theme, heads=heads)


def guess(page: Page) -> None:
    """Do heads that share keys look alike? Asked where there are such heads."""
    result = run(Sharing(source=all_heads(page.source)))
    kind, together, apart = likeness_finding(result.tables["pairs"])
    if kind != "one":
        predict(
            page,
            f"likeness_{kind}",
            [_("yes, clearly"), _("no more than others do")],
            0 if kind == "more" else 1,
            group=int(result.arrays["group"]),
            together=together,
            apart=apart,
        )
