"""A query's weight over n keys as three shares: the needle's, the sinks', and that of all other keys.

Source: ours. The remedies multiply all scores by one factor: a fixed temperature; ln n over the logarithm of a reference
length (scalable softmax, Nakanishi 2025, arXiv:2501.19399, with its learnt slope replaced by that quotient); and YaRN's
temperature (Peng et al. 2023, arXiv:2309.00071, section 3.4), (0.1·ln(n/n₀) + 1)² from the reference length on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from longattn_core.measures.spread import entropy

__all__ = [
    "RANKS",
    "REMEDIES",
    "UNITS",
    "Remedy",
    "ScoreRows",
    "measured_rows",
    "rank_columns",
    "remedy_factor",
    "table_row",
    "weight_shares",
]

Remedy = Literal["none", "temperature", "log_n", "yarn"]
REMEDIES: tuple[Remedy, ...] = get_args(Remedy)
RANKS = tuple(1 << power for power in range(14))
"""The places in the descending order of weights whose weights are kept: 1, 2, 4 … 8,192."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreRows:
    """The scores (q·k/√d, times the sharpness) of one head's r queries over the n keys of a text, −∞ where the mask hides a key.

    `needle` is the key that the queries should find; None stands for each query's strongest key that is no sink.
    """

    scores: Float[Tensor, "r n"]
    needle: int | None
    sinks: tuple[int, ...] = ()


def remedy_factor(remedy: Remedy, n: int, *, reference: int, temperature: float) -> float:
    """The factor by which a remedy multiplies the scores at length n; at n = `reference` it is 1, but for the fixed temperature.

    Raises: ValueError for a reference below 2, because ln n is divided by its logarithm.
    """
    if reference < 2:
        raise ValueError(f"the reference length must be at least 2, found {reference}")
    if remedy == "temperature":
        return 1 / temperature
    if remedy == "log_n":
        return math.log(max(n, 2)) / math.log(reference)
    if remedy == "yarn":
        return (0.1 * math.log(max(1.0, n / reference)) + 1) ** 2
    return 1.0


def weight_shares(rows: ScoreRows, factor: float = 1.0) -> dict[str, Float[Tensor, "r"]]:
    """The shares of `needle`, `sinks` and `rest` for each query, which sum to 1, in float64; and their logarithms.

    `score needle`, `score sinks`, `score rest` are the logarithms of what each adds to the softmax's denominator. The scores
    are multiplied by `factor`. Cost: r·n.
    """
    scores = rows.scores.double() * factor
    sinks = _sink_mask(rows)
    others = scores.masked_fill(sinks, -math.inf)
    given = torch.full((len(scores), 1), rows.needle or 0)
    needle = others.argmax(-1, keepdim=True) if rows.needle is None else given
    parts = {
        "score needle": others.gather(1, needle).squeeze(-1),
        "score sinks": scores.masked_fill(~sinks, -math.inf).logsumexp(-1),
        "score rest": others.scatter(1, needle, -math.inf).logsumexp(-1),
    }
    denominator = scores.logsumexp(-1)
    return {name.removeprefix("score "): (part - denominator).exp() for name, part in parts.items()} | parts


def measured_rows(rows: ScoreRows) -> dict[str, Float[Tensor, "r"]]:
    """What is measured of each query's row, in float64: its `weight_shares`, and how widely its weight spreads.

    `entropy` in nats and `effective` tokens of the whole row; `effective without sinks` of the row without them, normalised
    again. `bound`: ln of the visible keys. `outranked`: 1 where a key that is no sink scores higher than the needle.
    """
    shares = weight_shares(rows)
    scores = rows.scores.double()
    others = scores.masked_fill(_sink_mask(rows), -math.inf)
    nats = entropy(scores.softmax(-1))
    left = torch.isfinite(others).any(-1)
    spread = torch.where(left, entropy(others.softmax(-1).nan_to_num()).exp(), torch.zeros_like(nats))
    return shares | {
        "entropy": nats,
        "effective": nats.exp(),
        "effective without sinks": spread,
        "bound": torch.isfinite(scores).sum(-1).double().log(),
        "outranked": (others.amax(-1) > shares["score needle"]).double(),
    }


def _sink_mask(rows: ScoreRows) -> Bool[Tensor, "n"]:
    """True for a sink; the needle never counts as one."""
    sinks = torch.zeros(rows.scores.shape[-1], dtype=torch.bool)
    sinks[list(rows.sinks)] = True
    if rows.needle is not None:
        sinks[rows.needle] = False
    return sinks


def table_row(rows: ScoreRows, *, reference: int = 512, temperature: float = 0.67) -> dict[str, Any]:
    """One row of a table over lengths: means over the queries, the shares under each remedy, and the weights at `RANKS`.

    A remedy's shares are the columns `needle:log_n` and so on. The score of an empty part (no sinks, no rest) is NaN.
    """
    n = rows.scores.shape[-1]
    row = {name: _mean(values) for name, values in measured_rows(rows).items()}
    for remedy in REMEDIES[1:]:
        factor = remedy_factor(remedy, n, reference=reference, temperature=temperature)
        shares = weight_shares(rows, factor)
        row |= {f"{part}:{remedy}": _mean(shares[part]) for part in ("needle", "sinks", "rest")}
    descending = rows.scores.double().softmax(-1).sort(-1, descending=True).values.mean(0)
    row |= {name: float(descending[rank - 1]) if rank <= n else math.nan for rank, name in zip(RANKS, rank_columns())}
    return {"n": n, **row}


def rank_columns() -> tuple[str, ...]:
    """The names of the columns that hold the weights at `RANKS`."""
    return tuple(f"rank {rank}" for rank in RANKS)


def _mean(values: Float[Tensor, "r"]) -> float:
    mean = float(values.mean())
    return mean if math.isfinite(mean) else math.nan


UNITS = {
    "n": "tokens",
    "needle": "share of weight",
    "sinks": "share of weight",
    "rest": "share of weight",
    "entropy": "nats",
    "bound": "nats",
    "effective": "tokens",
    "effective without sinks": "tokens",
    "score needle": "nats",
    "score sinks": "nats",
    "score rest": "nats",
    "outranked": "share of queries",
    **{f"{part}:{remedy}": "share of weight" for part in ("needle", "sinks", "rest") for remedy in REMEDIES[1:]},
    **dict.fromkeys(rank_columns(), "share of weight"),
}
