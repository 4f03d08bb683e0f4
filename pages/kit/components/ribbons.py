"""The ribbons: one word looks back over the text, and each mechanism shows on a ribbon what it sees of it.

All ribbons stand on one axis of tokens. The text below them can be read, pointed at, and clicked to look back from
another word; a click on a ribbon asks why.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import streamlit as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longattn_core.charts.cells import Encoded, RibbonRow, encode
from longattn_core.charts.pictures import RibbonsPicture
from longattn_core.charts.style.scales import Scale, weight_scale
from longattn_core.charts.style.theme import BELOW, FUTURE, NEVER, RIBBON_HEIGHT, Theme
from pages.kit.components.messages import component_source, fingerprint, pack, scale_head, scale_words
from pages.kit.text import _

__all__ = ["RibbonCell", "RibbonRow", "RibbonsResult", "ribbons"]

MOST_TOKENS: Final = 8192
TEXT_HEIGHT: Final = 260
"""Pixels of the text below the ribbons, beyond which it scrolls."""

_HTML: Final = """
<div class="la rb">
  <p class="rb-status"></p>
  <div class="rb-grid" tabindex="0" role="application" aria-describedby="rb-alt"></div>
  <div class="rb-bar la-bar"></div>
  <p class="rb-note"></p>
  <div class="rb-reading"><p class="rb-caption"></p>
    <div class="la-words rb-words" tabindex="0" role="application" dir="auto"></div></div>
  <p class="rb-alt la-sr" id="rb-alt"></p>
  <p class="rb-live la-sr" role="status" aria-live="polite"></p>
</div>
"""

_style, _script = component_source("ribbons")
_mount = st.components.v2.component("longattn_ribbons", html=_HTML, css=_style, js=_script)


class RibbonCell(BaseModel):
    """A click on a ribbon: which mechanism, and which key of the text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mechanism: str = Field(max_length=100)
    key: int = Field(ge=0)


class _Chosen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    token: int = Field(ge=0)
    of: str = Field(max_length=32)
    nth: int


@dataclass(frozen=True, kw_only=True)
class RibbonsResult:
    """What came back from the browser, checked: the query chosen last in this text, a click for one run, the guesses."""

    query: int
    clicked: RibbonCell | None
    guesses: Mapping[str, bool]


def ribbons(
    picture: RibbonsPicture,
    *,
    key: str,
    theme: Theme,
    text: Literal["under", "over", "none"] = "under",
    predict: tuple[str, str] | None = None,
    on_query: Callable[[int], None] | None = None,
    on_clicked: Callable[[RibbonCell], None] | None = None,
) -> RibbonsResult:
    """Draw the ribbons with the text to read, and return what was chosen.

    A hidden row sends the browser nothing but its title; `predict` gives it two buttons ("finds it", "loses it") whose answers
    come back in `guesses`. `on_query` and `on_clicked` run before the script does, so that a page can keep the choice where it
    keeps its state; `result.query` is the picture's query until a word of this text is clicked.

    Cost: two bytes a token and row, and the text.

    Raises:
        ValueError: no token or more than 8,192, a query, mark or row that does not fit them, or a key used twice.
    """
    rows, tokens = picture.rows, tuple(picture.tokens)
    query, marked, causal = picture.query, picture.marked, picture.causal
    _check(rows, tokens, query, marked, text)
    measure = weight_scale()
    shown = [row for row in rows if not row.hidden and not row.refusal and row.weights is not None]
    cells = _encoded(shown, len(tokens), query if causal else None, measure)
    labels = tuple(dict.fromkeys(label for row in rows if not row.hidden for label, _value in row.facts))
    content = fingerprint(tokens)
    hidden = {row.key for row in rows if row.hidden}
    guesses = _guesses(_state(key).get("guesses"), hidden)
    head = {
        "n": len(tokens),
        "tokens": list(tokens),
        "content": content,
        "query": query,
        "marked": marked,
        "causal": causal,
        "scale": scale_head(measure),
        "kinds": _kinds(cells.codes),
        "labels": list(labels),
        "rows": _row_heads(rows, labels, theme),
        "predict": None if predict is None else list(predict),
        "guesses": guesses,
        "text": text,
        "text_height": int(TEXT_HEIGHT * theme.zoom),
        "height": RIBBON_HEIGHT,
        "theme": theme.variables(),
        "words": _words() | scale_words(measure.kind),
        "alt": describe(rows, tokens=tokens, query=query, marked=marked),
    }
    planes = {
        "palette": theme.palette(measure.kind).tobytes(),
        "negatives": theme.negatives.tobytes(),
        "codes": cells.codes.tobytes(),
        "fine": cells.fine.tobytes(),
    }

    def chose() -> None:
        token = checked_query(_state(key).get("query"), content=content, n=len(tokens))
        if token is not None and on_query is not None:
            on_query(token)

    def asked() -> None:
        cell = checked_cell(_state(key).get("clicked"), keys={row.key for row in shown}, n=len(tokens))
        if cell is not None and on_clicked is not None:
            on_clicked(cell)

    result = _mount(
        key=key, data=pack(head, planes), on_query_change=chose, on_clicked_change=asked, on_guesses_change=lambda: None
    )
    chosen = checked_query(result.get("query"), content=content, n=len(tokens))
    return RibbonsResult(
        query=query if chosen is None else chosen,
        clicked=checked_cell(result.get("clicked"), keys={row.key for row in shown}, n=len(tokens)),
        guesses=_guesses(result.get("guesses"), hidden),
    )


