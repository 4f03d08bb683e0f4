"""What a token is: the beginning of a word, a piece of one, a number, punctuation, a line end, a part of a character.

Source: ours; by the token's own characters, so that no model has to judge.
"""

from __future__ import annotations

import re
from functools import lru_cache

from longattn_core.contracts.sequence import Sequence

KINDS = ("word", "piece of a word", "number", "punctuation", "space or line end", "bytes")
QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")
_BYTES = re.compile(r"(?:\\x[0-9a-f]{2})+")


@lru_cache(maxsize=1 << 15)
def kind_of(token: str, start: bool) -> str:
    """One token's kind; `start` says that it begins a word without a space of its own, as the first token does."""
    bare = token.strip()
    if not bare:
        return "space or line end"
    if _BYTES.fullmatch(bare):
        return "bytes"
    if any(character.isalpha() for character in bare):
        return "word" if start or token[:1].isspace() else "piece of a word"
    return "number" if any(character.isdigit() for character in bare) else "punctuation"


def token_kinds(sequence: Sequence) -> tuple[tuple[str, ...], list[int]]:
    """The kinds there can be, and the kind of each token by its number among them.

    A sequence without a text has none: its tokens are told apart by the quarter of it that they stand in.
    """
    if sequence.offsets is None or sequence.tokens is None:
        return QUARTERS, [min(3, 4 * i // sequence.n) for i in range(sequence.n)]
    found, before = [], " "
    for token in sequence.tokens:
        opens = not before or before[-1].isspace() or not (before[-1].isalnum() or before[-1] in "'’\\")
        found.append(KINDS.index(kind_of(token, opens)))
        before = token
    return KINDS, found
