"""A running state: every token adds φ(k)vᵀ to one matrix, which may fade, and every query reads the matrix.

Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.3 (φ = elu + 1, normalised by the running sum of φ(k));
Sun et al. 2023, RetNet, arXiv:2307.08621, section 2.1 (one decay γ a head); Yang et al. 2023, gated linear attention,
arXiv:2312.06635, section 4 (a decay a channel that depends on the token, chunks). Our deviations: RetNet and gated
linear attention have learned projections, no φ and a norm in place of the normaliser; here φ and the normaliser are
kept, so that the three differ by their fading alone and their rows are shares; the gates' projection of the key is
drawn. φ is not less than e^−40, far below rounding, so that the normaliser is never zero. Padding neither writes nor
fades.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from longattn_core.contracts.mechanism import Cost, Explanation, Mechanism
from longattn_core.contracts.sequence import Sequence
from longattn_core.mechanisms.memory.reasons import MemoryReason
from longattn_core.mechanisms.memory.states import SNAPSHOTS, Block, StateMap
from longattn_core.numerics.draws import normal

Fading: TypeAlias = Literal["state", "decay", "gated"]

CHUNK = 128
CHANNEL_CHUNK = 16
"""With a decay a channel, the pairs of a chunk hold d numbers each, so chunks are short."""

CHANNEL_BLOCK = 64
"""Views walk back in longer steps: only queries that stand in a block need its pairs."""

STEADY = 40.0
"""The largest sum of logarithms of gates over a block that single precision holds when it is split in two."""

GATE_TEMPERATURE = 16.0
"""The gates are sigmoids to the power 1/16, which keeps them near 1 (gated linear attention, section 4.4)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FadingTrace:
    """The draw and what the state went through.

    `log_gates [h n c]` is the logarithm of what the state keeps when a token is written: one number (c = 1) or one a
    channel (c = d). `projection [d d]` and `bias` make the gates from the keys (None where nothing is drawn).
    `normaliser [h n]` is what each query's weights are divided by; `states [h p d e]` and `sums [h p d]` are the state
    after token `ends[p]` (the one state of all tokens where there is no mask).
    """

    log_gates: Float[Tensor, "h n c"]
    projection: Float[Tensor, "d d"] | None
    bias: float | None
    normaliser: Float[Tensor, "h n"]
    ends: Int[Tensor, "p"]
    states: Float[Tensor, "h p d e"]
    sums: Float[Tensor, "h p d"]


