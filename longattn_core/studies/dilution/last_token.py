"""One look at one length, token by token: whom the last token of a planted text, or of a prefix, gives its weight to."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks
from longattn_core.sequences.sources import TextSource
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.dilution.growth import SINK_QUERIES, last_look
from longattn_core.studies.dilution.planted import FactName, Filler, PlantedText, planted_look

__all__ = ["LastToken"]


class LastToken(HeadStudy):
    """The weights `[n]` of the last token of a planted text of n tokens, or, without a fact, of the source's first n.

    Arrays: `weights`, `tokens`, `sinks` (places), `needle` (the place, or −1), `n`.
    """

    key: ClassVar[str] = "dilution.last_token"
    n: int = Field(512, ge=1, le=65536)
    fact: FactName | None = None
    filler: Filler = "own"

    def _run(self, progress: Progress) -> Result:
        if self.fact is not None:
            if not isinstance(self.source, TextSource):
                raise ValueError("A planted fact is a text: it needs the language model's heads.")
            text = PlantedText(fact=self.fact, filler=self.filler, n=self.n)
            source = self.source
            look = planted_look(text, source.layer, source.heads[0], rotary=source.rotary, sharpness=source.sharpness)
            tokens, needle = list(text.build().tokens), look.needle
        else:
            sequence = self.sequence()
            alone = sequence.select_heads(self.head_in(sequence))
            n = min(self.n, alone.n)
            sinks = find_sinks(alone, sample_queries(alone, min(SINK_QUERIES, int(alone.real.sum()))))[0]
            if not bool(alone.real[:n].any()):
                raise ValueError(f"The first {n:,} tokens are all padding: none of them looks at anything.")
            look = last_look(alone, n, 1, tuple(sink for sink in sinks if sink < n))
            tokens, needle = tokens_of(alone)[:n], None
        arrays = {
            "weights": look.scores[0].double().softmax(-1).numpy(),
            "tokens": np.array(tokens, dtype=np.str_),
            "sinks": np.array(look.sinks, dtype=np.int64),
            "needle": np.array(-1 if needle is None else needle),
            "n": np.array(len(tokens)),
        }
        return Result(study=self, arrays=arrays)
