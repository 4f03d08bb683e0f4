"""The shift test: which schemes see only distances, and which the positions themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.studies.base.run import read_prefix
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.relative.schemes import SchemeStudy, mapped, schemes, unturned


class Shifts(SchemeStudy):
    """The shift test: every position of the text moved by the same number; how much does each scheme's map change?

    Table `shifts`: scheme, shift, `score` (the largest change of a score) and `moved` (the share of a row's weight that
    goes elsewhere: half the sum of absolute changes, mean over rows), in float64 on the first `tokens` tokens.
    """

    key: ClassVar[str] = "relative.shifts"
    tokens: int = Field(96, ge=1, le=512)
    shifts: tuple[int, ...] = Field((0, 1, 4, 16, 64, 256, 1000, 4000), min_length=1, max_length=20)

    def _run(self, progress: Progress) -> Result:
        sequence = unturned(read_prefix(self.source, self.head, self.tokens)).to(dtype=torch.float64)
        every = schemes(self.scheme(), sequence.n)
        mask = sequence.allowed()[None]
        records, words = [], {"origin": sequence.origin}
        for index, scheme in enumerate(every):
            progress(index / len(every), scheme.label)
            if (refusal := scheme.refuses(sequence)) is not None:
                words[f"{scheme.label} refusal"] = refusal
                continue
            here = mapped(scheme, sequence)
            added, rows = here.added(), here.rows()
            for shift in self.shifts:
                positions = sequence.token_positions + shift
                there = mapped(scheme, replace(sequence, positions=positions))
                change = (there.added() - added).abs().masked_fill(~mask, 0.0)
                records.append(
                    {
                        "scheme": scheme.label,
                        "variant": scheme.variant,
                        "shift": shift,
                        "score": float(change.max()),
                        "moved": float(0.5 * (there.rows() - rows).abs().sum(-1).mean()),
                    }
                )
        table = pd.DataFrame.from_records(records, columns=["scheme", "variant", "shift", "score", "moved"])
        table.attrs["units"] = {"shift": "tokens", "score": "units of the score", "moved": "share of the weight"}
        return Result(study=self, arrays={"n": np.array(sequence.n)}, tables={"shifts": table}, words=words)


CHANGED = 1e-6
"""A score that changes by less than this under a shift has changed by rounding."""


def changed_by_shift(result: Result) -> tuple[str, ...]:
    """The schemes whose scores changed under any shift of a `Shifts` result."""
    table = result.tables["shifts"]
    worst = table.groupby("scheme", sort=False)["score"].max()
    return tuple(str(name) for name in worst.index[worst > CHANGED])
