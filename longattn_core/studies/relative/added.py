"""S_rel as a matrix, and where the weight then goes: what a scheme adds to each pair, and the weight by distance."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.mechanism import Attended
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import mass_by_distance
from longattn_core.mechanisms.relative import Relative
from longattn_core.studies.base.pooling import pooled_by_size
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.run import read_prefix
from longattn_core.studies.base.study import Progress, Result
from longattn_core.studies.relative.schemes import LONGEST_MATRIX, SchemeStudy, mapped, schemes

SAMPLE = 128
"""Queries whose rows are looked at where the weight's way over distances is measured."""


class Added(SchemeStudy):
    """S_rel as a matrix: what a scheme adds to the content score of each pair of the first tokens.

    Arrays: `added`, `content` `[n n]` (units of the score, not masked); `tokens`; `diagonal`, the largest deviation of an
    entry from the mean of its diagonal: 0 where distance alone decides.
    """

    key: ClassVar[str] = "relative.added"
    tokens: int = Field(256, ge=1, le=LONGEST_MATRIX)

    def _run(self, progress: Progress) -> Result:
        sequence = read_prefix(self.source, self.head, self.tokens)
        attended = mapped(self.chosen.build(), sequence)
        added = attended.added()[0]
        everything, one = torch.arange(sequence.n), torch.tensor([0])
        content = attended.encoding.content(everything, one)[0]
        lags = (everything[:, None] - everything + sequence.n - 1).flatten()
        flat = added.double().flatten()
        count = torch.zeros(2 * sequence.n - 1, dtype=torch.float64).index_add(0, lags, torch.ones_like(flat))
        mean = torch.zeros(2 * sequence.n - 1, dtype=torch.float64).index_add(0, lags, flat) / count
        arrays = {
            "added": pooled_by_size(added.float().numpy(), LONGEST_MATRIX),
            "content": pooled_by_size(content.float().numpy(), LONGEST_MATRIX),
            "diagonal": np.array(float((flat - mean[lags]).abs().max())),
            "tokens": np.array(tokens_of(sequence), dtype=np.str_),
            "causal": np.array(sequence.causal),
        }
        return Result(study=self, arrays=arrays, words={"origin": sequence.origin})


class Distances(SchemeStudy):
    """How much of a query's weight lies within each distance, under each scheme and by content alone.

    Table `within`: scheme, distance d, share of the weight at distances up to d (mean over `SAMPLE` queries of the second
    half of the text, so that all of them have room to look back); `typical`, the distance that holds half of it.
    """

    key: ClassVar[str] = "relative.distances"

    def _run(self, progress: Progress) -> Result:
        sequence = read_prefix(self.source, self.head, LONGEST_MATRIX)
        chosen = self.scheme()
        sample = sample_queries(sequence, SAMPLE)
        late = tuple(query for query in sample.queries if query >= sequence.n // 2) or sample.queries[-1:]
        sample = replace(sample, queries=late)
        content = chosen.with_dials(variant="alibi", strength=0.0)
        every: list[tuple[str, Relative]] = [("content alone", content)]
        every += [(scheme.label, scheme) for scheme in schemes(chosen, sequence.n)]
        parts, typical, words = [], [], {"origin": sequence.origin}
        for index, (name, scheme) in enumerate(every):
            progress(index / len(every), name)
            if (refusal := scheme.refuses(sequence)) is not None:
                words[f"{name} refusal"] = refusal
                continue
            attended: Attended = scheme.attend(sequence)
            share = mass_by_distance(attended, sample)[0].cumsum(0).numpy()
            variant = "" if scheme is content else scheme.variant
            parts.append(pd.DataFrame({"scheme": name, "variant": variant, "distance": np.arange(sequence.n), "share": share}))
            typical.append({"scheme": name, "half": int(np.searchsorted(share, 0.5 * share[-1]))})
        table, halves = pd.concat(parts, ignore_index=True), pd.DataFrame.from_records(typical)
        table.attrs["units"] = {"distance": "tokens", "share": "share of the weight"}
        halves.attrs["units"] = {"half": "tokens"}
        return Result(study=self, arrays={"n": np.array(sequence.n)}, tables={"within": table, "halves": halves}, words=words)
