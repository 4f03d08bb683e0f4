"""The strips: a text's keys in the text's order and sorted by bucket, one below the other, one pair followed through all.

Every strip holds the same tokens in the colours of their buckets, so that a colour can be followed with the eye; lines join
the places of the query and of one key. Pointing at a token moves the key's line; a click keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import streamlit as st

from longattn_core.charts.pictures import StripsPicture
from longattn_core.charts.style.group_colours import group_colours
from longattn_core.charts.style.theme import Theme
from pages.kit.components.messages import component_source, fingerprint, pack
from pages.kit.components.token_text import checked_token
from pages.kit.text import _

MOST_TOKENS: Final = 8192

_HTML: Final = """
<div class="la sr">
  <p class="sr-status"></p>
  <div class="sr-stage" tabindex="0" role="application" aria-describedby="sr-alt"><canvas></canvas>
    <div class="sr-names"></div></div>
  <div class="sr-keys"></div>
  <p class="sr-note"></p>
  <p class="sr-alt la-sr" id="sr-alt"></p>
  <p class="sr-live la-sr" role="status" aria-live="polite"></p>
</div>
"""

_style, _script = component_source("strips")
_mount = st.components.v2.component("longattn_strips", html=_HTML, css=_style, js=_script)


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One strip: its name, a hint beside it, and what it lights up.

    `sorted` puts the keys in the order of their buckets; `lit` is "" for all of them, "stretch" for what the query looks at in
    this round, "found" for what it has found; `chunk` draws a cut after so many tokens (0: none).
    """

    name: str
    hint: str = ""
    sorted: bool = False
    lit: Literal["", "stretch", "found"] = ""
    chunk: int = 0


def strips(
    shown: Sequence[Strip],
    picture: StripsPicture,
    *,
    key: str,
    theme: Theme,
    gap: int = 22,
    alt: str = "",
    on_token: Callable[[int], None] | None = None,
) -> int | None:
    """Draw the strips `shown` of a picture and return the token that was clicked, for one run.

    Cost: thirteen bytes a token, and the text.

    Raises:
        ValueError: no strip, no token or more than 8,192, or arrays and places that do not fit them.
    """
    n = len(picture.tokens)
    _check(shown, picture)
    content = fingerprint(tuple(picture.tokens))
    present = sorted({int(b) for b in np.unique(picture.buckets) if b >= 0})
    head = {
        "n": n,
        "tokens": list(picture.tokens),
        "content": content,
        "query": picture.query,
        "marked": picture.marked,
        "query_bucket": picture.query_bucket,
        "place": picture.place,
        "stretches": np.asarray(picture.stretches).tolist(),
        "causal": picture.causal,
        "gap": gap,
        "strips": [
            {"name": one.name, "hint": one.hint, "sorted": one.sorted, "lit": one.lit, "chunk": one.chunk} for one in shown
        ],
        "inks": {str(bucket): ink for bucket, ink in group_colours(present, theme).items()},
        "legend": _legend(shown),
        "theme": theme.variables(),
        "words": _words(),
        "alt": alt,
    }
    planes = {
        "buckets": np.asarray(picture.buckets).astype("<i4").tobytes(),
        "order": np.asarray(picture.order).astype("<i4").tobytes(),
        "found": np.asarray(picture.found).astype(np.uint8).tobytes(),
        "exact": np.asarray(picture.exact).astype("<f4").tobytes(),
    }

    def clicked() -> None:
        sent: object = st.session_state.get(key)
        token = checked_token(sent.get("token") if isinstance(sent, Mapping) else None, content=content, n=n)
        if token is not None and on_token is not None:
            on_token(token)

    result = _mount(key=key, data=pack(head, planes), on_token_change=clicked)
    return checked_token(result.get("token"), content=content, n=n)


def _check(shown: Sequence[Strip], picture: StripsPicture) -> None:
    n, query, marked = len(picture.tokens), picture.query, picture.marked
    if not shown:
        raise ValueError("strips need at least one strip, found none")
    if not 1 <= n <= MOST_TOKENS:
        raise ValueError(f"strips are drawn for 1 to {MOST_TOKENS} tokens, found {n}")
    for name in ("buckets", "order", "found", "exact"):
        given = getattr(picture, name)
        if np.shape(given) != (n,):
            raise ValueError(f"{name} must have one entry a token, [{n}], found {list(np.shape(given))}")
    if not np.array_equal(np.sort(picture.order), np.arange(n)):
        raise ValueError("order must name every token once")
    if not 0 <= query < n or not 0 <= marked < n:
        raise ValueError(f"query and key must lie in 0 … {n - 1}, found {query} and {marked}")


def _legend(shown: Sequence[Strip]) -> list[list[str]]:
    """Swatches for the lines, and for what lights up where it does."""
    keys = [["of-query", _("the query")], ["of-key", _("the key")]]
    if any(one.lit == "found" for one in shown):
        keys += [
            ["lost", _("not found in this round")],
            ["here", _("found in this round")],
            ["else", _("found in another round, or always visible")],
            ["never", _("never looked at")],
        ]
    return keys


def _words() -> dict[str, str]:
    return {
        "label": _("The keys of the text in several orders. Left and right move the key, Enter keeps it, Escape goes back."),
        "hint": _("Point at a token to follow its key through the strips; click to keep it."),
        "place": _("{token} ({at})"),
        "sentence": _(
            "The key of {key} is in bucket {bucket}, {rank} of {n} after the sort; the query {query} is in bucket {mine}: "
            "{outcome}. Exact weight {weight}."
        ),
        "here": _("it is looked at in this round"),
        "elsewhere": _("not looked at in this round, but in another"),
        "always": _("no round looks at it, but the window or the first tokens show it"),
        "never": _("no round looks at it"),
        "future": _("it lies in the future, which the mask hides"),
        "note_dots": _("One dot of this screen shows up to {count} tokens."),
    }
