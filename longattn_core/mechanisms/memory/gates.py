"""Features and gates of a running state: φ, what the state keeps of itself at each token, and the weight of a pair.

Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.3 (φ); Sun et al. 2023, RetNet, arXiv:2307.08621, section 2.1
(one decay γ a head); Yang et al. 2023, gated linear attention, arXiv:2312.06635, section 4 (gates).
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from longattn_core.contracts.sequence import Sequence
from longattn_core.numerics.draws import normal

Fading: TypeAlias = Literal["state", "decay", "gated"]

GATE_TEMPERATURE = 16.0
"""The gates are sigmoids to the power 1/16, which keeps them near 1 (gated linear attention, section 4.4)."""


def feature(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """φ(x) = elu(x) + 1, computed as x + 1 above zero and as eˣ below, where elu(x) + 1 would round to zero.

    It is at least e^−40, far below rounding, so that a normaliser is never zero.
    """
    return torch.where(x > 0, x + 1, x.clamp(-40, 0).exp())


def gate_bias(half_life: float) -> float:
    """The b with which sigmoid(b)^(1/16) halves the state every `half_life` tokens."""
    log_open = -GATE_TEMPERATURE * math.log(2) / half_life
    return log_open - math.log(-math.expm1(log_open))


def log_gates(
    sequence: Sequence, fading: Fading, *, half_life: float, by_head: bool, seed: int
) -> tuple[Float[Tensor, "h n c"], Float[Tensor, "d d"] | None, float | None]:
    """The logarithm of the share of itself that the state keeps at each token; for gates, their projection and bias.

    Shapes: `[h n 1]` for one decay a head, `[h n d]` for gates; 0 for padding, at which nothing fades.
    """
    like, real = sequence.q, sequence.real[:, None].to(sequence.q.dtype)
    if fading == "gated":
        projection = normal(seed, "gates", sequence.d, sequence.d, like=like) / math.sqrt(sequence.d)
        bias = gate_bias(half_life)
        return logsigmoid(sequence.k @ projection.mT + bias) / GATE_TEMPERATURE * real, projection, bias
    if fading == "state":
        rates = torch.zeros(sequence.h, dtype=torch.float64)
    elif by_head:
        rates = torch.log1p(-(2.0 ** (-5 - torch.tensor(sequence.head_numbers, dtype=torch.float64))))
    else:
        rates = torch.full((sequence.h,), -math.log(2) / half_life, dtype=torch.float64)
    return rates.to(like)[:, None, None] * real, None, None


def pair_weights(
    q: Float[Tensor, "g r d"],
    k: Float[Tensor, "g b d"],
    query_logs: Float[Tensor, "g r c"],
    key_logs: Float[Tensor, "g b c"],
    past: Bool[Tensor, "r b"],
) -> Float[Tensor, "g r b"]:
    """Σ q·k·e^(query_logs − key_logs) over channels, zero where the key is not past.

    `query_logs` and `key_logs` are the sums of the gates' logarithms up to the query and up to the key. The difference is taken
    before the exponential, so that no factor overflows however fast the state fades.
    """
    faded = (query_logs[:, :, None] - key_logs[:, None]).masked_fill(~past[..., None], -math.inf).exp()
    if faded.shape[-1] == 1:
        return (q @ k.mT) * faded[..., 0]
    return (q[:, :, None] * k[:, None] * faded).sum(-1)
