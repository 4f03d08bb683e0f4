"""Where to cut: at sentence ends, after every s tokens, or just anywhere, with as many segments each.

Source: ours. Long segments lose less than short ones, and sentences are of unequal length; so the fair control is the
same lengths in another order (as many pairs are read to the last one); beside it, as many cuts at equal distances. All lose
the exact mass of pairs that stand in two segments, with nothing that crosses the cuts.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from longattn_core.contracts.mechanism import Refused
from longattn_core.contracts.sequence import Sequence
from longattn_core.measures.sampling import sample_queries
from longattn_core.measures.spread import find_sinks
from longattn_core.mechanisms.segmented import Segmented
from longattn_core.numerics.draws import generator
from longattn_core.studies.base.cumulated_rows import CumulatedRows
from longattn_core.studies.base.head_study import HeadStudy, Parts
from longattn_core.studies.base.query import token_array
from longattn_core.studies.base.study import Progress, Result

SAMPLE = 512
"""Queries whose rows are read, at most."""
SHUFFLES = 200
"""Orders of the segments that are drawn."""
MIDDLE = (0.025, 0.975)
"""The band that is drawn: the middle 95 % of the orders."""

Kind = Literal["sentence ends", "same lengths in any order", "equal lengths"]


class SentenceCuts(HeadStudy):
    """The loss with cuts at sentence ends beside its two controls, and what a cut before each token would sever.

    Table `kinds`: `kind`, `lost` (mean share of a query's attention; over the orders for that control), `low`, `high`,
    `without sinks` with its own low and high, `cuts`, `length` (mean), `pairs` (share of the allowed pairs that is read).
    Table `places`: for each token the share that a cut before it would sever of the queries within one mean segment behind
    it, outside the sinks, and whether a sentence starts there. `words["refusal"]` stands alone where no sentences are known.
    """

    key: ClassVar[str] = "segmented.sentences"
    width: int = Field(128, ge=1, le=131072)
    seed: int = Field(0, ge=0, le=2**31 - 1)

    def _run(self, progress: Progress) -> Result:
        sequence = self.sequence()
        context = Parts(arrays={"tokens": token_array(sequence)})
        return self._result_of(context, lambda: self._measure(sequence, progress))

    def _measure(self, sequence: Sequence, progress: Progress) -> Parts:
        mechanism = Segmented(width=min(self.width, sequence.n), boundaries="sentences")
        refusal = mechanism.refuses(sequence)
        if refusal is not None or sequence.levels is None:
            raise Refused(refusal)
        starts = mechanism.starts(sequence, shifted=False).cpu().numpy()
        if len(starts) < 2:
            raise Refused("The whole text fits into one segment: no cut.")
        head, sample = self.head_in(sequence), sample_queries(sequence, SAMPLE)
        sinks = find_sinks(sequence.select_heads(head), sample)[0]
        rows = CumulatedRows.of(sequence, sample.queries, head, sinks)
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
        table = pd.DataFrame.from_records([{"kind": kind, **_row(rows, cuts, sequence.causal)} for kind, cuts in kinds.items()])
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
                "severed": _severed(rows, max(1, round(mean)))[1:],
                "sentence start": first.numpy()[1:],
                "chosen": np.isin(np.arange(1, sequence.n), starts),
            }
        )
        places.attrs["units"] = {"token": "token", "severed": "share"}
        tables = {"kinds": table, "places": places}
        return Parts(arrays={"starts": starts}, tables=tables, words={"leaks": mechanism.depends_on_future or ""})


def _lost(rows: CumulatedRows, starts: np.ndarray) -> tuple[float, float]:
    """The share of all mass outside the own segment, with sinks and without, where segments begin at `starts`."""
    n = rows.exact.shape[-1]
    ends = torch.from_numpy(np.append(starts, n)).to(rows.queries.device)
    own = torch.searchsorted(ends, rows.queries, right=True) - 1
    kept = rows.between(torch.stack([ends[own], ends[own + 1]], dim=1))[..., 0].sum(1)
    with_sinks, without = (1 - kept / rows.totals()).tolist()
    return with_sinks, without


def _severed(rows: CumulatedRows, reach: int) -> np.ndarray:
    """What a cut before each token severs outside the sinks `[n]`, of the queries in the `reach` tokens behind it."""
    cuts = torch.arange(rows.exact.shape[-1])
    near = (rows.queries[:, None] >= cuts) & (rows.queries[:, None] < cuts + reach)
    severed, mass = (rows.before[1, :, :-1] * near).sum(0), (rows.before[1, :, -1:] * near).sum(0)
    share: np.ndarray = torch.where(mass > 0, severed / torch.where(mass > 0, mass, 1.0), torch.nan).numpy()
    return share


def _row(rows: CumulatedRows, cuts: list[np.ndarray], causal: bool) -> dict[str, float]:
    """One row of the table `kinds`: means over several ways to cut, each given by where its segments begin."""
    n = rows.exact.shape[-1]
    lost = np.array([_lost(rows, starts) for starts in cuts])
    widths = [np.diff(np.append(starts, n)) for starts in cuts]
    # Under a causal mask a segment of w tokens reads w(w + 1)/2 pairs; without one, w².
    read = [float((w * (w + 1) / 2 if causal else w * w).sum()) for w in widths]
    every = n * (n + 1) / 2 if causal else n**2
    low, high = np.quantile(lost, MIDDLE, axis=0)
    return {
        "lost": float(lost[:, 0].mean()),
        "low": float(low[0]),
        "high": float(high[0]),
        "without sinks": float(lost[:, 1].mean()),
        "low without": float(low[1]),
        "high without": float(high[1]),
        "cuts": float(np.mean([len(starts) - 1 for starts in cuts])),
        "length": float(np.mean([n / len(starts) for starts in cuts])),
        "pairs": float(np.mean(read)) / every,
    }
