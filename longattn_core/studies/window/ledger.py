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
from longattn_core.measures.fidelity import fidelity
from longattn_core.measures.sampling import QuerySample, blocks, sample_queries
from longattn_core.measures.spread import sink_mask
from longattn_core.mechanisms.window.map import WindowMap
from longattn_core.studies.base.head_study import HeadStudy
from longattn_core.studies.base.query import query_place, tokens_of, watched_key
from longattn_core.studies.base.run import kept_run, sinks_of
from longattn_core.studies.base.study import Progress, Result, Setting

MOST = 512
"""Queries in the ledger; of a longer text one is drawn from each of as many equal spans."""

PARTS = ("window", "first tokens", "blocks", "lost to sinks", "lost elsewhere")
"""The parts in the order in which they are stacked; the last two are what the pattern does not see."""


class Ledger(HeadStudy):
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
    setting: Setting = Setting(key="window")
    query: int | None = Field(None, ge=0, le=65535)
    marked: int | None = Field(None, ge=0, le=65535)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        head = self.head_in(sequence)
        one = kept_run(self.source, self.setting.build())
        words = {"origin": sequence.origin, "label": one.mechanism.label}
        if one.attended is None:
            return Result(study=self, words={**words, "refusal": one.refusal or ""})
        attended = one.attended
        if not isinstance(attended, WindowMap):
            raise ValueError(f"The ledger is kept for windows and blocks, not for {one.mechanism.title}.")
        query = query_place(sequence, self.query)
        exact = exact_rows(sequence, query, head)[0, 0]
        marked = watched_key(exact, query, self.marked)
        sample = sample_queries(sequence, MOST)
        # The asked query is in the ledger, in the place of its neighbour.
        queries = np.array(sample.queries)
        queries[int(np.abs(queries - query).argmin())] = query
        sinks = sinks_of(self.source)[head]
        shares, chance = _shares(attended, head, queries, sink_mask((sinks,), sequence.n)[0])
        measured = fidelity(attended, queries=256)
        agreement = pd.DataFrame.from_records(
            [
                {
                    "which": name,
                    **{column: float(getattr(of, column)[head]) for column in ("recall", "share", "error", "control")},
                }
                for name, of in (("whole", measured.whole), ("without sinks", measured.without_sinks))
            ]
        )
        tokens = np.array(tokens_of(sequence), dtype=np.str_)
        arrays = {
            "queries": queries,
            "shares": shares,
            "chance": chance,
            "tokens": tokens,
            "query": np.array(query),
            "marked": np.array(marked),
            "weight": np.array(float(exact[marked])),
            "sinks": np.array(sinks, dtype=np.int64),
            "seen": np.array(bool(attended.kept(query, marked, head))),
        }
        tables = {"ledger": _long(queries, shares, tokens), "agreement": agreement}
        arrays |= _of_query(attended, head, query, exact)
        words["sample"] = QuerySample(queries=tuple(queries.tolist()), real=sample.real, seed=0).text
        return Result(study=self, arrays=arrays, tables=tables, words=words)


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


def _of_query(attended: WindowMap, head: int, query: int, exact: Tensor) -> dict[str, np.ndarray]:
    """By which part the asked query sees each key `[n]` (an index of `PARTS`, 4 where lost, −1 in the future), and
    its exact weights.
    """
    sequence = attended.sequence
    row = torch.tensor([query])
    everything = torch.arange(sequence.n)
    allowed = sequence.allowed(row)[0]
    seen = attended.kept(row, None, head)[0, 0] & allowed
    part = torch.where(seen, PARTS.index("blocks"), PARTS.index("lost elsewhere"))
    part[seen & attended.pattern.is_column(everything)] = PARTS.index("first tokens")
    part[seen & _near(attended, row, everything)[0]] = PARTS.index("window")
    part[~allowed] = -1
    weights = torch.where(allowed, exact, torch.nan).float()
    return {"seen by": part.numpy(), "exact": weights.numpy()}


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
