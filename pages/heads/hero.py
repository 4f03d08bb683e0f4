"""Heads and masks above the fold: the dials of the mask, and a small map of each head of the layer under it."""

from __future__ import annotations

from typing import Any, cast

import streamlit as st

from longattn_core.charts.figures.heads import map_pixels
from longattn_core.charts.style.png import data_uri
from longattn_core.sequences.sources import TextSource, UploadedSource
from longattn_core.studies.base.study import Result
from longattn_core.studies.heads.masks import Masked, MaskFinding, MaskName, Side, mask_finding, source_mask
from longattn_core.studies.heads.sharing import Sharing, likeness
from longattn_core.studies.heads.survey import HeadSurvey, all_heads
from pages.kit import state
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.sections import predict
from pages.kit.text import _, prose

MASKS = {"none": _("none"), "padding": _("padding"), "look_ahead": _("look-ahead (causal)"), "both": _("both")}
SMALL = 96
"""Pixels of a small map: nine of them stand in one row."""
SHARES = (0.05, 0.1, 0.25, 0.4, 0.5, 0.75)


def mask_dials(page: Page) -> dict[str, Any]:
    """The mask, and where there is padding in it, how much and on which side: the fields of a `MaskSetting`."""
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
    return {
        "source": all_heads(page.source),
        "mask": cast("MaskName", mask),
        "side": cast("Side", side),
        "padding": min(max(share, 0.0), 0.9),
    }


def hero(page: Page, settings: dict[str, Any]) -> tuple[Result, MaskFinding]:
    """The small maps in one row, each with its head's name; pressing one makes it the head of the whole laboratory."""
    study = Masked(**settings)
    with st.spinner(_("Reading the layer's heads …")):
        result = run(study)
    found = mask_finding(result)
    heads = [int(head) for head in result.arrays["heads"]]
    chosen, roles = chosen_head(page), known_roles(page)
    with st.container(horizontal=True, gap="xsmall", key="small-maps"):
        for place, head in enumerate(heads):
            with st.container(width=SMALL + 4, gap=None):
                pixels = map_pixels(result.arrays["maps"][place], result.arrays["hidden"], page.theme)
                # Inside the message: as a file each of the maps would be encoded twice, kept and fetched.
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
                st.caption("  \n".join(part for part in (_shared(result, place), roles.get(head, "")) if part))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(prose("heads", "maps", cells=result.arrays["maps"].shape[-1], n=int(result.arrays["n"])))
        figure_menu(
            "heads-under-a-mask",
            result,
            chart=lambda: _printed(page, result),
            table=result.tables["heads"],
            caption=prose("heads", "caption_maps", mask=MASKS[study.mask]),
        )
    return result, found


def _shared(result: Result, place: int) -> str:
    """Which of the layer's keys a head reads, where heads share them."""
    group = int(result.arrays["group"])
    return _("keys {number}").format(number=place // group) if group > 1 else ""


def chosen_head(page: Page) -> int:
    """The number of the head that is chosen on the left."""
    source = page.source
    if isinstance(source, TextSource):
        return source.heads[0]
    return (source.head or 0) if isinstance(source, UploadedSource) else 0


def choose_head(page: Page, head: int, layer: int | None = None) -> None:
    """Make a head the head of every page; a synthetic sequence has but one."""
    source = page.source
    if isinstance(source, TextSource):
        state.put({"head": f"{source.layer if layer is None else layer}.{head}"})
    elif isinstance(source, UploadedSource):
        state.put({"uploadhead": str(head)})


def survey(page: Page) -> HeadSurvey:
    """The survey of all heads on the source's text, whatever its head."""
    return HeadSurvey(source=page.source)


def known_roles(page: Page) -> dict[int, str]:
    """What the heads of this layer are called, as far as they have been measured."""
    known = survey(page).known()
    if known is None:
        return {}
    table = known.tables["heads"]
    layer = page.source.layer if isinstance(page.source, TextSource) else 0
    own = table[table["layer"] == layer]
    return {int(head): str(role) for head, role in zip(own["head"], own["role"], strict=True)}


def _alt(result: Result, place: int, head: int) -> str:
    row = result.tables["heads"].iloc[place]
    return _(
        "Head {head}: sinks take {sinks:.0%} of the weight; without the mask {hidden:.0%} would go to what it hides."
    ).format(head=head, sinks=row["sinks"], hidden=row["hidden"])


def _printed(page: Page, result: Result) -> Any:
    from longattn_core.charts.figures.heads import maps_chart

    heads = [f"H{int(head)}" for head in result.arrays["heads"]]
    return maps_chart(result.arrays["maps"], result.arrays["hidden"], page.theme, heads=heads)


def guess(page: Page) -> None:
    """Do heads that share keys look alike? Asked where there are such heads."""
    result = run(Sharing(source=all_heads(page.source)))
    kind, together, apart = likeness(result.tables["pairs"])
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
