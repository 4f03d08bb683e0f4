"""The running state of causal FAVOR+: what has been written into it after t tokens, and what the query there reads.

Source: Choromanski et al. 2020, arXiv:2009.14794, section 2.5 and appendix B.1 (prefix sums). Computed in float64 and directly
from the features; the mechanism's own pass, which joins chunks, gives the same outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from longattn_core.contracts.indexing import row_chunks
from longattn_core.mechanisms.favor import Favor
from longattn_core.mechanisms.favor.map import FavorMap
from longattn_core.studies.base.head_study import MechanismStudy, Parts
from longattn_core.studies.base.query import query_place
from longattn_core.studies.base.run import MechanismRun
from longattn_core.studies.base.study import Progress, Setting
from longattn_core.studies.favor.sampled import log_rows

Pace = Literal["token", "chunk"]

FRAMES = 16
SHOWN_FEATURES, SHOWN_CHANNELS = 32, 32


def stops_of(n: int, pace: Pace) -> tuple[int, ...]:
    """After how many tokens the state is shown: each of the first 16, or the ends of 16 equal chunks."""
    if pace == "token":
        return tuple(range(1, min(n, FRAMES) + 1))
    return tuple(sorted({max(1, round(n * (step + 1) / FRAMES)) for step in range(FRAMES)}))


class RunningState(MechanismStudy[Favor]):
    """The state S = Σ φ(k_j)·[v_j, 1] after `frame` stops, and the query of its last token reading it.

    Without a mask the state is filled in the same way; the mechanism reads it only when all keys are in, and here the last
    real token reads it at every stop. Arrays: `state [features channels]`, of the features that hold most and the first
    channels, over its largest entry; `features`, their numbers; `share`, each feature's part of the sum of weights,
    falling; `estimate` and `exact` `[n]`, the reader's weights, NaN where a token is not in the state; `stops`; `at`, the
    stop that is shown; `reader`. Table `sums`: at every stop the estimated and the exact sum of weights of the reader
    there, as logarithms, and ln of the state's norm. Cost: one run and one pass over the tokens.
    """

    key: ClassVar[str] = "favor.running_state"
    reads: ClassVar[type[Favor]] = Favor
    setting: Setting = Setting(key="favor")
    pace: Pace = "chunk"
    frame: int = Field(0, ge=0, le=FRAMES - 1)

    def _measure(self, run: MechanismRun, progress: Progress) -> Parts:
        attended, sequence, head = run.attended_as(FavorMap), run.sequence, self.head_in(run.sequence)
        stops = stops_of(sequence.n, self.pace)
        at = stops[min(self.frame, len(stops) - 1)]
        states = _states(attended, head, stops)
        state = states[stops.index(at)].sums
        share, order = _shares(state)
        fullest = order[:SHOWN_FEATURES]
        shown = state[fullest, :-1][:, :SHOWN_CHANNELS]
        reader = at - 1 if sequence.causal else query_place(sequence)
        estimate, exact = _read(attended, head, reader, at)
        arrays = {
            "state": (shown / shown.abs().max().clamp_min(1e-300)).numpy(),
            "features": fullest.numpy(),
            "share": share[order].numpy(),
            "estimate": estimate,
            "exact": exact,
            "stops": np.array(stops),
            "at": np.array(at),
            "reader": np.array(reader),
        }
        return Parts(arrays=arrays, tables={"sums": _sums(attended, head, stops, states)})


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """Σ φ(k_j)·[v_j, 1] over the tokens so far, times e^−scale, so that it neither overflows nor vanishes."""

    sums: Float[Tensor, "c e1"]
    scale: float


def _states(attended: FavorMap, head: int, stops: tuple[int, ...]) -> list[State]:
    """The state at each stop, each from the one before. Cost: one pass over the tokens."""
    sequence, feature_map = attended.sequence, attended.feature_map.to(torch.float64)
    sums = torch.zeros(feature_map.columns, sequence.e + 1, dtype=torch.float64)
    scale, start, states = -math.inf, 0, []
    for stop in stops:
        # Padding writes nothing.
        tokens = torch.arange(start, stop)[sequence.real[start:stop]]
        for chunk in row_chunks(len(tokens), feature_map.columns):
            keys = feature_map.of(sequence.k[head, tokens[chunk]].double(), head=head, keys=True)
            higher = max(scale, float(keys.exponent.max()))
            values = sequence.v[head, tokens[chunk]].double()
            values = torch.cat((values, values.new_ones(len(values), 1)), dim=-1)
            sums = sums * math.exp(scale - higher) + keys.shifted(torch.tensor(-higher, dtype=torch.float64)).mT @ values
            scale = higher
        states.append(State(sums=sums, scale=scale))
        start = stop
    return states


def _shares(state: Float[Tensor, "c e1"]) -> tuple[Float[Tensor, "c"], Tensor]:
    """Each feature's part of what the state holds of weights, in absolute value, and the features from most to least."""
    size = state[:, -1].abs()
    size = size / size.sum().clamp_min(1e-300)
    return size, size.argsort(descending=True, stable=True)


def _read(attended: FavorMap, head: int, reader: int, at: int) -> tuple[np.ndarray, np.ndarray]:
    """The reader's estimated and exact weights over the tokens in the state, each as a share of their sum there."""
    sequence = attended.sequence
    query = torch.tensor([reader])
    log_exact, _kernel, allowed = log_rows(sequence, head, query)
    inside = allowed[0] & (torch.arange(sequence.n) < at)
    weights = []
    for row in (attended.rows(query, heads=head)[0, 0].double(), log_exact[0].exp()):
        part = row.masked_fill(~inside, 0.0)
        total = part.sum()
        part = part / total if float(total) != 0 else part
        weights.append(torch.where(inside, part, torch.nan).numpy())
    return weights[0], weights[1]


def _sums(attended: FavorMap, head: int, stops: tuple[int, ...], states: list[State]) -> pd.DataFrame:
    """The table of sums: under a mask each stop has a reader of its own, without one all share the last real token."""
    sequence = attended.sequence
    causal = sequence.causal
    readers = torch.tensor([stop - 1 for stop in stops] if causal else [query_place(sequence)])
    query = attended.feature_map.to(torch.float64).of(sequence.q[head, readers].double(), head=head, keys=False)
    scale = query.exponent.amax(-1, keepdim=True)
    phi = query.shifted(-scale)
    scores = sequence.q[head, readers].double() @ sequence.k[head].double().mT / math.sqrt(sequence.d)
    rows = []
    for index, (stop, state) in enumerate(zip(stops, states, strict=True)):
        row = index if causal else 0
        inside = sequence.real[:stop]
        weight = float(phi[row] @ state.sums[:, -1])
        exact = float(scores[row, :stop].masked_fill(~inside, -math.inf).logsumexp(-1))
        norm = float(state.sums.norm())
        rows.append(
            {
                "stop": stop,
                "estimated": math.log(abs(weight)) + float(scale[row]) + state.scale if weight else -math.inf,
                "negative": weight < 0,
                "exact": exact,
                "norm": math.log(norm) + state.scale if norm else -math.inf,
            }
        )
    table = pd.DataFrame.from_records(rows)
    table.attrs["units"] = {"stop": "tokens", "estimated": "ln", "exact": "ln", "norm": "ln"}
    return table
