"""Which query looks back, which of its keys is watched, and how tokens are named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class WatchedPair:
    """The query that looks back, the key that is watched, and the query's row of exact attention over all keys."""

    query: int
    key: int
    exact: Float[Tensor, "n"]
    visible: Bool[Tensor, "n"]

    @classmethod
    def of(cls, sequence: Sequence, head: int, query: int | None, marked: int | None = None) -> WatchedPair:
        """Choose both as `query_place` and `watched_key` do. Cost: one exact row, n·d."""
        place = query_place(sequence, query)
        exact = exact_rows(sequence, place, head)[0, 0]
        return cls(query=place, key=watched_key(exact, place, marked), exact=exact, visible=sequence.allowed(place)[0])

    def arrays(self) -> dict[str, np.ndarray]:
        """`query`, `marked` and `exact [n]`, NaN where the mask hides the key, as results hold them."""
        exact = torch.where(self.visible, self.exact, torch.nan).float().cpu().numpy()
        return {"query": np.array(self.query), "marked": np.array(self.key), "exact": exact}


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
