"""The ribbons of the home page: one query, one budget, every mechanism; a guess before the reveal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from longattn_core.charts.cells import RibbonRow, pool_cells
from longattn_core.charts.figures.ribbons import ribbons_chart
from longattn_core.charts.pictures import RibbonsPicture
from longattn_core.contracts.mechanism import Mechanism
from longattn_core.studies.base.study import Result, Setting
from longattn_core.studies.side_by_side.compare import Compare
from longattn_core.studies.side_by_side.finding import Finding, finding
from pages.kit import state
from pages.kit.components.ribbons import MOST_TOKENS, RibbonCell, ribbons
from pages.kit.compute import run
from pages.kit.context import Page
from pages.kit.figure_menu import figure_menu
from pages.kit.map_card import explain_pair
from pages.kit.page import compare_unmasked, decimal
from pages.kit.text import _, escaped, prose, quoted
from pages.side_by_side.first_studies import DEFAULT_KEYS

UNMASKED = "unmasked reading: the model never saw this"


def hero(page: Page) -> Result | None:
    """Title, answer, dial, ribbons, reveal. Gives the comparison, for what stands below."""
    head = page.top
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
    found = finding(result)
    revealed = page.presenting or state.recall("revealed", False, lambda text: text == "1")
    with head:
        _answer(page, result, found, keys)
    with dial_row:
        _reveal(revealed, result, found)
    _draw(page, result, revealed)
    if revealed:
        st.markdown(_outcome(result, found))
    if refusals := [label for label in result.tables["mechanisms"]["refusal"] if label]:
        _offer_unmasked(page, len(refusals))
    _explained(page, result)
    figure_menu(
        "ribbons",
        result,
        chart=lambda: ribbons_chart(_picture(page, result, True), page.theme, caption=_caption(result, found)),
        table=lambda: weights_table(result),
        caption=_caption(result, found),
    )
    return result


def _picture(page: Page, result: Result, revealed: bool) -> RibbonsPicture:
    tokens = _tokens(result)
    query, marked = _drawn_places(result, len(tokens))
    return RibbonsPicture(rows=_rows(result, page, revealed), tokens=tokens, query=query, marked=marked, causal=page.causal)


def _drawn_places(result: Result, drawn: int) -> tuple[int, int]:
    """Query and marked key among the drawn cells, which are fewer than the tokens of a very long sequence."""
    n = len(result.arrays["tokens"])
    query, marked = (int(result.arrays[name]) * drawn // n for name in ("query", "marked"))
    return query, marked


def _show_progress(bar: st.delta_generator.DeltaGenerator, share: float, words: str) -> None:
    bar.progress(share, text=_("Every mechanism reads the text: {words}").format(words=words))


def _within(index: int | None, n: int) -> int | None:
    return index if index is not None and 0 <= index < n else None


def _keys(n: int) -> int:
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


def _answer(page: Page, result: Result, found: Finding, keys: int) -> None:
    tokens, query, marked = result.arrays["tokens"], int(result.arrays["query"]), int(result.arrays["marked"])
    section = "question_present" if page.presenting else "question"
    st.title(prose("side_by_side", section, visible=found.visible), anchor=False)
    st.markdown(
        prose(
            "side_by_side",
            f"answer_{found.kind}",
            query=_place(str(tokens[query]), query == len(tokens) - 1),
            marked=quoted(str(tokens[marked])),
            share=found.share,
            distance=_tokens_count(found.distance),
            keys=keys,
        )
    )
    if not page.causal:
        st.caption(prose("side_by_side", "unmasked"))


def _place(token: str, last: bool) -> str:
    return _("The last token, {word},").format(word=quoted(token)) if last else _("The token {word}").format(word=quoted(token))


def _tokens_count(count: int) -> str:
    return _("one token") if count == 1 else _("{count:,} tokens").format(count=count)


def _reveal(revealed: bool, result: Result, found: Finding) -> None:
    if revealed:
        st.button(_("Hide and guess again"), on_click=lambda: state.remember("revealed", None, view=True), key="hide")
    else:
        st.button(_("Reveal"), type="primary", on_click=lambda: state.remember("revealed", "1", view=True), key="reveal")


def _draw(page: Page, result: Result, revealed: bool) -> None:
    picture = _picture(page, result, revealed)
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
        state.remember("guess", "~".join(f"{key}={int(guess)}" for key, guess in drawn.guesses.items()) or None, view=True)


def _look_back_from(token: int) -> None:
    state.remember("query", token)
    state.remember("mark", None)
    st.session_state.pop("_asked", None)


def _ask(cell: RibbonCell, scale: float) -> None:
    st.session_state["_asked"] = (cell.mechanism, int(cell.key * scale))


def _tokens(result: Result) -> list[str]:
    # Only a text's tokens bring their own spaces.
    space = "" if result.study.source.kind == "text" else " "
    tokens = [f"{space}{token}" for token in result.arrays["tokens"]]
    if len(tokens) <= MOST_TOKENS:
        return tokens
    edges = np.arange(MOST_TOKENS) * len(tokens) // MOST_TOKENS
    return [tokens[edge] for edge in edges]


def _rows(result: Result, page: Page, revealed: bool) -> list[RibbonRow]:
    weights = result.arrays["weights"]
    if weights.shape[1] > MOST_TOKENS:
        weights = pool_cells(weights, (len(weights), MOST_TOKENS), "max")
    rows = []
    for index, record in enumerate(result.tables["mechanisms"].to_dict("records")):
        refused = record["refusal"]
        facts = (
            ()
            if refused
            else (
                (_("looked at"), f"{int(record['looked']):,} {_(record['unit'].partition(',')[0])}"),
                (_("overlap"), "–" if pd.isna(record["overlap"]) else decimal(record["overlap"])),
            )
        )
        badges = [] if record["parameters"] == "none" else [record["parameters"]]
        if not page.causal:
            badges.append(UNMASKED)
        rows.append(
            RibbonRow(
                key=row_key(result, index),
                title=record["label"],
                weights=None if refused else weights[index],
                facts=facts,
                badges=tuple(badges),
                refusal=refused,
                hidden=not revealed and record["key"] != "exact",
            )
        )
    return rows


def row_key(result: Result, index: int) -> str:
    """A ribbon's own name: the mechanism's key, with a number where a mechanism stands on several ribbons."""
    keys = list(result.tables["mechanisms"]["key"])
    earlier = keys[:index].count(keys[index])
    return keys[index] if earlier == 0 else f"{keys[index]}:{earlier}"


def _outcome(result: Result, found: Finding) -> str:
    finders = f" ({', '.join(escaped(label) for label in found.found)})" if found.found else ""
    lost = _("none loses it") if not found.lost else _("the others lose it") if found.found else _("all lose it")
    marked = quoted(str(result.arrays["tokens"][int(result.arrays["marked"])]))
    section = "revealed_one" if len(found.found) == 1 else "revealed"
    sentence = prose(
        "side_by_side",
        section,
        found=len(found.found),
        count=len(found.found) + len(found.lost),
        marked=marked,
        finders=finders,
        lost=lost,
    )
    nothing: dict[str, bool] = {}
    guesses = state.recall("guess", nothing, _parse_guesses)
    right, asked = judge(guesses, result, found)
    return sentence if not asked else f"{sentence} {prose('side_by_side', 'guessed', right=right, asked=asked)}"


def _parse_guesses(text: str) -> dict[str, bool]:
    return {key: guess == "1" for key, _sep, guess in (part.partition("=") for part in text.split("~"))}


def judge(guesses: dict[str, bool], result: Result, found: Finding) -> tuple[int, int]:
    """How many guesses were right, of how many that can be judged: `FINDS` is the rule for both."""
    table = result.tables["mechanisms"]
    labels = {row_key(result, index): label for index, label in enumerate(table["label"])}
    judged = {key: guess for key, guess in guesses.items() if labels.get(key) in {*found.found, *found.lost}}
    return sum(guess == (labels[key] in found.found) for key, guess in judged.items()), len(judged)


def _offer_unmasked(page: Page, count: int) -> None:
    if page.causal:
        st.button(
            _("Compare all without a mask"),
            on_click=compare_unmasked,
            key="unmask",
            icon=":material/visibility:",
            help=_("{count} of them cannot read a causal sequence. This takes the mask off for all.").format(count=count),
        )


def _explained(page: Page, result: Result) -> None:
    asked = st.session_state.get("_asked")
    if asked is None:
        return
    key, token = asked
    table = result.tables["mechanisms"]
    rows = [index for index in range(len(table)) if row_key(result, index) == key]
    if rows and token < len(result.arrays["tokens"]):
        mechanism: Mechanism = Setting.model_validate_json(table["setting"].iloc[rows[0]]).build()
        explain_pair(page, mechanism, int(result.arrays["query"]), token, [str(t) for t in result.arrays["tokens"]])


def weights_table(result: Result) -> pd.DataFrame:
    """The ribbons as a table: a row a token, a column a mechanism; empty where a key was never looked at."""
    tokens = result.arrays["tokens"]
    columns = {"position": np.arange(len(tokens)), "token": tokens}
    for index, label in enumerate(result.tables["mechanisms"]["label"]):
        columns[label] = result.arrays["weights"][index]
    table = pd.DataFrame(columns)
    table.attrs["units"] = {"position": "token"} | dict.fromkeys(result.tables["mechanisms"]["label"], "share")
    return table


def _caption(result: Result, found: Finding) -> str:
    tokens, query = result.arrays["tokens"], int(result.arrays["query"])
    return (
        f"Attention of the token “{str(tokens[query]).strip()}” (position {query}) over {found.visible} visible tokens, "
        f"with about {result.study.keys} keys or features a mechanism "  # type: ignore[attr-defined]
        f"(logarithmic colours; grey: never looked at). {result.words['origin']}."
    )
