"""Which query looks back, which of its keys is watched, and how tokens are named."""

from __future__ import annotations

from longattn_core.contracts.sequence import Sequence


def tokens_of(sequence: Sequence) -> list[str]:
    """The tokens' strings, or their numbers where the sequence has none."""
    return list(sequence.tokens) if sequence.tokens is not None else [str(i) for i in range(sequence.n)]
