"""The weights of the last token over all tokens, of a planted text or of a prefix, at one length."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.dilution.growth import head_sinks, last_rows
from longattn_core.studies.dilution.planted import planted_rows, text_of
from longattn_core.studies.dilution.planted_text import FactName, Filler, PlantedText
from longattn_core.studies.dilution.weight_shares import ScoreRows

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
        rows, tokens = self._prefix() if self.fact is None else self._planted(self.fact)
        arrays = {
            "weights": rows.scores[0].double().softmax(-1).numpy(),
            "tokens": tokens,
            "sinks": np.array(rows.sinks, dtype=np.int64),
            "needle": np.array(-1 if rows.needle is None else rows.needle),
            "n": np.array(len(tokens)),
        }
        return Result(study=self, arrays=arrays)

    def _planted(self, fact: FactName) -> tuple[ScoreRows, np.ndarray]:
        source = text_of(self.source)
        text = PlantedText(fact=fact, filler=self.filler, n=self.n)
        rows = planted_rows(text, source.layer, source.heads[0], rotary=source.rotary, sharpness=source.sharpness)
        return rows, np.array(text.build().tokens, dtype=np.str_)

    def _prefix(self) -> tuple[ScoreRows, np.ndarray]:
        sequence = self.sequence()
        head = sequence.select_heads(self.head_in(sequence))
        n = min(self.n, head.n)
        if not bool(head.real[:n].any()):
            raise ValueError(f"The first {n:,} tokens are all padding: none of them looks at anything.")
        return last_rows(head, n, 1, head_sinks(head)), token_array(head)[:n]
