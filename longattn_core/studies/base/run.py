"""One mechanism on one source: what it gives, or the sentence why it cannot; kept, so that all views share one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch

from longattn_core.contracts.mechanism import Attended, Explanation, Mechanism, Refused
from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import Sinks, find_sinks
from longattn_core.sequences.sources import Source, SyntheticSource
from longattn_core.studies.base.cache import SingleFlightCache
from longattn_core.studies.base.study import sequence_of

A = TypeVar("A", bound=Attended)

SAMPLE = 256
"""Queries that a measure of agreement samples."""
LONGEST_EXACT = 8192
"""Tokens up to which mechanisms of cost n² are run; the exact row of one query costs only n, and is always had."""


LONGEST_DECOMPOSED = 1024
"""Tokens up to which the whole map is decomposed, n³: at four times as many it takes half a minute a head."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MechanismRun:
    """A mechanism on a sequence: `attended`, or `refusal`, the sentence why not."""

    mechanism: Mechanism
    sequence: Sequence
    attended: Attended | None
    refusal: str | None

    def attended_or_raise(self) -> Attended:
        """What the mechanism gave back. Raises: Refused, with the sentence, where it cannot read the sequence."""
        if self.attended is None:
            raise Refused(self.refusal or "This mechanism cannot read this sequence.")
        return self.attended

    def attended_as(self, kind: type[A]) -> A:
        """What the mechanism gave back, of the kind that it must be of.

        Raises: Refused, with the sentence, where the mechanism cannot read the sequence; TypeError for another kind.
        """
        attended = self.attended_or_raise()
        if not isinstance(attended, kind):
            raise TypeError(f"{self.mechanism.label} gives a {type(attended).__name__}, not a {kind.__name__}")
        return attended


_runs: SingleFlightCache[MechanismRun] = SingleFlightCache(size=48)


def kept_run(source: Source, mechanism: Mechanism) -> MechanismRun:
    """Let a mechanism attend to a source's sequence, or take the run that is kept from before."""
    name = f"{mechanism.key} {mechanism.model_dump_json()} {source.model_dump_json()}"
    return _runs.get(name, lambda: run_mechanism(mechanism, sequence_of(source)))


def run_mechanism(mechanism: Mechanism, sequence: Sequence) -> MechanismRun:
    """Let a mechanism attend; its refusal, or that n² is too much here, becomes a sentence."""
    refusal = mechanism.refuses(sequence)
    if refusal is None and mechanism.quadratic and sequence.n > LONGEST_EXACT:
        refusal = (
            f"This mechanism computes n² = {sequence.n**2 / 1e9:.1f} billion scores at this length; "
            f"it is run for at most {LONGEST_EXACT:,} tokens."
        )
    if refusal is None and mechanism.cubic and sequence.n > LONGEST_DECOMPOSED:
        refusal = (
            f"This mechanism decomposes the whole map, n³ = {sequence.n**3 / 1e9:,.0f} billion steps at this length; "
            f"it is run for at most {LONGEST_DECOMPOSED:,} tokens."
        )
    attended = None if refusal is not None else mechanism.attend(sequence)
    return MechanismRun(mechanism=mechanism, sequence=sequence, attended=attended, refusal=refusal)


def why(source: Source, mechanism: Mechanism, head: int, query: int, key: int) -> Explanation | str:
    """The explanation of one pair, or the sentence why the mechanism cannot read this source.

    Raises: ValueError when head, query or key lies outside the sequence.
    """
    with torch.inference_mode():
        found = kept_run(source, mechanism)
        if found.attended is None:
            return found.refusal or ""
        return found.attended.explain(head, query, key)


_sinks: SingleFlightCache[Sinks] = SingleFlightCache(size=48)


def sinks_of(source: Source) -> Sinks:
    """The sinks of a source's heads, found on a sample of its queries and kept: no dial moves them.

    Cost: `SAMPLE` exact rows, once.
    """

    def find() -> Sinks:
        sequence = sequence_of(source)
        return find_sinks(sequence, sample_queries(sequence, SAMPLE))

    return _sinks.get(source.model_dump_json(), find)


def shortened(source: Source, n: int) -> Source:
    """The same source, read to its first n tokens; itself where it has no more."""
    if sequence_of(source).n <= n:
        return source
    if source.kind == "synthetic":
        settings = source.settings.with_dials(n=n)
        return SyntheticSource.model_validate({"settings": settings.model_dump()})
    return source.model_copy(update={"length": n})


def reseeded(source: Source, step: int) -> Source:
    """Another draw of a synthetic sequence: the one whose seed is higher by `step`. Other sources have no seed and stay."""
    if source.kind != "synthetic" or step == 0:
        return source
    settings = source.settings.with_dials(seed=(source.settings.seed + step) % 2**31)
    return SyntheticSource.model_validate({"settings": settings.model_dump()})


def read_prefix(source: Source, head: int, longest: int, *, causal: bool | None = None) -> Sequence:
    """One head of the source's sequence, at most its first `longest` tokens, under its own mask or another."""
    whole = sequence_of(source)
    sequence = whole.select_heads(min(head, whole.h - 1)).prefix(min(whole.n, longest))
    return sequence if causal is None else sequence.masked(causal)
