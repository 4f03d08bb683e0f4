"""Which query looks back, which of its keys is watched, and how tokens are named."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.sequence import Sequence


def query_place(sequence: Sequence, query: int | None = None) -> int:
    """The query that looks back: the one asked for, or the last real token where it is None or outside the sequence."""
    last = int(sequence.real.nonzero().max())
    return last if query is None or query >= sequence.n else query


def watched_key(exact: Float[Tensor, "n"], query: int, marked: int | None = None) -> int:
    """The key to watch: the one asked for, or the one with the largest exact weight.

    `exact` is the query's row of exact attention. The first token, which is a sink more often than a meaning, and the query
    itself are left out where another key has any weight.
    """
    if marked is not None and marked < len(exact):
        return marked
    candidates = exact.clone()
    for plain in (0, query):
        candidates[plain] *= 1e-6
    return int(candidates.argmax())


def tokens_of(sequence: Sequence) -> list[str]:
    """The tokens' strings, or their numbers where the sequence has none."""
    return list(sequence.tokens) if sequence.tokens is not None else [str(i) for i in range(sequence.n)]


def token_array(sequence: Sequence) -> np.ndarray:
    """The same as an array of strings `[n]`, as results hold it."""
    return np.array(tokens_of(sequence), dtype=np.str_)
