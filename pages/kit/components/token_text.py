"""The text as a picture: tokens coloured by bucket, segment, path or weight, wrapping as text does, cuts as bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import streamlit as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longattn_core.charts.cells import encode
from longattn_core.charts.style.group_colours import group_colours as colours_of
from longattn_core.charts.style.scales import weight_scale
from longattn_core.charts.style.theme import BELOW, FUTURE, NEVER, Theme
from pages.kit.components.messages import component_source, fingerprint, pack, scale_head, scale_words
from pages.kit.text import _

MOST_TOKENS: Final = 8192
MOST_LEGEND: Final = 40
"""Groups that are named above the text; with more, a group is named where it is pointed at."""

_HTML: Final = """
<div class="la tt">
  <div class="tt-legend"></div>
  <p class="tt-status"></p>
  <div class="la-words tt-words" tabindex="0" role="application" dir="auto" aria-describedby="tt-alt"></div>
  <div class="tt-bar la-bar"></div>
  <p class="tt-note"></p>
  <p class="tt-alt la-sr" id="tt-alt"></p>
  <p class="tt-live la-sr" role="status" aria-live="polite"></p>
</div>
"""

_style, _script = component_source("token_text")
_mount = st.components.v2.component("longattn_token_text", html=_HTML, css=_style, js=_script)


class _Clicked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    token: int = Field(ge=0)
    of: str = Field(max_length=32)


@dataclass(frozen=True, kw_only=True)
class TextPicture:
    """A text of `n` tokens, and what is shown of each.

    `groups` `[n]` colours each token by its group's number (−1: none); `group_names` names the groups above the text and where
    a token is pointed at. `weights` `[n]` tints on the weights' scale instead; NaN is "never looked at". `cuts` puts a bar
    before a token, its thickness a share 0 … 1, with a sentence. `notes` adds a sentence a token where it is pointed at.
    `selected` frames the query; the weights after `causal_from` are drawn as the future.
    """

    tokens: Sequence[str]
    groups: npt.ArrayLike | None = None
    group_names: Mapping[int, str] = field(default_factory=dict)
    group_colours: Mapping[int, str] = field(default_factory=dict)
    weights: npt.ArrayLike | None = None
    cuts: Mapping[int, tuple[float, str]] = field(default_factory=dict)
    notes: Sequence[str] | None = None
    selected: int | None = None
    causal_from: int | None = None


def token_text(
    picture: TextPicture,
    *,
    key: str,
    theme: Theme,
    link: str = "maps",
    height: int = 320,
    caption: str = "",
    alt: str = "",
    on_token: Callable[[int], None] | None = None,
) -> int | None:
    """Draw the tokens as running text and return the one that was clicked, for one run.

    Pressing the name of a group dims all others. Texts and maps of one `link` share what is pointed at. `on_token` runs before
    the script does.

    More than 8,192 tokens are not drawn, and a sentence says so. Cost: the text, and six bytes a token.

    Raises:
        ValueError: no token; groups, weights, notes, cuts or places that do not fit them.
    """
    tokens = tuple(picture.tokens)
    n = len(tokens)
    group, weight = _checked(picture)
    if n > MOST_TOKENS:
        st.caption(_("A text of more than {most:,} tokens is not drawn word by word.").format(most=MOST_TOKENS))
        return None
    names = picture.group_names
    present = [] if group is None else [int(g) for g in np.unique(group) if g >= 0]
    inks = colours_of(present, theme) | dict(picture.group_colours)
    measure = weight_scale()
    content = fingerprint(tokens)
    planes = {"palette": theme.palette(measure.kind).tobytes(), "negatives": theme.negatives.tobytes()}
    kinds: list[str] = []
    if group is not None:
        planes["groups"] = group.astype("<i4").tobytes()
    if weight is not None:
        future = None if picture.causal_from is None else (np.arange(n) > picture.causal_from)[None]
        cells = encode(weight[None], measure, future=future)
        planes |= {"codes": cells.codes.tobytes(), "fine": cells.fine.tobytes()}
        kinds = [k for k, code in (("never", NEVER), ("future", FUTURE), ("below", BELOW)) if (cells.codes == code).any()]
    named = [g for g in present if g in names]
    head = {
        "tokens": list(tokens),
        "content": content,
        "names": {str(g): names[g] for g in named},
        "inks": {str(g): [inks[g], theme.ink_on(inks[g])] for g in present},
        "legend": [[g, names[g], inks[g]] for g in named] if len(named) <= MOST_LEGEND else [],
        "cuts": [[int(at), float(min(max(share, 0.0), 1.0)), said] for at, (share, said) in sorted(picture.cuts.items())],
        "notes": None if picture.notes is None else list(picture.notes),
        "selected": picture.selected,
        "future": picture.causal_from,
        "link": link,
        "height": int(height * theme.zoom),
        "scale": scale_head(measure),
        "kinds": kinds,
        "caption": caption,
        "theme": theme.variables(),
        "words": _words() | scale_words(measure.kind),
        "alt": alt or caption,
    }

    def clicked() -> None:
        sent: object = st.session_state.get(key)
        token = checked_token(sent.get("token") if isinstance(sent, Mapping) else None, content=content, n=n)
        if token is not None and on_token is not None:
            on_token(token)

    result = _mount(key=key, data=pack(head, planes), on_token_change=clicked)
    return checked_token(result.get("token"), content=content, n=n)


def checked_token(sent: Any, *, content: str, n: int) -> int | None:
    """A click as the browser sent it, or None where it is forged or was made in another text."""
    try:
        chosen = _Clicked.model_validate(sent)
    except ValidationError:
        return None
    return chosen.token if chosen.of == content and chosen.token < n else None


def _checked(picture: TextPicture) -> tuple[npt.NDArray[np.int64] | None, npt.NDArray[np.float64] | None]:
    """The groups and the weights as arrays.

    Raises:
        ValueError: no token; groups, weights, notes, cuts or places that do not fit them.
    """
    n, cuts, notes, selected = len(picture.tokens), picture.cuts, picture.notes, picture.selected
    if n < 1:
        raise ValueError("a text of no token cannot be drawn")
    group = None if picture.groups is None else np.asarray(picture.groups, dtype=np.int64)
    weight = None if picture.weights is None else np.asarray(picture.weights, dtype=np.float64)
    for name, given in (("groups", group), ("weights", weight)):
        if given is not None and given.shape != (n,):
            raise ValueError(f"{name} must have one entry a token, [{n}], found {list(given.shape)}")
    if notes is not None and len(notes) != n:
        raise ValueError(f"notes must have one entry a token, {n}, found {len(notes)}")
    if any(not 0 <= at < n for at in cuts):
        raise ValueError(f"cuts stand before tokens 0 … {n - 1}, found {sorted(cuts)}")
    if selected is not None and not 0 <= selected < n:
        raise ValueError(f"the selected token must lie in 0 … {n - 1}, found {selected}")
    return group, weight


def _words() -> dict[str, str]:
    return {
        "label": _("The text. Left and right move the marked token, Enter chooses it."),
        "hint": _("Point at a word to read about it; click one to choose it."),
        "place": _("{token} ({at})"),
        "weight": _("weight {value}"),
    }
