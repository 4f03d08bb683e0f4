"""Which heads share keys and values, what that saves in the cache, and whether heads that share look alike.

Source: Vaswani et al. 2017, arXiv:1706.03762 (multi-head); Shazeer 2019, arXiv:1911.02150 (multi-query); Ainslie et al.
2023, arXiv:2305.13245 (grouped-query).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.language_model.model import load_language_model
from longattn_core.measures.cost import key_value_bytes
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks, sink_mask
from longattn_core.studies.base.study import Progress, Result, Study, sequence_of
from longattn_core.studies.heads.survey import all_heads

__all__ = ["SCHEMES", "Scheme", "Sharing", "bonds", "cache_growth"]

Scheme = Literal["multi-head", "grouped-query", "multi-query"]
SCHEMES: tuple[Scheme, ...] = ("multi-head", "grouped-query", "multi-query")
NUMBER_BYTES = 2
"""A number of the cache: half precision, as models are served."""


def bonds(heads: int, shared: int) -> list[tuple[int, int]]:
    """(query head, key/value head) for each query head: neighbours share one. Raises: ValueError where they do not divide."""
    if shared < 1 or heads % shared:
        raise ValueError(f"{heads} query heads cannot share {shared} key/value heads evenly")
    return [(head, head // (heads // shared)) for head in range(heads)]


class Sharing(Study):
    """The cache's size under each scheme, and how alike the maps of heads are that share keys, and of those that do not.

    Table `cache`: a row a scheme: key/value heads, bytes a token, bytes at the source's length; all layers of the model
    for a text, one layer for other sources. Table `pairs`: a row a pair of heads: whether they share keys, the overlap
    Σ min of their rows and the same without both heads' sinks. `model` names the scheme that the source has.
    """

    key: ClassVar[str] = "heads.sharing"
    queries: int = Field(96, ge=1, le=512)

    def _run(self, progress: Progress) -> Result:
        sequence = sequence_of(all_heads(self.source))
        group = sequence.key_value_groups
        layers = load_language_model().config.layers if self.source.kind == "text" else 1
        shared = sequence.h // group if sequence.h % group == 0 else sequence.h
        rows = []
        for scheme, count in zip(SCHEMES, (sequence.h, shared, 1), strict=True):
            size = key_value_bytes(layers=layers, key_value_heads=count, d=sequence.d, e=sequence.e, number_bytes=NUMBER_BYTES)
            rows.append({"scheme": scheme, "key/value heads": count, "bytes a token": size, "bytes": size * sequence.n})
        cache = pd.DataFrame(rows)
        cache.attrs["units"] = {"bytes a token": "bytes", "bytes": f"bytes at {sequence.n:,} tokens"}
        pairs = self._pairs(sequence, progress)
        pairs.attrs["units"] = {"overlap": "share", "overlap without sinks": "share"}
        scheme = "multi-head" if group == 1 else ("multi-query" if group == sequence.h else "grouped-query")
        arrays = {
            "layers": np.array(layers),
            "d": np.array(sequence.d),
            "e": np.array(sequence.e),
            "n": np.array(sequence.n),
            "group": np.array(group),
            "heads": np.array(sequence.head_numbers),
        }
        return Result(study=self, arrays=arrays, tables={"cache": cache, "pairs": pairs}, words={"model": scheme})

    def _pairs(self, sequence: Sequence, progress: Progress) -> pd.DataFrame:
        sample = sample_queries(sequence, min(self.queries, int(sequence.real.sum())))
        sinks = sink_mask(find_sinks(sequence, sample), sequence.n)
        queries = torch.tensor(sample.queries)
        maps = [exact_rows(sequence, queries, head)[0] for head in range(sequence.h)]
        records = []
        for first in range(sequence.h):
            progress(first / sequence.h, f"head {sequence.head_numbers[first]}")
            for second in range(first + 1, sequence.h):
                both = sinks[first] | sinks[second]
                records.append(
                    {
                        "first": sequence.head_numbers[first],
                        "second": sequence.head_numbers[second],
                        "share keys": first // sequence.key_value_groups == second // sequence.key_value_groups
                        and sequence.key_value_groups > 1,
                        "overlap": _overlap(maps[first], maps[second], torch.zeros_like(both)),
                        "overlap without sinks": _overlap(maps[first], maps[second], both),
                    }
                )
        columns = ["first", "second", "share keys", "overlap", "overlap without sinks"]
        return pd.DataFrame.from_records(records, columns=columns)


def _overlap(first: torch.Tensor, second: torch.Tensor, hidden: torch.Tensor) -> float:
    """Σ min of two heads' rows without the hidden keys, normalised to sum 1; rows without weight in either are left out."""
    a, b = (rows.double().masked_fill(hidden, 0.0) for rows in (first, second))
    left = torch.minimum(a.sum(-1), b.sum(-1)) > 0
    if not bool(left.any()):
        return float("nan")
    a, b = (rows[left] / rows[left].sum(-1, keepdim=True) for rows in (a, b))
    return float(torch.minimum(a, b).sum(-1).mean())


def cache_growth(cache: pd.DataFrame) -> pd.DataFrame:
    """The cache's bytes for texts of 1 to 131,072 tokens under each scheme: it grows with the text, token by token."""
    rows = [
        {"scheme": row["scheme"], "n": 1 << power, "bytes": int(row["bytes a token"]) << power}
        for _, row in cache.iterrows()
        for power in range(18)
    ]
    table = pd.DataFrame(rows, columns=["scheme", "n", "bytes"])
    table.attrs["units"] = {"n": "tokens", "bytes": "bytes"}
    return table