def checked_query(sent: Any, *, content: str, n: int) -> int | None:
    """A query as the browser sent it, or None where it is forged or was chosen in another text."""
    try:
        chosen = _Chosen.model_validate(sent)
    except ValidationError:
        return None
    return chosen.token if chosen.of == content and chosen.token < n else None


def checked_cell(sent: Any, *, keys: set[str], n: int) -> RibbonCell | None:
    """A click on a ribbon as the browser sent it, or None where there is no such ribbon or key."""
    try:
        cell = RibbonCell.model_validate(sent)
    except ValidationError:
        return None
    return cell if cell.mechanism in keys and cell.key < n else None


def describe(rows: Sequence[RibbonRow], *, tokens: Sequence[str], query: int, marked: int | None) -> str:
    """The ribbons in words, for those who cannot see them; a hidden row stays hidden."""
    parts = [_("The word {word} looks back.").format(word=_named(query, tokens))]
    for row in rows:
        if row.hidden:
            said = _("not revealed yet")
        elif row.refusal or row.weights is None:
            said = row.refusal or _("nothing to show")
        else:
            said = _described(row.weights, tokens, marked)
        parts.append(f"{row.title}: {said}.".replace("..", "."))
    return " ".join(parts)


def _described(weights: npt.NDArray[np.floating], tokens: Sequence[str], marked: int | None) -> str:
    seen = ~np.isnan(weights)
    if not seen.any():
        return _("looked at nothing")
    best = int(np.nanargmax(weights))
    said = _("most on {word}, {value}").format(word=_named(best, tokens), value=f"{weights[best]:.3g}")
    if marked is None or marked == best:
        return said
    value = f"{weights[marked]:.3g}" if seen[marked] else _("never looked at")
    return said + _("; on {word}: {value}").format(word=_named(marked, tokens), value=value)


def _named(position: int, tokens: Sequence[str]) -> str:
    return f"“{tokens[position].strip()}” ({position})"


