"""One query's look over n keys, cut into three shares: the needle's, the sinks', and everybody else's.

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

__all__ = ["RANKS", "REMEDIES", "UNITS", "Look", "Remedy", "measured", "rank_columns", "remedy_factor", "row_of", "shares"]

Remedy = Literal["none", "temperature", "log_n", "yarn"]
REMEDIES: tuple[Remedy, ...] = get_args(Remedy)
RANKS = tuple(1 << power for power in range(14))
"""The places in the falling order of weights that are kept: 1, 2, 4 … 8,192."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """The scores (q·k/√d, with the sharpness) of some queries over the n keys of a text, −∞ where the mask hides one.

    `needle` is the key that is looked for; None stands for each query's strongest key that is no sink.
    """

    scores: Float[Tensor, "r n"]
    needle: int | None
    sinks: tuple[int, ...] = ()


def remedy_factor(remedy: Remedy, n: int, *, reference: int, temperature: float) -> float:
    """What a remedy multiplies the scores by at length n; 1 for all but the fixed temperature at n = `reference`.

    Raises: ValueError for a reference below 2, whose logarithm is no divisor.
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


def shares(look: Look, factor: float = 1.0) -> dict[str, Float[Tensor, "r"]]:
    """The shares of `needle`, `sinks` and `rest` for each query, which sum to 1, in float64; and their logarithms.

    `score needle`, `score sinks`, `score rest` are the logarithms of what each adds to the softmax's denominator. The scores
    are multiplied by `factor`. Cost: r·n.
    """
    scores = look.scores.double() * factor
    hidden = _hidden(look)
    others = scores.masked_fill(hidden, -math.inf)
    named = torch.full((len(scores), 1), look.needle or 0)
    at = others.argmax(-1, keepdim=True) if look.needle is None else named
    parts = {
        "score needle": others.gather(1, at).squeeze(-1),
        "score sinks": scores.masked_fill(~hidden, -math.inf).logsumexp(-1),
        "score rest": others.scatter(1, at, -math.inf).logsumexp(-1),
    }
    whole = scores.logsumexp(-1)
    return {name.removeprefix("score "): (part - whole).exp() for name, part in parts.items()} | parts


def measured(look: Look) -> dict[str, Float[Tensor, "r"]]:
    """The look's numbers for each query, in float64: its `shares`, and how widely it spreads.

    `entropy` in nats and `effective` tokens of the whole row; `effective without sinks` of what is left without them, made
    shares again. `bound`: ln of the visible keys. `outranked`: 1 where another key but a sink scores higher than the needle.
    """
    found = shares(look)
    scores = look.scores.double()
    others = scores.masked_fill(_hidden(look), -math.inf)
    nats = entropy(scores.softmax(-1))
    left = torch.isfinite(others).any(-1)
    spread = torch.where(left, entropy(others.softmax(-1).nan_to_num()).exp(), torch.zeros_like(nats))
    return found | {
        "entropy": nats,
        "effective": nats.exp(),
        "effective without sinks": spread,
        "bound": torch.isfinite(scores).sum(-1).double().log(),
        "outranked": (others.amax(-1) > found["score needle"]).double(),
    }


def _hidden(look: Look) -> Bool[Tensor, "n"]:
    """True for a sink; a needle is never one."""
    hidden = torch.zeros(look.scores.shape[-1], dtype=torch.bool)
    hidden[list(look.sinks)] = True
    if look.needle is not None:
        hidden[look.needle] = False
    return hidden


def row_of(look: Look, *, reference: int = 512, temperature: float = 0.67) -> dict[str, Any]:
    """The means over a look's queries, the shares under each remedy, and the weights at the places `RANKS`.

    A remedy's shares stand under `needle:log_n` and so on. A logarithm of nothing (no sinks, no rest) is NaN.
    """
    n = look.scores.shape[-1]
    row = {name: _mean(values) for name, values in measured(look).items()}
    for remedy in REMEDIES[1:]:
        factor = remedy_factor(remedy, n, reference=reference, temperature=temperature)
        changed = shares(look, factor)
        row |= {f"{part}:{remedy}": _mean(changed[part]) for part in ("needle", "sinks", "rest")}
    falling = look.scores.double().softmax(-1).sort(-1, descending=True).values.mean(0)
    row |= {name: float(falling[rank - 1]) if rank <= n else math.nan for rank, name in zip(RANKS, rank_columns())}
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
