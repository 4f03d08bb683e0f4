"""The home page above the fold: one query, one budget, a ribbon a mechanism; a guess before the reveal."""

from __future__ import annotations

import streamlit as st

from longattn_core.charts.figures.ribbons import ribbons_chart
from longattn_core.contracts.mechanism import Mechanism
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.side_by_side.compare import Compare
from longattn_core.studies.side_by_side.finding import ComparisonFinding, comparison_finding
from pages.kit import state
from pages.kit.components.ribbons import RibbonCell, ribbons
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.map_card import explain_pair
from pages.kit.page import compare_unmasked
from pages.kit.text import _, prose, quoted, token_count
from pages.side_by_side.first_studies import DEFAULT_KEYS
from pages.side_by_side.reveal import is_revealed, outcome, remember_guesses, reveal_button
from pages.side_by_side.ribbons import ribbons_caption, ribbons_picture, row_key, weights_table


def hero(page: Page) -> Result:
    """Title, answer, dial, ribbons, reveal. Gives the comparison, for what stands below."""
    dial_row = page.dials.container(horizontal=True, vertical_alignment="bottom", key="hero-dials")
    n = page.tokens
    with dial_row:
        keys = _keys(n)
    query = state.recall("query", None, int)
    marked = state.recall("mark", None, int)
    study = Compare(source=page.source, keys=keys, query=_within(query, n), marked=_within(marked, n))
    bar = st.empty()
    result = run(study, lambda share, words: _show_progress(bar, share, words))
    bar.empty()
    st.sidebar.caption(result.words["origin"])
    finding, revealed = comparison_finding(result), is_revealed(page)
    with page.top:
        _answer(page, result, finding, keys)
    with dial_row:
        reveal_button(revealed)
    _draw(page, result, revealed)
    if revealed:
        st.markdown(outcome(result, finding))
    if refusals := [label for label in result.tables["mechanisms"]["refusal"] if label]:
        _offer_unmasked(page, len(refusals))
    _explained(page, result)
    figure_menu(
        "ribbons",
        result,
        chart=lambda: ribbons_chart(ribbons_picture(page, result, True), page.theme, caption=ribbons_caption(result, finding)),
        table=lambda: weights_table(result),
        caption=ribbons_caption(result, finding),
    )
    return result


def _show_progress(bar: st.delta_generator.DeltaGenerator, share: float, words: str) -> None:
    bar.progress(share, text=_("Every mechanism reads the text: {words}").format(words=words))


def _within(index: int | None, n: int) -> int | None:
    return index if index is not None and 0 <= index < n else None


def _keys(n: int) -> int:
    """The dial of the budget; without one where the text has a single token."""
    steps = [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192) if k < n] + [n]
    default = DEFAULT_KEYS if n > DEFAULT_KEYS else n
    if len(steps) == 1:
        return n
    return state.slide(
        "keys",
        _("Keys or features per query"),
        steps,
        default=default,
        parse=int,
        shown=lambda value: f"{value:,}",
        help=_("About how many keys a mechanism may look at for one query; the real count stands beside each ribbon."),
    )


def _answer(page: Page, result: Result, finding: ComparisonFinding, keys: int) -> None:
    """The title, and what exact attention does with the query."""
    tokens, query, marked = result.arrays["tokens"], int(result.arrays["query"]), int(result.arrays["marked"])
    section = "question_present" if page.presenting else "question"
    st.title(prose("side_by_side", section, visible=finding.visible), anchor=False)
    st.markdown(
        prose(
            "side_by_side",
            f"answer_{finding.kind}",
            query=_place(str(tokens[query]), query == len(tokens) - 1),
            marked=quoted(str(tokens[marked])),
            share=finding.share,
            distance=token_count(finding.distance),
            keys=keys,
        )
    )
    if not page.causal:
        st.caption(prose("side_by_side", "unmasked"))


def _place(token: str, last: bool) -> str:
    return _("The last token, {word},").format(word=quoted(token)) if last else _("The token {word}").format(word=quoted(token))


def _draw(page: Page, result: Result, revealed: bool) -> None:
    """The ribbons. A click on a token makes it the query; a click on a ribbon's cell asks for the pair's explanation."""
    picture = ribbons_picture(page, result, revealed)
    scale = len(result.arrays["tokens"]) / len(picture.tokens)
    drawn = ribbons(
        picture,
        key="ribbons",
        theme=page.theme,
        text="none" if page.presenting else "under",
        predict=None if revealed else (_("finds it"), _("loses it")),
        on_query=lambda token: _look_back_from(int(token * scale)),
        on_clicked=lambda cell: _ask(cell, scale),
    )
    if not revealed:
        remember_guesses(drawn.guesses)


def _look_back_from(token: int) -> None:
    state.remember("query", token)
    state.remember("mark", None)
    st.session_state.pop("_asked", None)


def _ask(cell: RibbonCell, scale: float) -> None:
    st.session_state["_asked"] = (cell.mechanism, int(cell.key * scale))


def _offer_unmasked(page: Page, count: int) -> None:
    """The button that takes the mask off, where some mechanisms cannot read a causal sequence."""
    if page.causal:
        st.button(
            _("Compare all without a mask"),
            on_click=compare_unmasked,
            key="unmask",
            icon=":material/visibility:",
            help=_("{count} of them cannot read a causal sequence. This takes the mask off for all.").format(count=count),
        )


def _explained(page: Page, result: Result) -> None:
    """The explanation of the cell that was clicked."""
    cell = st.session_state.get("_asked")
    if cell is None:
        return
    key, token = cell
    table = result.tables["mechanisms"]
    rows = [index for index in range(len(table)) if row_key(result, index) == key]
    if rows and token < len(result.arrays["tokens"]):
        mechanism: Mechanism = Setting.model_validate_json(table["setting"].iloc[rows[0]]).build()
        explain_pair(page, mechanism, int(result.arrays["query"]), token, [str(name) for name in result.arrays["tokens"]])
