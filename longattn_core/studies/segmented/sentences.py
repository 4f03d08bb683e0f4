"""Where to cut: at sentence ends, after every s tokens, or just anywhere, with as many segments each.

Source: ours. Long segments lose less than short ones, and sentences are of unequal length; so the fair control is the
same lengths in another order (as many pairs are read to the last one); beside it, as many cuts at equal distances. All lose
the exact mass of pairs that stand in two segments, with nothing that crosses the cuts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.sequence import Sequence, exact_rows
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.numerics.draws import generator
from longattn_core.studies.base.query import tokens_of
from longattn_core.studies.base.study import Progress, Result, Study

SAMPLE = 512
SHUFFLES = 200
MIDDLE = (0.025, 0.975)
"""The band that is drawn: the middle 95 % of the orders."""

Kind = Literal["sentence ends", "same lengths in any order", "equal lengths"]


class SentenceCuts(Study):
    """The loss with cuts at sentence ends beside its two controls, and what a cut before each token would sever.

    Table `kinds`: `kind`, `lost` (mean share of a query's attention; over the orders for that control), `low`, `high`,
    `without sinks` with its own low and high, `cuts`, `length` (mean), `pairs` (share of the allowed pairs that is read).
    Table `places`: for each token the share that a cut before it would sever of the queries within one mean segment behind
    it, outside the sinks, and whether a sentence starts there. `words["refusal"]` stands alone where no sentences are known.
    """

    key: ClassVar[str] = "segmented sentences"
    width: int = Field(128, ge=1, le=131072)
    head: int = Field(0, ge=0, le=63)
    seed: int = Field(0, ge=0, le=2**31 - 1)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        mechanism = Segmented(width=min(self.width, sequence.n), boundaries="sentences")
        arrays: dict[str, np.ndarray] = {"tokens": np.array(tokens_of(sequence), dtype=np.str_)}
        refusal = mechanism.refuses(sequence)
        if refusal is not None or sequence.levels is None:
            return Result(study=self, arrays=arrays, words={"refusal": refusal or ""})
        rows = _Rows.of(sequence, min(self.head, sequence.h - 1))
        starts = mechanism.starts(sequence, shifted=False).cpu().numpy()
        if len(starts) < 2:
            return Result(study=self, arrays=arrays, words={"refusal": "The whole text fits into one segment: no cut."})
        lengths = np.diff(np.append(starts, sequence.n))
        progress(0.3, "controls")
        draw = generator(self.seed, "orders of the segments")
        orders = [torch.randperm(len(lengths), generator=draw).numpy() for _ in range(SHUFFLES)]
        mean = sequence.n / len(starts)
        kinds: dict[Kind, list[np.ndarray]] = {
            "sentence ends": [starts],
            "same lengths in any order": [np.append(0, lengths[order].cumsum()[:-1]) for order in orders],
            "equal lengths": [np.arange(len(starts)) * sequence.n // len(starts)],
        }
        table = pd.DataFrame.from_records([{"kind": kind, **_row(rows, cuts)} for kind, cuts in kinds.items()])
        table.attrs["units"] = {
            **dict.fromkeys(("lost", "low", "high", "without sinks", "low without", "high without"), "share"),
            "cuts": "cuts",
            "length": "tokens",
            "pairs": "share of pairs",
        }
        first = torch.cat([torch.ones(1, dtype=torch.int64), sequence.levels.sentence.diff().cpu()]) != 0
        places = pd.DataFrame(
            {
                "token": np.arange(1, sequence.n),
                "severed": rows.profile(max(1, round(mean)))[1:],
                "sentence start": first.numpy()[1:],
                "chosen": np.isin(np.arange(1, sequence.n), starts),
            }
        )
        places.attrs["units"] = {"token": "token", "severed": "share"}
        arrays["starts"] = starts
        return Result(
            study=self,
            arrays=arrays,
            tables={"kinds": table, "places": places},
            words={"leaks": mechanism.depends_on_future or ""},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """Sums of exact weight up to each key, with sinks and without `[2 r n+1]`, for sampled queries `[r]`."""

    before: Float[Tensor, "two r n1"]
    queries: Int[Tensor, "r"]
    n: int
    causal: bool

    @classmethod
    def of(cls, sequence: Sequence, head: int) -> _Rows:
        sample = sample_queries(sequence, SAMPLE)
        queries = torch.tensor(sample.queries, device=sequence.q.device)
        exact = exact_rows(sequence, queries, head)[0].double()
        bare = exact.clone()
        bare[:, list(find_sinks(sequence.select_heads(head), sample)[0])] = 0.0
        both = torch.stack([exact, bare]).cumsum(-1)
        zero = both.new_zeros(*both.shape[:2], 1)
        return cls(before=torch.cat([zero, both], -1), queries=queries, n=sequence.n, causal=sequence.causal)

    def lost(self, starts: np.ndarray) -> tuple[float, float]:
        """The share of all mass outside the own segment, with sinks and without."""
        first, stop = self._spans(starts)
        places = torch.arange(len(self.queries))
        kept = self.before[:, places, stop] - self.before[:, places, first]
        total = self.before[..., -1].sum(1)
        with_sinks, without = (1 - kept.sum(1) / torch.where(total > 0, total, 1.0)).tolist()
        return with_sinks, without

    def _spans(self, starts: np.ndarray) -> tuple[Int[Tensor, "r"], Int[Tensor, "r"]]:
        edges = torch.from_numpy(np.append(starts, self.n)).to(self.queries.device)
        own = torch.searchsorted(edges, self.queries, right=True) - 1
        return edges[own], edges[own + 1]

    def profile(self, reach: int) -> np.ndarray:
        """What a cut before each token severs outside the sinks, of the queries in the `reach` tokens behind it."""
        cuts = torch.arange(self.n)
        near = (self.queries[:, None] >= cuts) & (self.queries[:, None] < cuts + reach)
        severed, mass = (self.before[1, :, :-1] * near).sum(0), (self.before[1, :, -1:] * near).sum(0)
        out: np.ndarray = torch.where(mass > 0, severed / torch.where(mass > 0, mass, 1.0), torch.nan).numpy()
        return out


def _row(rows: _Rows, cuts: list[np.ndarray]) -> dict[str, float]:
    lost = np.array([rows.lost(starts) for starts in cuts])
    widths = [np.diff(np.append(starts, rows.n)) for starts in cuts]
    # Under a causal mask a segment of w tokens reads w(w + 1)/2 pairs; without one, w².
    read = [float((w * (w + 1) / 2 if rows.causal else w * w).sum()) for w in widths]
    every = rows.n * (rows.n + 1) / 2 if rows.causal else rows.n**2
    low, high = np.quantile(lost, MIDDLE, axis=0)
    return {
        "lost": float(lost[:, 0].mean()),
        "low": float(low[0]),
        "high": float(high[0]),
        "without sinks": float(lost[:, 1].mean()),
        "low without": float(low[1]),
        "high without": float(high[1]),
        "cuts": float(np.mean([len(starts) - 1 for starts in cuts])),
        "length": float(np.mean([rows.n / len(starts) for starts in cuts])),
        "pairs": float(np.mean(read)) / every,
    }


@dataclass(frozen=True, kw_only=True)
class PlaceFinding:
    """Whether cuts at sentence ends lose less than the same lengths in any order: "less", "more", or "alike"."""

    kind: Literal["refused", "less", "alike", "more"]
    sentences: float
    shuffled: float
    low: float
    high: float
    fixed: float
    length: float


def place_finding(result: Result) -> PlaceFinding:
    """Read a `SentenceCuts` result, by the mass outside the sinks: outside the middle 95 % of the orders counts."""
    if "kinds" not in result.tables:
        return PlaceFinding(kind="refused", sentences=0, shuffled=0, low=0, high=0, fixed=0, length=0)
    own, shuffled, fixed = (row for _index, row in result.tables["kinds"].iterrows())
    lost, low, high = float(own["without sinks"]), float(shuffled["low without"]), float(shuffled["high without"])
    return PlaceFinding(
        kind="less" if lost < low else "more" if lost > high else "alike",
        sentences=lost,
        shuffled=float(shuffled["without sinks"]),
        low=low,
        high=high,
        fixed=float(fixed["without sinks"]),
        length=float(own["length"]),
    )
