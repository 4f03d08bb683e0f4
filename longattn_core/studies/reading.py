"""One mechanism on one source: what it gives, or the sentence why it cannot; kept, so that all views share one run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longattn_core.contracts import Attended, Explanation, Mechanism, Sequence
from longattn_core.sequences.sources import Source
from longattn_core.studies.once import Once
from longattn_core.studies.study import sequence_of

LONGEST_EXACT = 8192
"""Tokens up to which mechanisms of cost n² are run; the exact row of one query costs only n, and is always had."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A mechanism on a sequence: `attended`, or `refusal`, the sentence why not."""

    mechanism: Mechanism
    sequence: Sequence
    attended: Attended | None
    refusal: str | None


_readings: Once[Reading] = Once(size=48)


def reading(source: Source, mechanism: Mechanism) -> Reading:
    """Let a mechanism attend to a source's sequence, or take the run that is kept from before."""
    name = f"{mechanism.key} {mechanism.model_dump_json()} {source.model_dump_json()}"
    return _readings.get(name, lambda: read(mechanism, sequence_of(source)))


def read(mechanism: Mechanism, sequence: Sequence) -> Reading:
    """Let a mechanism attend; its refusal, or that n² is too much here, becomes a sentence."""
    refusal = mechanism.refuses(sequence)
    if refusal is None and mechanism.quadratic and sequence.n > LONGEST_EXACT:
        refusal = (
            f"This mechanism computes n² = {sequence.n**2 / 1e9:.1f} billion scores at this length; "
            f"it is run for at most {LONGEST_EXACT:,} tokens."
        )
    attended = None if refusal is not None else mechanism.attend(sequence)
    return Reading(mechanism=mechanism, sequence=sequence, attended=attended, refusal=refusal)


def why(source: Source, mechanism: Mechanism, head: int, query: int, key: int) -> Explanation | str:
    """The explanation of one pair, or the sentence why the mechanism cannot read this source.

    Raises: ValueError when head, query or key lies outside the sequence.
    """
    with torch.inference_mode():
        found = reading(source, mechanism)
        if found.attended is None:
            return found.refusal or ""
        return found.attended.explain(head, query, key)