def feature(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """φ(x) = elu(x) + 1: x + 1 above zero, eˣ below, which does not round to zero as elu(x) + 1 would."""
    return torch.where(x > 0, x + 1, x.clamp(-40, 0).exp())


def gate_bias(half_life: float) -> float:
    """The b at which sigmoid(b)^(1/16) halves the state every `half_life` tokens."""
    log_open = -GATE_TEMPERATURE * math.log(2) / half_life
    return log_open - math.log(-math.expm1(log_open))


def log_gates(
    sequence: Sequence, fading: Fading, *, half_life: float, by_head: bool, seed: int
) -> tuple[Float[Tensor, "h n c"], Float[Tensor, "d d"] | None, float | None]:
    """The logarithms of what each token lets the state keep, with the projection and bias that made them."""
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
    asked: Float[Tensor, "g r c"],
    written: Float[Tensor, "g b c"],
    past: Bool[Tensor, "r b"],
) -> Float[Tensor, "g r b"]:
    """Σ q·k·e^(asked − written) over channels, zero where the key is not past.

    `asked` and `written` are sums of the logarithms of gates up to query and key; the difference is taken before the
    exponential, so that no factor grows however fast the state fades.
    """
    faded = (asked[:, :, None] - written[:, None]).masked_fill(~past[..., None], -math.inf).exp()
    if faded.shape[-1] == 1:
        return (q @ k.mT) * faded[..., 0]
    return (q[:, :, None] * k[:, None] * faded).sum(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class FadingMap(StateMap):
    """φ(q)·φ(k), times what the state has kept since, over the query's normaliser."""

    fading: Fading

    def _reading(self, queries: Int[Tensor, "r"], heads: Int[Tensor, "g"]) -> Float[Tensor, "g r d"]:
        # A padded query's normaliser may be zero; its reading is zero whatever that is.
        scale: Tensor = self.trace.normaliser[heads[:, None], queries]
        scale = scale.masked_fill(~self.sequence.real[queries], math.inf)
        return feature(self.sequence.q[heads[:, None], queries]) / scale[..., None]

    def _writes(self, block: Block, heads: Int[Tensor, "g"]) -> tuple[Float[Tensor, "g b d"], Float[Tensor, "g b c"]]:
        """φ of the block's keys, zero for padding, and the sums of its gates' logarithms."""
        tokens = slice(block.start, block.stop)
        keys = feature(self.sequence.k[heads, tokens]) * self.sequence.real[tokens, None]
        return keys, self.trace.log_gates[heads, tokens].cumsum(1)

    def _inside(
        self, reading: Float[Tensor, "g r d"], queries: Int[Tensor, "r"], block: Block, heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r b"], Float[Tensor, "g r d"]]:
        keys, written = self._writes(block, heads)
        past = torch.arange(block.start, block.stop, device=queries.device) <= queries[:, None]
        asked = written[:, queries - block.start]
        left = reading * asked.exp()
        fades = written.amax(1, keepdim=True) - written.amin(1, keepdim=True)
        if written.shape[-1] > 1 and float(fades.max()) < STEADY:
            # A state that fades little over a block needs no pairs: either side takes its part of the exponent.
            middle = written.amin(1, keepdim=True) + fades / 2
            products = (reading * (asked - middle).exp()) @ (keys * (middle - written).exp()).mT
            return products.masked_fill(~past, 0.0), left
        return pair_weights(reading, keys, asked, written, past), left

    def _through(
        self, reading: Float[Tensor, "g r d"], block: Block, heads: Int[Tensor, "g"]
    ) -> tuple[Float[Tensor, "g r b"], Float[Tensor, "g r d"]]:
        keys, written = self._writes(block, heads)
        last = written[:, -1:]
        return reading @ (keys * (last - written).exp()).mT, reading * last.exp()

    def survival(self, lags: Int[Tensor, "k"], samples: int = 128) -> Float[Tensor, "h k"]:
        """What is left of a write after so many more tokens, read with the very key it was written under.

        The mean over at most `samples` evenly spread real tokens that have as many after them; not a number
        where no token has. Cost: samples·d a head and lag, after one pass over the gates.
        """
        sequence = self.sequence
        total = self.trace.log_gates.double().cumsum(1)
        out = total.new_full((sequence.h, len(lags)), math.nan)
        for place, lag in enumerate(lags.tolist()):
            written = sequence.real[: max(sequence.n - lag, 0)].nonzero().squeeze(-1)
            written = written[:: math.ceil(len(written) / samples) or 1]
            if len(written):
                squares = feature(sequence.k[:, written]).double().square()
                kept = (total[:, written + lag] - total[:, written]).exp()
                out[:, place] = ((squares * kept).sum(-1) / squares.sum(-1)).mean(1)
        survived: Tensor = out.to(self.output.dtype)
        return survived

    def _explained(self, head: int, query: int, key: int, kept: bool, exact: float, weight: float) -> Explanation:
        sequence, trace = self.sequence, self.trace
        pair = (feature(sequence.q[head, query]) * feature(sequence.k[head, key])).double()
        similarity, normaliser = float(pair.sum()), float(trace.normaliser[head, query])
        count = 1.0
        if sequence.causal:
            log_kept = trace.log_gates[head, key + 1 : query + 1].double().sum(0)
            count = float((pair * log_kept.exp()).sum()) / similarity
        facts = {
            "lag": query - key,
            "similarity": similarity,
            "kept": count,
            "normaliser": normaliser,
            "visible": int(sequence.allowed(query).sum()),
        }
        answer = f"gives it {weight:.3g} where exact attention gives {exact:.3g}"
        if self.fading == "state" or query == key:
            reason = MemoryReason.KEPT
            text = (
                f"The state still holds this key whole and finds it by φ(q)·φ(k) = {similarity:.3g} of "
                f"{normaliser:.3g} in all, which {answer}."
            )
        else:
            reason = MemoryReason.FADED
            text = (
                f"The state was written {query - key} tokens ago and has kept {count:.3g} of it; "
                f"times φ(q)·φ(k) = {similarity:.3g}, of {normaliser:.3g} in all, this {answer}."
            )
        return Explanation(kept=kept, exact=exact, weight=weight, reason=reason, facts=facts, text=text)


def attend_fading(mechanism: Mechanism, sequence: Sequence, *, fading: Fading, half_life: float, by_head: bool) -> FadingMap:
    """Cost: about (2·d + chunk)·(e + 1) a token and head; memory one state and one chunk above the output."""
    gates, projection, bias = log_gates(sequence, fading, half_life=half_life, by_head=by_head, seed=mechanism.seed)
    block = CHANNEL_CHUNK if fading == "gated" else CHUNK
    real = sequence.real[:, None]
    summed: list[Tensor] = []
    ends, kept = [], []
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
        summed.append(part)
        if (start + block) % stride == 0 or tokens.stop == sequence.n:
            ends.append(tokens.stop - 1)
            kept.append(state.detach())
    both = torch.cat(summed, dim=1)
    normaliser = both[..., -1]
    output = both[..., :-1] / torch.where(sequence.real, normaliser, 1.0)[..., None]
    states = torch.stack(kept, dim=1)
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
    """What the chunk's queries read, values first and normaliser last, and the state after the chunk."""
    fades, values = gates.cumsum(1), _with_one(v)
    past = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool, device=q.device).tril()
    out = pair_weights(q, k, fades, fades, past) @ values + (q * fades.exp()) @ state
    last = fades[:, -1:]
    return out, last.exp().mT * state + (k * (last - fades).exp()).mT @ values


def _with_one(v: Float[Tensor, "h b e"]) -> Float[Tensor, "h b e1"]:
    """Values with a column of ones, so that one product gives the numerator and the normaliser."""
    return torch.cat((v, torch.ones_like(v[..., :1])), dim=-1)


def _cost(sequence: Sequence, block: int, channels: int) -> Cost:
    h, n, d, e, size = sequence.h, sequence.n, sequence.d, sequence.e, sequence.q.element_size()
    passes = 2 * n * d * (e + 1)  # each token is written to the state and read from it
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
    return Cost(
        multiply_adds=h * (passes + pairs * pair + chunks * d * (e + 1) + gates),
        bytes_moved=size * h * (2 * n * (d + e) + n * channels + 2 * pairs + 2 * chunks * d * (e + 1)),
        bytes_peak=size
        * h
        * (
            n * (2 * e + 2 + (3 * channels if channels > 1 else 1))
            + block**2 * (2 + channels * (3 if channels > 1 else 1))
            + (SNAPSHOTS + 2) * d * (e + 1)
        ),
    )
