"""A running state: every token adds φ(k)vᵀ to one matrix, which may fade, and every query reads the matrix.

Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.3 (φ = elu + 1, normalised by the running sum of φ(k));
Sun et al. 2023, RetNet, arXiv:2307.08621, section 2.1 (one decay γ a head); Yang et al. 2023, gated linear attention,
arXiv:2312.06635, section 4 (a decay for each channel that depends on the token; chunks). Our deviations: RetNet and gated
linear attention have learned projections, no φ, and a norm in place of the normaliser. Here φ and the normaliser are kept, so
that the three variants differ in their fading alone and their rows sum to 1; the gates' projection of the key is drawn.
Padding neither writes nor fades.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from longattn_core.contracts.mechanism import Cost, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory.fading_map import FadingMap, FadingTrace
from longattn_core.mechanisms.memory.gates import Fading, feature, log_gates, pair_weights
from longattn_core.mechanisms.memory.states import SNAPSHOTS

CHUNK = 128
"""Tokens of a chunk with one decay a head; also the step in which views walk back."""

CHANNEL_CHUNK = 16
"""Tokens of a chunk with a decay for each channel: the pairs of such a chunk hold d numbers each."""

CHANNEL_BLOCK = 64
"""The step in which views walk back with a decay for each channel: only queries inside a block need its pairs."""


def attend_fading(mechanism: Mechanism, sequence: Sequence, *, fading: Fading, half_life: float, by_head: bool) -> FadingMap:
    """Cost for each token and head: about (2·d + chunk)·(e + 1); memory above the output: one state and one chunk."""
    gates, projection, bias = log_gates(sequence, fading, half_life=half_life, by_head=by_head, seed=mechanism.seed)
    block = CHANNEL_CHUNK if fading == "gated" else CHUNK
    real = sequence.real[:, None]
    parts: list[Tensor] = []
    ends, snapshots = [], []
    state = sequence.q.new_zeros(sequence.h, sequence.d, sequence.e + 1)
    if not sequence.causal:
        for start in range(0, sequence.n, CHUNK):
            tokens = slice(start, start + CHUNK)
            state = state + (feature(sequence.k[:, tokens]) * real[tokens]).mT @ _with_one(sequence.v[:, tokens])
    stride = block * math.ceil(sequence.n / block / SNAPSHOTS)
    for start in range(0, sequence.n, block):
        tokens = slice(start, min(start + block, sequence.n))
        q = feature(sequence.q[:, tokens]) * real[tokens]
        if sequence.causal:
            part, state = _step(state, q, feature(sequence.k[:, tokens]) * real[tokens], sequence.v[:, tokens], gates[:, tokens])
        else:
            part = q @ state
        parts.append(part)
        if (start + block) % stride == 0 or tokens.stop == sequence.n:
            ends.append(tokens.stop - 1)
            snapshots.append(state.detach())
    sums = torch.cat(parts, dim=1)
    normaliser = sums[..., -1]
    output = sums[..., :-1] / torch.where(sequence.real, normaliser, 1.0)[..., None]
    states = torch.stack(snapshots, dim=1)
    trace = FadingTrace(
        log_gates=gates.detach(),
        projection=projection,
        bias=bias,
        normaliser=normaliser.detach(),
        ends=torch.tensor(ends),
        states=states[..., :-1],
        sums=states[..., -1],
    )
    return FadingMap(
        mechanism=mechanism,
        sequence=sequence,
        output=output,
        trace=trace,
        cost=_cost(sequence, block, gates.shape[-1]),
        block=CHANNEL_BLOCK if fading == "gated" else CHUNK,
        fading=fading,
    )


def _step(
    state: Float[Tensor, "h d e1"],
    q: Float[Tensor, "h b d"],
    k: Float[Tensor, "h b d"],
    v: Float[Tensor, "h b e"],
    gates: Float[Tensor, "h b c"],
) -> tuple[Float[Tensor, "h b e1"], Float[Tensor, "h d e1"]]:
    """What the chunk's queries read, the normaliser in the last column, and the state after the chunk."""
    logs, values = gates.cumsum(1), _with_one(v)
    past = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool, device=q.device).tril()
    out = pair_weights(q, k, logs, logs, past) @ values + (q * logs.exp()) @ state
    last = logs[:, -1:]
    return out, last.exp().mT * state + (k * (last - logs).exp()).mT @ values


def _with_one(v: Float[Tensor, "h b e"]) -> Float[Tensor, "h b e1"]:
    """Values with a column of ones, so that one product gives the numerator and the normaliser."""
    return torch.cat((v, torch.ones_like(v[..., :1])), dim=-1)


def _cost(sequence: Sequence, block: int, channels: int) -> Cost:
    h, n, d, e, size = sequence.h, sequence.n, sequence.d, sequence.e, sequence.q.element_size()
    # Each token is written to the state, and each query reads it.
    passes = 2 * n * d * (e + 1)
    if not sequence.causal:
        return Cost(
            multiply_adds=h * passes,
            bytes_moved=size * h * (2 * n * (d + e) + 2 * d * (e + 1)),
            bytes_peak=size * h * (n * (e + 2) + CHUNK * (2 * d + e + 1) + (SNAPSHOTS + 1) * d * (e + 1)),
        )
    full, rest = divmod(n, block)
    pairs, chunks = full * block**2 + rest**2, full + (rest > 0)
    pair = (d if channels == 1 else 2 * d) + e + 2
    gates = n * d * d if channels > 1 else 0
    copies = 3 if channels > 1 else 1
    held = n * (2 * e + 2 + copies * channels) + block**2 * (2 + copies * channels) + (SNAPSHOTS + 2) * d * (e + 1)
    return Cost(
        multiply_adds=h * (passes + pairs * pair + chunks * d * (e + 1) + gates),
        bytes_moved=size * h * (2 * n * (d + e) + n * channels + 2 * pairs + 2 * chunks * d * (e + 1)),
        bytes_peak=size * h * held,
    )