def _check(rows: Sequence[RibbonRow], tokens: tuple[str, ...], query: int, marked: int | None, text: str) -> None:
    n = len(tokens)
    if not 1 <= n <= MOST_TOKENS:
        raise ValueError(f"ribbons are drawn for 1 to {MOST_TOKENS} tokens, found {n}")
    if not 0 <= query < n or (marked is not None and not 0 <= marked < n):
        raise ValueError(f"query and marked token must lie in 0 … {n - 1}, found {query} and {marked}")
    if len({row.key for row in rows}) < len(rows):
        raise ValueError(f"each ribbon needs a key of its own, found {[row.key for row in rows]}")
    if text not in ("under", "over", "none"):
        raise ValueError(f"text must be 'under', 'over' or 'none', found {text!r}")
    for row in rows:
        if row.weights is not None and np.shape(row.weights) != (n,):
            raise ValueError(f"ribbon {row.key!r} needs one weight a token, {n}, found {list(np.shape(row.weights))}")


def _encoded(shown: Sequence[RibbonRow], n: int, query: int | None, scale: Scale) -> Encoded:
    weights = np.array([row.weights for row in shown], dtype=np.float64).reshape(len(shown), n)
    future = None if query is None else np.broadcast_to(np.arange(n) > query, weights.shape)
    return encode(weights, scale, future=future)


def _kinds(codes: npt.NDArray[np.uint8]) -> list[str]:
    kinds = [name for name, code in (("never", NEVER), ("future", FUTURE), ("below", BELOW)) if bool((codes == code).any())]
    return [*kinds[:1], "paper", *kinds[1:]] if "never" in kinds else kinds


def _row_heads(rows: Sequence[RibbonRow], labels: tuple[str, ...], theme: Theme) -> list[dict[str, Any]]:
    theme = theme.welcoming((row.key, row.family) for row in rows)
    heads = []
    plane = 0
    for row in rows:
        style = theme.style(row.mechanism, row.family)
        state = "hidden" if row.hidden else "refused" if row.refusal or row.weights is None else "shown"
        facts = {} if row.hidden else dict(row.facts)
        heads.append(
            {
                "key": row.key,
                "title": row.title,
                "colour": style.colour,
                "symbol": style.symbol.path,
                "open": style.symbol.open,
                "state": state,
                "badges": [] if row.hidden else list(row.badges),
                "facts": [facts.get(label, "") for label in labels],
                "refusal": row.refusal if state == "refused" else "",
                "plane": plane if state == "shown" else -1,
            }
        )
        plane += state == "shown"
    return heads


def _state(key: str) -> Mapping[str, Any]:
    state = st.session_state.get(key)
    return state if isinstance(state, Mapping) else {}


def _guesses(sent: Any, hidden: set[str]) -> dict[str, bool]:
    """What was predicted, kept only for rows that are still hidden and only where it is a plain yes or no."""
    if not isinstance(sent, Mapping):
        return {}
    return {key: sent[key] for key in sorted(hidden) if isinstance(sent.get(key), bool)}


def _words() -> dict[str, str]:
    return {
        "role": _("attention ribbons"),
        "label": _(
            "What one query sees of the text, a ribbon for each mechanism. Left and right move the marked token, up and "
            "down the ribbon, Enter asks why, Escape goes back."
        ),
        "text_label": _("The text. Left and right move the marked token, Enter looks back from it."),
        "the_text": _("the text"),
        "axis": _("token position"),
        "place": _("{token} ({at})"),
        "weight_on": _("weight on {token}"),
        "flag_query": _("{place} looks back"),
        "caption": _("The text, tinted by what {query} gives each token in: {title}. Click a word to look back from it."),
        "caption_plain": _("The text. {query} looks back; click another word to look back from it."),
        "hint": _("Point at a token, here or in the text, to read what each mechanism gives it."),
        "say_weight": _("{title} gives {place} a weight of {value}."),
        "say_nothing": _("{title} looked at {place} and found next to nothing ({value})."),
        "say_never": _("{title} never looked at {place}."),
        "say_future": _("{place} comes after {query}: the mask hides it."),
        "chosen": _("{place} looks back now."),
        "note_dots": _("One dot of this screen shows the strongest of up to {count} tokens."),
    }
