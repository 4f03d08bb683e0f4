"""Where each query's attention goes, as a ledger: what a pattern lets it see, by which part, and what is lost.

Source: the parts are those of Longformer (arXiv:2004.05150), BigBird (arXiv:2007.14062), StreamingLLM
(arXiv:2309.17453) and MoBA (arXiv:2502.13189). The sums are ours: exact attention's own weights, added up by the part
that holds the key.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import exact_rows
from longattn_core.measures.sampling import QuerySample, blocks, sample_queries
from longattn_core.measures.spread import sink_mask
from longattn_core.mechanisms.window import Window
from longattn_core.mechanisms.window.map import WindowMap
from longattn_core.studies.base.agreement import agreement_table
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import WatchedPair, token_array
from longattn_core.studies.base.run import MechanismRun, sinks_of
from longattn_core.studies.base.study import Progress, Setting

MOST = 512
"""Queries in the ledger; of a longer text one is drawn from each of as many equal spans."""

PARTS = ("window", "first tokens", "blocks", "lost to sinks", "lost elsewhere")
"""The parts in the order in which they are stacked; the last two are what the pattern does not see."""


class Ledger(MechanismStudy[Window]):
    """Exact attention's weight, query by query, by the part of the pattern that sees it.

    Arrays: `seen by, exact [n]`: by which part the asked query sees each key, and its exact weights; `queries [r]`;
    `shares [r parts]` in the order of `PARTS`, each row adding up to 1; `query`, `marked` and the exact weight
    `weight` of that pair, with `seen`, whether the pattern sees it; `chance [r]`, the share of its visible keys that
    each query looks at. "first tokens" are the columns that every query sees (sinks or global tokens), less what the
    window holds; "blocks" the random or chosen ones, and whole rows of global tokens; "lost to sinks" lies on keys
    that are sinks by the rule of `find_sinks`. Table `agreement`: recall, share, error, control with and without the
    sinks; table `ledger`: the same shares, long.
    """

    key: ClassVar[str] = "window.ledger"
    reads: ClassVar[type[Window]] = Window
    setting: Setting = Setting(key="window")
    query: int | None = Field(None, ge=0, le=65535)
    marked: int | None = Field(None, ge=0, le=65535)

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        sequence, attended, head = run.sequence, run.attended_as(WindowMap), self.head_in(run.sequence)
        pair = WatchedPair.of(sequence, head, self.query, self.marked)
        sample = sample_queries(sequence, MOST)
        # The asked query is in the ledger, in the place of its neighbour.
        queries = np.array(sample.queries)
        queries[int(np.abs(queries - pair.query).argmin())] = pair.query
        sinks = sinks_of(self.source)[head]
        shares, chance = _shares(attended, head, queries, sink_mask((sinks,), sequence.n)[0])
        arrays = {
            **pair.arrays(),
            "queries": queries,
            "shares": shares,
            "chance": chance,
            "weight": np.array(float(pair.exact[pair.key])),
            "sinks": np.array(sinks, dtype=np.int64),
            "seen": np.array(bool(attended.kept(pair.query, pair.key, head))),
            "seen by": _seen_by(attended, head, pair.query),
        }
        tables = {"ledger": _long(queries, shares, token_array(sequence)), "agreement": agreement_table(attended, head)}
        words = {"sample": QuerySample(queries=tuple(queries.tolist()), real=sample.real, seed=0).text}
        return Parts(arrays=arrays, tables=tables, words=words)


def _shares(attended: WindowMap, head: int, queries: np.ndarray, sinks: Bool[Tensor, "n"]) -> tuple[np.ndarray, np.ndarray]:
    """The parts of each query's exact weight `[r parts]`, and the share of the visible keys that it looks at `[r]`."""
    sequence, pattern = attended.sequence, attended.pattern
    out, chances = [], []
    everything = torch.arange(sequence.n)
    sample = QuerySample(queries=tuple(queries.tolist()), real=len(queries), seed=0)
    for rows in blocks(sequence, sample):
        exact = exact_rows(sequence, rows, head)[0].double()
        allowed = sequence.allowed(rows)
        seen = attended.kept(rows, None, head)[0] & allowed
        near = seen & _near(attended, rows, everything)
        first = seen & ~near & pattern.is_column(everything)[None]
        parts = (near, first, seen & ~near & ~first, allowed & ~seen & sinks, allowed & ~seen & ~sinks)
        out.append(torch.stack([(exact * part).sum(-1) for part in parts], dim=-1))
        chances.append(seen.sum(-1).double() / allowed.sum(-1).clamp_min(1))
    return torch.cat(out).numpy(), torch.cat(chances).numpy()


def _seen_by(attended: WindowMap, head: int, query: int) -> np.ndarray:
    """By which part the query sees each key `[n]`: an index of `PARTS`, 4 where lost, −1 in the future."""
    sequence = attended.sequence
    row = torch.tensor([query])
    everything = torch.arange(sequence.n)
    allowed = sequence.allowed(row)[0]
    seen = attended.kept(row, None, head)[0, 0] & allowed
    part = torch.where(seen, PARTS.index("blocks"), PARTS.index("lost elsewhere"))
    part[seen & attended.pattern.is_column(everything)] = PARTS.index("first tokens")
    part[seen & _near(attended, row, everything)[0]] = PARTS.index("window")
    part[~allowed] = -1
    parts: np.ndarray = part.numpy()
    return parts


def _near(attended: WindowMap, rows: Int[Tensor, "r"], keys: Int[Tensor, "n"]) -> Bool[Tensor, "r n"]:
    """What the sliding window holds; of a pattern without one, the query's own block."""
    pattern = attended.pattern
    if pattern.back >= 0:
        return pattern.in_window(rows[:, None], keys[None])
    return (rows // pattern.block)[:, None] == (keys // pattern.block)[None]


def _long(queries: np.ndarray, shares: np.ndarray, tokens: np.ndarray) -> pd.DataFrame:
    """One row a query and part, without the parts that are empty everywhere."""
    there = [order for order in range(len(PARTS)) if shares[:, order].max(initial=0.0) > 0]
    many = len(there)
    table = pd.DataFrame(
        {
            "query": np.tile(queries, many),
            "token": np.tile(tokens[queries], many),
            "part": np.repeat([PARTS[order] for order in there], len(queries)),
            "order": np.repeat(there, len(queries)),
            "share": shares[:, there].T.ravel(),
        }
    )
    table.attrs["units"] = {"query": "token position", "share": "share of the query's weight"}
    return table
